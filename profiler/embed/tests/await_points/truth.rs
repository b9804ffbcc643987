//! Times against a handler that takes its own, on each kind of runtime.
//!
//! Every bound is one that the program itself knows: the stamp of a Pending lies between the leaf's own and one taken
//! outside the watch, the stamp of a wake-up between the ones before and after the call. However busy the machine, a
//! suspension that isn't between the two distances is wrong.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use spanprof::await_points::{Times, WatchExt};

use crate::seen::{self, async_functions, in_span, span};

const ROUNDS: usize = 4;

/// One wait of the program, by its own account.
#[derive(Clone, Copy, Debug)]
struct Wait {
    place: &'static str,
    pending: (Instant, Option<Instant>),
    woken: Option<(Instant, Instant)>,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Wait>>>);

impl Log {
    /// Waits for a plain thread that wakes after a time.
    fn wait(&self, place: &'static str, time: Duration) -> impl Future<Output = ()> + use<> {
        let log = self.clone();
        let mut started = false;
        poll_fn(move |context| {
            if started {
                return Poll::Ready(());
            }
            started = true;
            let (waker, theirs) = (context.waker().clone(), log.clone());
            // Kept until the wait is noted: the other thread may be through before.
            let mut waits = log.0.lock().unwrap();
            let number = waits.len();
            thread::spawn(move || {
                thread::sleep(time);
                let before = Instant::now();
                waker.wake();
                // Asked for once the handler is through, so that the last one has been written by then.
                theirs.0.lock().unwrap()[number].woken = Some((before, Instant::now()));
            });
            waits.push(Wait { place, pending: (Instant::now(), None), woken: None });
            Poll::Pending
        })
    }

    fn is_complete(&self) -> bool {
        self.0.lock().unwrap().iter().all(|wait| wait.woken.is_some())
    }

    /// Least and most that the waits at a place can have taken, in nanoseconds.
    fn bounds(&self, place: &str) -> (f64, f64) {
        let log = self.0.lock().unwrap();
        let waits = log.iter().filter(|wait| wait.place == place);
        let bounds = waits.map(|wait| {
            let (woken, pending) = (wait.woken.unwrap(), wait.pending);
            let least = woken.0.saturating_duration_since(pending.1.unwrap());
            (least.as_nanos() as f64, (woken.1 - pending.0).as_nanos() as f64)
        });
        bounds.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

/// Notes when polls of what is inside have returned.
struct Outside<F> {
    log: Log,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Outside<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let result = self.future.as_mut().poll(context);
        if let Some(wait) = self.log.0.lock().unwrap().last_mut() {
            wait.pending.1.get_or_insert_with(Instant::now);
        }
        result
    }
}

async fn waits_ten(log: &Log) {
    log.wait("ten", Duration::from_millis(10)).await;
}

async fn waits_twenty_inside(log: &Log) {
    log.wait("twenty", Duration::from_millis(20)).await;
}

async fn waits_twenty(log: &Log) {
    waits_twenty_inside(log).await;
}

async fn waits_seventy(log: &Log) {
    log.wait("seventy", Duration::from_millis(70)).await;
}

async fn handles(log: Log) {
    for _ in 0..ROUNDS {
        waits_ten(&log).await;
        waits_twenty(&log).await;
        waits_seventy(&log).await;
    }
}

fn watched(trace: u8, log: &Log) -> impl Future<Output = Times> + use<> {
    let handler = in_span(span(trace, 1), handles(log.clone())).watched().with_times();
    let outside = Outside { log: log.clone(), future: Box::pin(handler) };
    async { outside.await.1 }
}

fn check(trace: u8, log: &Log, times: Times) {
    while !log.is_complete() {
        thread::yield_now();
    }
    assert_eq!(times.wall, times.polled + times.suspended + times.ready);
    let seen = seen::of(trace, 3 * ROUNDS as u64);
    assert_eq!(times.suspended, seen.iter().map(|seen| seen.suspended).sum::<u64>());
    assert_eq!(times.ready, seen.iter().map(|seen| seen.ready).sum::<u64>());
    assert!(seen.iter().all(|seen| seen.woken_by.is_some_and(|by| by.thread != 0)));

    let chains: [(&str, &[&str]); 3] = [
        ("ten", &["waits_ten", "handles"]),
        ("twenty", &["waits_twenty_inside", "waits_twenty", "handles"]),
        ("seventy", &["waits_seventy", "handles"]),
    ];
    let mut sums = Vec::new();
    for (place, chain) in chains {
        let here: Vec<_> = seen.iter().filter(|seen| async_functions(&seen.place) == chain).collect();
        assert_eq!(here.iter().map(|seen| seen.count).sum::<u64>(), ROUNDS as u64, "{chain:?} of {seen:?}");
        let suspended = here.iter().map(|seen| seen.suspended).sum::<u64>() as f64;
        let (least, most) = log.bounds(place);
        // Two clocks: half a thousandth apart at most.
        assert!(
            (least * 0.9995..=most * 1.0005).contains(&suspended),
            "{place}: {suspended} ns, by the program {least} to {most}"
        );
        sums.push((suspended, least, most));
    }
    let total = |of: fn(&(f64, f64, f64)) -> f64| sums.iter().map(of).sum::<f64>();
    for (sum, place) in sums.iter().zip(["ten", "twenty", "seventy"]) {
        let share = sum.0 / total(|sum| sum.0);
        let own = (sum.1 + sum.2) / (total(|sum| sum.1) + total(|sum| sum.2));
        println!(
            "{place}: {:.2} % of the suspended time, by the program {:.2} %",
            100.0 * share,
            100.0 * own
        );
        // Where the bounds are near each other, which a quiet machine brings about.
        let slack = (total(|sum| sum.2) - total(|sum| sum.1)) / total(|sum| sum.2);
        assert!((share - own).abs() <= 0.02 * own + slack, "{place}: {share} by the program {own}");
    }
}

#[test]
fn a_multi_threaded_runtime_shows_each_waits_share() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let log = Log::default();
    let times = runtime.block_on(runtime.spawn(watched(1, &log))).unwrap();
    check(1, &log, times);
}

#[test]
fn a_current_thread_runtime_shows_each_waits_share() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let log = Log::default();
    let times = runtime.block_on(watched(2, &log));
    check(2, &log, times);
}

#[test]
fn a_local_set_shows_each_waits_share() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let log = Log::default();
    let local = tokio::task::LocalSet::new();
    let times = local.block_on(&runtime, async { tokio::task::spawn_local(watched(3, &log)).await.unwrap() });
    check(3, &log, times);
}

#[test]
fn a_future_that_moves_to_another_runtime_keeps_its_account() {
    let log = Log::default();
    let mut future = Box::pin(watched(4, &log));
    for _ in 0..ROUNDS {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        // One poll, and the wake-up that ends its wait, then away.
        runtime.block_on(async {
            let mut polled = false;
            poll_fn(|context| {
                if std::mem::replace(&mut polled, true) {
                    return Poll::Ready(());
                }
                assert!(future.as_mut().poll(context).is_pending());
                Poll::Pending
            })
            .await;
        });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let times = runtime.block_on(pin!(future));
    check(4, &log, times);
}
