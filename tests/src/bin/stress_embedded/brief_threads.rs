//! Threads that live for moments: some do nothing, some allocate, some run or wait under a span, some leave it open.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use spanprof_tests::clock;

use super::worker::{enter, require};

static STARTED: AtomicU64 = AtomicU64::new(0);

/// How many there were.
pub(crate) fn started() -> u64 {
    STARTED.load(Ordering::Relaxed)
}

fn live(number: u64) -> u64 {
    match number % 5 {
        0 => {}
        1 => drop(black_box(vec![number as u8; 5_000])),
        2 => {
            let _span = enter(number);
            black_box(clock::turn(20_000));
        }
        3 => {
            let _span = enter(number);
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
        // The thread ends with its span published.
        _ => std::mem::forget(enter(number)),
    }
    number
}

pub(crate) fn round(number: u64) {
    const AT_ONCE: u64 = 32;
    let threads: Vec<_> = (0..AT_ONCE).map(|which| number * AT_ONCE + which).collect();
    let threads: Vec<_> =
        threads.into_iter().map(|number| (number, std::thread::spawn(move || live(number)))).collect();
    for (number, thread) in threads {
        require(thread.join().is_ok_and(|told| told == number), || format!("thread {number} failed"));
    }
    STARTED.fetch_add(AT_ONCE, Ordering::Relaxed);
}
