//! Panics a few calls deep and catches it, with a span and a destructor on the way; now and then takes a backtrace.

use std::hint::black_box;
use std::panic::{catch_unwind, resume_unwind};

use super::worker::{enter, require};

/// What is thrown.
pub(crate) struct Planned(u64);

/// Counts when it is dropped by the unwinding.
struct Counts<'a>(&'a std::cell::Cell<u64>);

impl Drop for Counts<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[inline(never)]
fn dive(depth: u64, number: u64, dropped: &std::cell::Cell<u64>) -> u64 {
    let _counts = Counts(dropped);
    let _span = depth.is_multiple_of(4).then(|| enter(number << 8 | depth));
    match (depth, number.is_multiple_of(2)) {
        // With the hook and its backtrace machinery, and without.
        (0, true) => std::panic::panic_any(Planned(number)),
        (0, false) => resume_unwind(Box::new(Planned(number))),
        _ => black_box(dive(depth - 1, number, dropped)) + depth,
    }
}

pub(crate) fn round(number: u64) {
    let before = spanprof::context::thread::current();
    let depth = number % 24;
    let dropped = std::cell::Cell::new(0);
    let caught = catch_unwind(std::panic::AssertUnwindSafe(|| dive(depth, number, &dropped)));
    let thrown = caught.err().and_then(|thrown| thrown.downcast::<Planned>().ok());
    require(thrown.is_some_and(|thrown| thrown.0 == number), || "another panic was caught".to_owned());
    require(dropped.get() == depth + 1, || format!("{} of {} were dropped", dropped.get(), depth + 1));
    require(spanprof::context::thread::current() == before, || "a panic left a span behind".to_owned());
    if number.is_multiple_of(64) {
        let backtrace = std::backtrace::Backtrace::force_capture();
        require(format!("{backtrace}").contains("round"), || format!("a strange backtrace: {backtrace}"));
    }
}
