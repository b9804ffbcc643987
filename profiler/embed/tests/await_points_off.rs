//! Recording can be turned off and on while tasks wait.
#![cfg(feature = "await-points")]

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use spanprof::await_points::{WatchExt, drain, set_recording};

fn recorded() -> u64 {
    let mut count = 0;
    drain(&mut |suspension| count += suspension.count);
    count
}

/// One test: the switch is the program's.
#[test]
fn what_is_recorded_follows_the_switch() {
    let mut kept = None;
    let leaf = poll_fn(|context| {
        kept = Some(context.waker().clone());
        Poll::<()>::Pending
    });
    let mut future = pin!(leaf.watched());
    let mut poll = || assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    set_recording(false);
    poll();
    poll();
    assert_eq!(recorded(), 0);
    set_recording(true);
    poll();
    assert_eq!(recorded(), 0, "what began unseen is not recorded");
    poll();
    assert_eq!(recorded(), 1);
    set_recording(false);
    poll();
    assert_eq!(recorded(), 1, "what had begun is");
    poll();
    assert_eq!(recorded(), 0);
    set_recording(true);
    poll();
    poll();
    assert_eq!(recorded(), 1);
    let times = future.times();
    // Only the stretches that were watched.
    assert_eq!(times.wall, times.polled + times.suspended + times.ready);
}
