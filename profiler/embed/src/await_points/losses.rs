//! What could not be kept, counted per cause.

use std::sync::atomic::{AtomicU64, Ordering};

/// What could not be kept since the program started, per cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Lost {
    /// Suspensions in no record: their thread's table was full and nobody had drained it.
    pub suspensions: u64,
    /// Their suspended and ready time together, in nanoseconds.
    pub nanoseconds: u64,
    /// Waits whose place is unknown because the stack could not be walked, or had not been walked before and too many
    /// new places came at once. Pending without a clone of the waker is not counted here: nothing was lost.
    pub places: u64,
    /// Waits recorded without their span: one poll suspended under more spans than are told apart, or the wait wasn't slow
    /// and the table kept its room for those that are.
    pub spans: u64,
    /// Suspensions recorded without their attributes, for which there was no room.
    pub attributes: u64,
    /// Suspensions recorded without who woke them: the table kept its room for spans and places.
    pub wakers: u64,
}

static SUSPENSIONS: AtomicU64 = AtomicU64::new(0);
static NANOSECONDS: AtomicU64 = AtomicU64::new(0);
static PLACES: AtomicU64 = AtomicU64::new(0);
static SPANS: AtomicU64 = AtomicU64::new(0);
static ATTRIBUTES: AtomicU64 = AtomicU64::new(0);
static WAKERS: AtomicU64 = AtomicU64::new(0);

/// What could not be kept since the program started.
pub fn lost() -> Lost {
    Lost {
        suspensions: SUSPENSIONS.load(Ordering::Relaxed),
        nanoseconds: NANOSECONDS.load(Ordering::Relaxed),
        places: PLACES.load(Ordering::Relaxed),
        spans: SPANS.load(Ordering::Relaxed),
        attributes: ATTRIBUTES.load(Ordering::Relaxed),
        wakers: WAKERS.load(Ordering::Relaxed),
    }
}

#[cold]
pub(super) fn suspension(nanoseconds: u64) {
    SUSPENSIONS.fetch_add(1, Ordering::Relaxed);
    NANOSECONDS.fetch_add(nanoseconds, Ordering::Relaxed);
}

#[cold]
pub(super) fn place() {
    PLACES.fetch_add(1, Ordering::Relaxed);
}

#[cold]
pub(super) fn span() {
    SPANS.fetch_add(1, Ordering::Relaxed);
}

#[cold]
pub(super) fn attributes() {
    ATTRIBUTES.fetch_add(1, Ordering::Relaxed);
}

#[cold]
pub(super) fn spans(count: u64) {
    SPANS.fetch_add(count, Ordering::Relaxed);
}

#[cold]
pub(super) fn wakers(count: u64) {
    WAKERS.fetch_add(count, Ordering::Relaxed);
}
