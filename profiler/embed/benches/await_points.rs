//! What watching adds to a suspension: nanoseconds over the bare future.
//!
//!     cargo bench -p spanprof --no-default-features --features await-points --bench await_points
//!
//! Everything a suspension has is in: Pending with a kept waker, the wake-up, the next poll, and somebody who drains
//! ten times a second. Each turn measures bare and watched one after the other; figures are medians over the turns of
//! a best-of-loops. Chain ids can't be taken out, so the last column says what a chain's length adds.

use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use spanprof::await_points::{WatchExt, drain, lost, set_recording};
use tokio::sync::mpsc;

const TURNS: usize = 21;
/// Short loops and many: on a busy machine some run undisturbed.
const LOOPS: usize = 60;
const ROUNDS: u32 = 5_000;

/// Never ready; keeps a waker at each poll and wakes by it.
fn suspends() -> impl Future<Output = ()> {
    let mut kept: Option<Waker> = None;
    poll_fn(move |context| {
        let waker = kept.insert(context.waker().clone());
        black_box(&*waker).wake_by_ref();
        Poll::Pending
    })
}

/// The same, below a number of boxed async functions.
fn below(depth: usize) -> Pin<Box<dyn Future<Output = ()>>> {
    async fn inner(depth: usize) {
        below(depth - 1).await;
        black_box(depth);
    }
    if depth == 0 { Box::pin(suspends()) } else { Box::pin(inner(depth)) }
}

/// The same, in a span of its own at each poll: a thread's table is soon full of them.
fn in_spans_of_its_own() -> impl Future<Output = ()> {
    let (mut inner, mut number) = (Box::pin(suspends()), 0_u64);
    poll_fn(move |context| {
        number += 1;
        let _span = spanprof::enter([3; 16], number.to_ne_bytes());
        inner.as_mut().poll(context)
    })
}

/// What a suspension adds where a thousand tasks take turns and other work displaces their memory meanwhile: all are woken,
/// then all polled.
fn in_turn<F: Future<Output = ()>>(make: impl Fn(Arc<Mutex<Option<Waker>>>) -> F) -> f64 {
    const TASKS: usize = 1_000;
    let kept: Vec<_> = (0..TASKS).map(|_| Arc::new(Mutex::new(None))).collect();
    let mut tasks: Vec<_> = kept.iter().map(|kept| Box::pin(make(kept.clone()))).collect();
    let mut others = OTHERS.lock().expect("no panic");
    let mut at = 0;
    let mut displace = || {
        for _ in 0..64 {
            at = (at + 64) % others.len();
            others[at] = others[at].wrapping_add(1);
        }
    };
    let waker = tokio_like_waker();
    let mut context = Context::from_waker(&waker);
    let mut best = f64::MAX;
    for _ in 0..LOOPS {
        let start = Instant::now();
        for kept in &kept {
            displace();
            if let Some(waker) = kept.lock().expect("no panic").take() {
                waker.wake();
            }
        }
        for task in &mut tasks {
            displace();
            assert!(task.as_mut().poll(&mut context).is_pending());
        }
        best = best.min(start.elapsed().as_nanos() as f64 / TASKS as f64);
    }
    best
}

/// What displaces the tasks' memory: more than a processor's second cache holds.
static OTHERS: Mutex<[u8; 4 << 20]> = Mutex::new([0; 4 << 20]);

/// Leaves its waker where others find it.
fn leaves_waker(kept: Arc<Mutex<Option<Waker>>>) -> impl Future<Output = ()> {
    poll_fn(move |context| {
        *kept.lock().expect("no panic") = Some(context.waker().clone());
        Poll::Pending
    })
}

/// Branches that all keep a waker at each poll; the last one wakes.
fn branches(number: usize) -> impl Future<Output = ()> {
    let mut kept: Vec<Option<Waker>> = vec![None; number];
    poll_fn(move |context| {
        for branch in &mut kept {
            *branch = Some(black_box(context.waker()).clone());
        }
        black_box(kept[number - 1].as_ref()).map(Waker::wake_by_ref);
        Poll::Pending
    })
}

fn per_poll(future: impl Future<Output = ()>) -> f64 {
    let mut future = Box::pin(future);
    let waker = tokio_like_waker();
    let mut context = Context::from_waker(&waker);
    let mut best = f64::MAX;
    for _ in 0..LOOPS {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            assert!(black_box(future.as_mut()).poll(&mut context).is_pending());
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
    }
    best
}

/// A waker as runtimes have: counted, and not the no-op one, which a compiler sees through.
fn tokio_like_waker() -> Waker {
    struct Flag(AtomicBool);
    impl std::task::Wake for Flag {
        fn wake(self: std::sync::Arc<Self>) {
            self.wake_by_ref();
        }

        fn wake_by_ref(self: &std::sync::Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    Waker::from(std::sync::Arc::new(Flag(AtomicBool::new(false))))
}

/// A message to another task of a single-threaded runtime and its answer: two suspensions, halved.
fn round_trip(is_watched: bool) -> f64 {
    async fn answer(mut questions: mpsc::Receiver<u32>, answers: mpsc::Sender<u32>) {
        while let Some(question) = questions.recv().await {
            if answers.send(question).await.is_err() {
                return;
            }
        }
    }
    async fn ask(questions: mpsc::Sender<u32>, mut answers: mpsc::Receiver<u32>) -> f64 {
        let mut best = f64::MAX;
        for _ in 0..LOOPS {
            let start = Instant::now();
            for question in 0..ROUNDS {
                assert!(questions.send(question).await.is_ok());
                assert_eq!(answers.recv().await, Some(question));
            }
            best = best.min(start.elapsed().as_nanos() as f64 / f64::from(2 * ROUNDS));
        }
        best
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (questions, theirs) = mpsc::channel(1);
    let (mine, answers) = mpsc::channel(1);
    let asked = runtime.block_on(async {
        if is_watched {
            tokio::spawn(answer(theirs, mine).watched());
            tokio::spawn(ask(questions, answers).watched()).await
        } else {
            tokio::spawn(answer(theirs, mine));
            tokio::spawn(ask(questions, answers)).await
        }
    });
    asked.expect("no panic")
}

/// Created, polled once, ready: bare and watched.
fn ready(watched: bool) -> f64 {
    let waker = tokio_like_waker();
    let mut context = Context::from_waker(&waker);
    let mut best = f64::MAX;
    for _ in 0..LOOPS {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            let is_ready = if watched {
                std::pin::pin!(black_box(std::future::ready(())).watched()).poll(&mut context).is_ready()
            } else {
                std::pin::pin!(black_box(std::future::ready(()))).poll(&mut context).is_ready()
            };
            assert!(black_box(is_ready));
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
    }
    best
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn compare(name: &str, mut bare: impl FnMut() -> f64, mut watched: impl FnMut() -> f64) {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        first.push(bare());
        second.push(watched());
    }
    let differences = first.iter().zip(&second).map(|(bare, watched)| watched - bare).collect();
    let (bare, watched, difference) = (median(first), median(second), median(differences));
    println!("{name:<44} {bare:8.1} {watched:8.1} {difference:+8.1}");
}

fn main() {
    // The clock changes over to the processor's counter after 50 ms.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(60) {
        per_poll(suspends().watched());
    }
    thread::spawn(|| {
        loop {
            thread::sleep(Duration::from_millis(100));
            drain(&mut |suspension| {
                black_box(suspension);
            });
        }
    });
    let _span = spanprof::enter([1; 16], [2; 8]);
    println!("{:<44} {:>8} {:>8} {:>8}", "ns per suspension, in a span", "bare", "watched", "adds");
    compare("suspend, wake, poll again", || per_poll(suspends()), || per_poll(suspends().watched()));
    for depth in [8, 32] {
        let name = format!("the same {depth} boxed async functions deep");
        compare(&name, || per_poll(below(depth)), || per_poll(below(depth).watched()));
    }
    compare(
        "the same, each in a span of its own",
        || per_poll(in_spans_of_its_own()),
        || per_poll(in_spans_of_its_own().watched()),
    );
    compare(
        "a thousand tasks, their memory displaced",
        || in_turn(leaves_waker),
        || in_turn(|kept| leaves_waker(kept).watched()),
    );
    compare("20 branches, one wakes", || per_poll(branches(20)), || per_poll(branches(20).watched()));
    compare(
        "a watch in a watch, 8 functions deep",
        || per_poll(below(8).watched()),
        || per_poll(below(8).watched().watched()),
    );
    compare("a message to a task and back, tokio", || round_trip(false), || round_trip(true));
    compare("ready at the first poll", || ready(false), || ready(true));
    set_recording(false);
    compare("recording turned off", || per_poll(suspends()), || per_poll(suspends().watched()));
    println!("{:?}", lost());
}
