//! Spans whose call path names them, in threads and in tasks that hop threads, so that every sample's tag can
//! be checked against its own stack.
//!
//! A sample is judged by the function nearest to its leaf among these:
//! * `work_under_span_NN` (threads) and `poll_under_span_NN` (tasks): entered after a span of kind NN was
//!   published and left before it was taken back, so the sample must carry a span id whose first byte is NN + 1;
//! * `enter_span_NN`, `poll_span_NN`: the change itself, where the sample may carry kind NN or what was there before;
//! * `work_without_span`: the sample must carry no span.
//!
//! Spans nest, are new at every entry in threads, and live over many polls in tasks. The work is short spins and
//! short sleeps, so that a second gives thousands of samples on and off CPU.

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use serde_json::json;
use spanprof_context::{SpanContext, thread};
use spanprof_tests::clock;
use spanprof_tests::truth_program::{TruthProgram, is_stopped};

#[path = "span_writers/ours.rs"]
mod ours;

static SPANS: AtomicU64 = AtomicU64::new(0);
static POLLS: AtomicU64 = AtomicU64::new(0);
static TASK_SPANS: AtomicU64 = AtomicU64::new(0);
static THREAD_HOPS: AtomicU64 = AtomicU64::new(0);

const BLOCK: Duration = Duration::from_micros(60);

type Message = Pin<Box<dyn Future<Output = u64> + Send>>;

fn new_span(kind: u8) -> SpanContext {
    ours::span(kind, SPANS.fetch_add(1, Ordering::Relaxed) + 1)
}

/// The functions of each kind. Every body holds its kind as a value that the compiler can't see through, as
/// equal bodies would be merged into one function.
macro_rules! kinds {
    ($($kind:literal $enter:ident $work:ident $poll:ident $poll_under:ident;)*) => {
        const ENTER: &[fn(u32) -> u64] = &[$($enter),*];
        const POLL: &[fn(&SpanContext, &mut Message, &mut Context<'_>) -> Poll<u64>] = &[$($poll),*];
        $(
            #[inline(never)]
            fn $enter(nested: u32) -> u64 {
                let guard = thread::enter(&new_span(black_box($kind)));
                let result = black_box($work(nested));
                drop(guard);
                result
            }

            #[inline(never)]
            fn $work(nested: u32) -> u64 {
                let mut result = clock::turn(black_box(12_000 + $kind));
                if nested > 0 {
                    result ^= black_box(enter_inner($kind, nested - 1));
                }
                std::thread::sleep(BLOCK);
                black_box(result ^ clock::turn(black_box(12_000 + $kind)))
            }

            #[inline(never)]
            fn $poll(span: &SpanContext, message: &mut Message, context: &mut Context<'_>) -> Poll<u64> {
                thread::set(span);
                let result = black_box($poll_under(message, context));
                thread::clear();
                result
            }

            #[inline(never)]
            fn $poll_under(message: &mut Message, context: &mut Context<'_>) -> Poll<u64> {
                let kind: u64 = black_box($kind);
                black_box(message.as_mut().poll(context)).map(|result| black_box(result ^ kind))
            }
        )*
    };
}

kinds! {
    0 enter_span_00 work_under_span_00 poll_span_00 poll_under_span_00;
    1 enter_span_01 work_under_span_01 poll_span_01 poll_under_span_01;
    2 enter_span_02 work_under_span_02 poll_span_02 poll_under_span_02;
    3 enter_span_03 work_under_span_03 poll_span_03 poll_under_span_03;
    4 enter_span_04 work_under_span_04 poll_span_04 poll_under_span_04;
    5 enter_span_05 work_under_span_05 poll_span_05 poll_under_span_05;
    6 enter_span_06 work_under_span_06 poll_span_06 poll_under_span_06;
    7 enter_span_07 work_under_span_07 poll_span_07 poll_under_span_07;
    8 enter_span_08 work_under_span_08 poll_span_08 poll_under_span_08;
    9 enter_span_09 work_under_span_09 poll_span_09 poll_under_span_09;
    10 enter_span_10 work_under_span_10 poll_span_10 poll_under_span_10;
    11 enter_span_11 work_under_span_11 poll_span_11 poll_under_span_11;
}

/// Enters a span of another kind inside one of `kind`.
fn enter_inner(kind: usize, nested: u32) -> u64 {
    ENTER[(kind * 5 + 7) % ENTER.len()](nested)
}

#[inline(never)]
fn work_without_span() -> u64 {
    let result = clock::turn(black_box(12_000));
    std::thread::sleep(BLOCK);
    black_box(result)
}

#[inline(never)]
fn thread_root(number: usize) {
    for step in number.. {
        if is_stopped() {
            return;
        }
        black_box(ENTER[step % ENTER.len()](step as u32 % 3));
        black_box(work_without_span());
    }
}

/// A message's future, under a span that is published while it is polled.
struct Tagged {
    kind: usize,
    span: SpanContext,
    message: Message,
    last_thread: Option<std::thread::ThreadId>,
}

impl Tagged {
    fn new(kind: usize) -> Self {
        TASK_SPANS.fetch_add(1, Ordering::Relaxed);
        let message = Box::pin(handle_message(kind as u64));
        Self { kind, span: new_span(kind as u8), message, last_thread: None }
    }
}

impl Future for Tagged {
    type Output = u64;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<u64> {
        let this = &mut *self;
        POLLS.fetch_add(1, Ordering::Relaxed);
        let here = std::thread::current().id();
        if this.last_thread.replace(here).is_some_and(|before| before != here) {
            THREAD_HOPS.fetch_add(1, Ordering::Relaxed);
        }
        POLL[this.kind](&this.span, &mut this.message, context)
    }
}

async fn handle_message(kind: u64) -> u64 {
    let mut result = clock::turn(black_box(8_000 + kind));
    tokio::task::yield_now().await;
    result ^= clock::turn(black_box(8_000 + kind));
    tokio::time::sleep(Duration::from_millis(1)).await;
    std::thread::sleep(BLOCK);
    tokio::task::yield_now().await;
    result ^ clock::turn(black_box(8_000 + kind))
}

async fn task_root(number: usize) {
    for step in number.. {
        if is_stopped() {
            return;
        }
        black_box(Tagged::new(step % POLL.len()).await);
        black_box(work_without_span());
        tokio::task::yield_now().await;
    }
}

fn main() {
    let program = TruthProgram::begin();
    let threads = program.arguments().number("threads", 2) as usize;
    let tasks = program.arguments().number("tasks", 8) as usize;
    ours::publish_process("truth_tags");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("tag-worker")
        .enable_time()
        .build()
        .expect("a runtime");
    program.ready();

    let threads: Vec<_> = (0..threads)
        .map(|number| {
            let thread = std::thread::Builder::new().name(format!("tag-thread-{number}"));
            thread.spawn(move || thread_root(number)).expect("a thread")
        })
        .collect();
    let tasks: Vec<_> = (0..tasks).map(|number| runtime.spawn(task_root(number))).collect();
    program.wait_for_end();
    for thread in threads {
        thread.join().expect("no thread panics");
    }
    for task in tasks {
        runtime.block_on(task).expect("no task panics");
    }
    program.tell(&json!({
        "program": "truth_tags",
        "pid": std::process::id(),
        "kinds": ENTER.len(),
        "tagged": ["work_under_span_NN", "poll_under_span_NN"],
        "changing": ["enter_span_NN", "poll_span_NN"],
        "untagged": ["work_without_span"],
        "spans": SPANS.load(Ordering::Relaxed),
        "task_spans": TASK_SPANS.load(Ordering::Relaxed),
        "task_polls": POLLS.load(Ordering::Relaxed),
        "task_thread_hops": THREAD_HOPS.load(Ordering::Relaxed),
    }));
}
