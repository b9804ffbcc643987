//! Many tasks on a real runtime: none is lost, whatever becomes of it.

use std::future::{Future, poll_fn};
use std::sync::Arc;

use spanprof::await_points::WatchExt;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::seen::{self, in_span, span};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

/// Tells whenever a poll has returned Pending.
fn after_each_pending<F: Future>(future: F, tell: impl Fn()) -> impl Future<Output = F::Output> {
    let mut future = Box::pin(future);
    poll_fn(move |context| {
        let result = future.as_mut().poll(context);
        if result.is_pending() {
            tell();
        }
        result
    })
}

#[test]
fn no_message_waits_for_a_lost_wake_up() {
    const PAIRS: usize = 100;
    const MESSAGES: usize = 500;
    runtime().block_on(async {
        let mut receivers = Vec::new();
        for _ in 0..PAIRS {
            let (sender, mut receiver) = mpsc::channel(3);
            let sending = async move {
                for message in 0..MESSAGES {
                    sender.send(message).await.unwrap();
                }
            };
            let receiving = async move {
                let mut sum = 0;
                while let Some(message) = receiver.recv().await {
                    sum += message;
                }
                sum
            };
            tokio::spawn(sending.watched());
            receivers.push(tokio::spawn(receiving.watched().with_times()));
        }
        for receiver in receivers {
            let (sum, times) = receiver.await.unwrap();
            assert_eq!(sum, MESSAGES * (MESSAGES - 1) / 2);
            assert_eq!(times.wall, times.polled + times.suspended + times.ready);
        }
    });
}

#[test]
fn cancelled_and_aborted_tasks_end_their_waits() {
    const TASKS: u64 = 5_000;
    runtime().block_on(async {
        for number in 0..TASKS {
            let (sender, receiver) = oneshot::channel::<()>();
            let (started, waits) = oneshot::channel();
            let handler = async move {
                let _ = started.send(());
                let _ = receiver.await;
            };
            let task = tokio::spawn(in_span(span(40, 1), handler).watched());
            waits.await.unwrap();
            if number % 2 == 0 {
                task.abort();
                let _ = task.await;
            } else {
                drop(sender);
                task.await.unwrap();
            }
        }
    });
    // A task that hears of its sender's end while its first poll isn't over never waits; an aborted one always does.
    let sum = |seen: &[seen::Seen], of: fn(&seen::Seen) -> u64| seen.iter().map(of).sum::<u64>();
    let seen = seen::until(40, |seen| sum(seen, |seen| seen.cancelled) >= TASKS / 2);
    assert_eq!(sum(&seen, |seen| seen.cancelled), TASKS / 2);
    assert!(sum(&seen, |seen| seen.count) <= TASKS);
    assert!(seen.iter().all(|seen| !seen.place.is_empty()));
}

#[test]
fn panics_leave_the_runtime_and_the_account_alone() {
    const TASKS: u32 = 500;
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<&str>() != Some(&"as asked") {
            before(info);
        }
    }));
    runtime().block_on(async {
        let (gate, waiting) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let (gate, waiting) = (gate.clone(), waiting.clone());
                let handler = async move {
                    let _ = gate.acquire().await;
                    std::panic::panic_any("as asked");
                };
                let handler = after_each_pending(handler, move || waiting.add_permits(1));
                tokio::spawn(in_span(span(41, 1), handler).watched())
            })
            .collect();
        // Opened once all have said that they wait. A barrier opens as the last one comes, and whoever came before it but
        // lost its processor then passes without waiting.
        waiting.acquire_many(TASKS).await.unwrap().forget();
        gate.close();
        for task in tasks {
            assert!(task.await.unwrap_err().is_panic());
        }
    });
    let seen = seen::of(41, TASKS.into());
    assert!(seen.iter().all(|seen| seen.cancelled == 0 && !seen.place.is_empty()));
}

#[test]
fn a_task_that_yields_is_ready_not_suspended() {
    const TURNS: u64 = 100;
    runtime().block_on(async {
        let handler = async {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
        };
        tokio::spawn(in_span(span(42, 1), handler).watched()).await.unwrap();
    });
    let seen = seen::of(42, TURNS);
    let (suspended, ready) = seen.iter().fold((0, 0), |sum, one| (sum.0 + one.suspended, sum.1 + one.ready));
    // Woken by the runtime's own list right after the poll: bookkeeping only.
    assert!(ready > 0, "{suspended} and {ready}");
    assert!(seen.iter().all(|seen| !seen.place.is_empty() && seen.woken_by.is_some()));
}
