//! A `tokio` service that does to its spans whatever a service does, and knows at every instruction which one is active.
//!
//! Tasks hop threads under nested spans, of OpenTelemetry and of `tracing`; the losers of a `select!` are dropped, timeouts
//! cancel, tasks are aborted, work is handed to `spawn_blocking`, futures panic and are caught by their parents or
//! not at all. Whatever becomes of a span, none may stay behind on the thread.
//!
//! A sample is judged by the function nearest to its leaf among these:
//! * `poll_under_span_NN`, `drop_under_span_NN`, `block_under_span_NN`: the span must be of kind NN, which its id's first
//!   byte says less one;
//! * `poll_span_NN`, `block_span_NN`, `drop_span`: the span changes;
//! * `work_without_span`: there must be none.
//!
//! `--directory PATH` has the process profile itself into files there, every second, `--hertz N` times a second.
//! With `--samples-per-second N` every thread is sampled so often, beside what the timers do, which no kernel lets fire often.
//! `--signals-per-second N` has every thread judge itself so often in a signal handler, also to the id's last bit.

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde_json::json;
use spanprof_tests::clock;
use spanprof_tests::truth_program::{TruthProgram, is_stopped};
use tokio::sync::Mutex;
use tracing_subscriber::layer::SubscriberExt;

#[path = "truth_async/expected.rs"]
mod expected;
#[path = "truth_async/kinds.rs"]
mod kinds;

use expected::{Ask, Expecting, NONE};
use kinds::{Current, KINDS, under_span};

static CANCELLED: AtomicU64 = AtomicU64::new(0);
static ABORTED: AtomicU64 = AtomicU64::new(0);
static PANICS: AtomicU64 = AtomicU64::new(0);
static BLOCKING: AtomicU64 = AtomicU64::new(0);
static HOPS: AtomicU64 = AtomicU64::new(0);

const BLOCK: Duration = Duration::from_micros(60);

fn count(which: &AtomicU64) {
    which.fetch_add(1, Ordering::Relaxed);
}

#[inline(never)]
fn spin(rounds: u64) -> u64 {
    clock::turn(black_box(rounds))
}

fn blocking_work(seed: u64) -> u64 {
    let result = spin(100_000 + seed);
    std::thread::sleep(BLOCK);
    result ^ spin(50_000 + seed)
}

#[inline(never)]
fn work_without_span() -> u64 {
    let _expecting = Expecting::new(NONE);
    let result = spin(60_000);
    std::thread::sleep(BLOCK);
    black_box(result)
}

/// Works when it is dropped, which is where a cancelled future's time goes.
struct WorksWhenDropped;

impl Drop for WorksWhenDropped {
    fn drop(&mut self) {
        black_box(spin(20_000));
    }
}

/// Never done; dropping it is all that can happen.
async fn wait_for_ever(seed: u64) -> u64 {
    let _works = WorksWhenDropped;
    loop {
        black_box(spin(10_000 + seed));
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

/// Works, waits, works, and counts if a thread other than the first goes on with it.
async fn quick(seed: u64) -> u64 {
    let thread = std::thread::current().id();
    let result = spin(60_000 + seed);
    tokio::task::yield_now().await;
    std::thread::sleep(BLOCK);
    tokio::time::sleep(Duration::from_millis(1)).await;
    if std::thread::current().id() != thread {
        count(&HOPS);
    }
    result ^ spin(60_000 + seed)
}

async fn panicking(seed: u64) -> u64 {
    let result = quick(seed).await;
    let _works = WorksWhenDropped;
    panic!("as planned: {result}");
}

/// What a future gave, or nothing if it panicked.
async fn catch(mut future: Pin<Box<dyn Future<Output = u64> + Send>>) -> Option<u64> {
    std::future::poll_fn(move |task| {
        let polled = std::panic::AssertUnwindSafe(|| future.as_mut().poll(task));
        match std::panic::catch_unwind(polled) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(result)) => Poll::Ready(Some(result)),
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}

/// Handles a message under `current`, in the way that `step` chooses.
async fn handle(current: Current, step: usize, depth: usize, lock: Arc<Mutex<u64>>) -> u64 {
    let mut result = spin(80_000);
    tokio::task::yield_now().await;
    let other = step * 7 + depth + 1;
    match step % 9 {
        0 | 1 if depth > 0 => {
            let lock = Arc::clone(&lock);
            let inner = under_span(other, move |current| boxed(current, step / 2, depth - 1, lock));
            result ^= inner.await;
        }
        2 => {
            tokio::select! {
                won = under_span(other, |_| quick(1)) => result ^= won,
                _ = under_span(other + 1, |_| wait_for_ever(2)) => {}
            }
            count(&CANCELLED);
        }
        3 => {
            let wait = under_span(other, |_| wait_for_ever(3));
            if tokio::time::timeout(Duration::from_micros(700), wait).await.is_err() {
                count(&CANCELLED);
            }
        }
        4 => {
            let context = Context::current();
            let blocking = tokio::task::spawn_blocking(move || current.block(context, blocking_work));
            result ^= blocking.await.expect("it doesn't panic");
            count(&BLOCKING);
        }
        5 => {
            let caught = catch(Box::pin(under_span(other, |_| panicking(5)))).await;
            assert!(caught.is_none());
            count(&PANICS);
        }
        6 => {
            let task = tokio::spawn(under_span(other, |_| panicking(6)));
            assert!(task.await.is_err_and(|error| error.is_panic()));
            count(&PANICS);
        }
        7 => {
            let task = tokio::spawn(under_span(other, |_| wait_for_ever(7)));
            result ^= under_span(other + 1, |_| quick(7)).await;
            task.abort();
            assert!(task.await.is_err_and(|error| error.is_cancelled()));
            count(&ABORTED);
        }
        _ => {
            let (left, right) =
                tokio::join!(under_span(other, |_| quick(8)), under_span(other + 2, |_| quick(9)));
            result ^= left ^ right;
        }
    }
    {
        let mut shared = lock.lock().await;
        *shared = shared.wrapping_add(result);
        if step.is_multiple_of(5) {
            std::thread::sleep(BLOCK);
        }
    }
    result ^ spin(80_000)
}

fn boxed(
    current: Current,
    step: usize,
    depth: usize,
    lock: Arc<Mutex<u64>>,
) -> Pin<Box<dyn Future<Output = u64> + Send>> {
    Box::pin(handle(current, step, depth, lock))
}

async fn task_root(number: usize, lock: Arc<Mutex<u64>>) {
    for step in number.. {
        if is_stopped() {
            return;
        }
        let lock = Arc::clone(&lock);
        black_box(under_span(step, move |current| handle(current, step, step % 3, lock)).await);
        black_box(work_without_span());
        tokio::task::yield_now().await;
    }
}

fn start_agent(program: &TruthProgram) -> spanprof::Agent {
    let builder = spanprof::Agent::builder().service_name("truth_async");
    let builder = match program.arguments().text("directory") {
        None => builder,
        Some(directory) => builder
            .directory(directory)
            .frequency(program.arguments().number("hertz", 999) as u32)
            .window(Duration::from_secs(1)),
    };
    builder.start().expect("nothing wrong was set")
}

fn main() {
    let program = TruthProgram::begin();
    let tasks = program.arguments().number("tasks", 16) as usize;
    let signals = program.arguments().number("signals-per-second", 0);
    let samples = program.arguments().number("samples-per-second", 0);
    // Panics are planned here, thousands of them.
    std::panic::set_hook(Box::new(|information| {
        let message = information.payload().downcast_ref::<String>();
        if !message.is_some_and(|message| message.starts_with("as planned")) {
            eprintln!("{information}");
        }
    }));
    let agent = start_agent(&program);
    let provider = SdkTracerProvider::builder().with_id_generator(kinds::ChosenIds).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("truth_async"));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))
        .expect("the first one");
    expected::install();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .max_blocking_threads(3)
        .enable_time()
        .on_thread_start(expected::join)
        .on_thread_stop(expected::leave)
        .build()
        .expect("a runtime");
    program.ready();

    let lock = Arc::new(Mutex::new(0));
    let tasks: Vec<_> =
        (0..tasks).map(|number| runtime.spawn(task_root(number, Arc::clone(&lock)))).collect();
    let ask = |how, rate: u64| {
        let ask = move || expected::ask_all(how, 1_000_000_000 / rate, is_stopped);
        let thread = std::thread::Builder::new().name("truth-asks".to_owned());
        (rate > 0).then(|| thread.spawn(ask).expect("a thread"))
    };
    let asking = [ask(Ask::Own, signals), ask(Ask::SelfProfile, samples)];
    program.wait_for_end();
    let failed =
        tasks.into_iter().filter_map(|task| runtime.block_on(task).err()).map(|error| error.to_string());
    let failed: Vec<String> = failed.collect();
    let asked = asking.map(|asking| asking.map(|asking| asking.join().expect("it only sends signals")));
    let notes = agent.notes().to_vec();
    drop(agent);
    let load = |which: &AtomicU64| which.load(Ordering::Relaxed);
    program.tell(&json!({
        "program": "truth_async",
        "pid": std::process::id(),
        "notes": notes,
        "failed": failed,
        "kinds": KINDS,
        "spans": load(&kinds::SPANS),
        "cancelled": load(&CANCELLED),
        "aborted": load(&ABORTED),
        "panics": load(&PANICS),
        "blocking": load(&BLOCKING),
        "thread_hops": load(&HOPS),
        "asked": asked,
        "judged_by_signal": expected::tell(),
    }));
}
