//! What a thread needs to record suspensions: its tables and its list of places.
//!
//! A thread writes to one of two tables; whoever drains takes one at a time, so the other one is always free. A table
//! is claimed by one compare-and-exchange and nobody waits for it: a writer that finds one taken takes the other, a
//! drain that finds one in use comes again later. Refused: a mutex (the service would wait for a slow visitor) and
//! a ring of single suspensions (sums are 100 times fewer).
//!
//! Recorders are never freed but used again: a thread that ends leaves its own, with what was not drained yet, to the
//! next one that starts. So there are as many as threads were ever at work at once.

use std::cell::{Cell, UnsafeCell};
use std::hint;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};

use super::places::Finder;
use super::table::Table;
pub(super) use super::table::{Key, Sums};
use super::{Suspension, losses};

pub(super) struct Recorder {
    /// Used by the thread that has leased the recorder.
    pub(super) finder: Finder,
    /// The table written last; the thread's own.
    turn: Cell<u8>,
    tables: [Claimable; 2],
    leased: AtomicBool,
    draining: AtomicBool,
    next: AtomicPtr<Recorder>,
}

// SAFETY: `finder` and `turn` are used by the leasing thread only, which `with` makes sure, and leases are handed over
// by `leased` with acquire and release; the rest is made for several threads.
unsafe impl Sync for Recorder {}

struct Claimable {
    claim: AtomicU8,
    table: UnsafeCell<Option<Box<Table>>>,
}

const FREE: u8 = 0;
const WRITTEN: u8 = 1;
const DRAINED: u8 = 2;

/// All recorders; the list only grows.
static RECORDERS: AtomicPtr<Recorder> = AtomicPtr::new(ptr::null_mut());

thread_local! {
    /// A constant without destructor: as fast as such a thing gets.
    static MINE: Cell<Option<&'static Recorder>> = const { Cell::new(None) };
    /// Gives it back when the thread ends.
    static LEASE: Lease = const { Lease };
}

struct Lease;

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(recorder) = MINE.take() {
            recorder.leased.store(false, Ordering::Release);
        }
    }
}

/// Runs with the calling thread's recorder. `None` where the thread is about to end and has given it back.
#[inline]
pub(super) fn with<R>(run: impl FnOnce(&Recorder) -> R) -> Option<R> {
    MINE.get().or_else(lease).map(run)
}

#[cold]
fn lease() -> Option<&'static Recorder> {
    // Fails when the lease was given back already.
    LEASE.try_with(|_| {}).ok()?;
    let recorder = take_spare().unwrap_or_else(add);
    MINE.set(Some(recorder));
    Some(recorder)
}

fn take_spare() -> Option<&'static Recorder> {
    let take = |recorder: &&'static Recorder| {
        let leased = &recorder.leased;
        !leased.load(Ordering::Relaxed)
            && leased.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    };
    all().find(take)
}

fn add() -> &'static Recorder {
    let recorder: &'static Recorder = Box::leak(Box::new(Recorder {
        finder: Finder::new(),
        turn: Cell::new(0),
        tables: [Claimable::new(), Claimable::new()],
        leased: AtomicBool::new(true),
        draining: AtomicBool::new(false),
        next: AtomicPtr::new(ptr::null_mut()),
    }));
    let mut first = RECORDERS.load(Ordering::Relaxed);
    loop {
        recorder.next.store(first, Ordering::Relaxed);
        let new = ptr::from_ref(recorder).cast_mut();
        match RECORDERS.compare_exchange_weak(first, new, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return recorder,
            Err(other) => first = other,
        }
    }
}

fn all() -> impl Iterator<Item = &'static Recorder> {
    // SAFETY: null, or a recorder that was leaked before it was put into the list.
    let follow = |pointer: *mut Recorder| unsafe { pointer.cast_const().as_ref() };
    let first = follow(RECORDERS.load(Ordering::Acquire));
    std::iter::successors(first, move |recorder| follow(recorder.next.load(Ordering::Acquire)))
}

/// Records a suspension that is over. What there was no room for is taken from its key.
#[inline]
pub(super) fn record(key: &mut Key, attributes: &[u8], sums: Sums) {
    if with(|recorder| recorder.record(key, attributes, &sums)) != Some(true) {
        losses::suspension(sums.suspended + sums.ready);
    }
}

/// Shows what all threads have recorded since the last time.
pub(super) fn drain(visit: &mut dyn FnMut(&Suspension<'_>)) {
    for recorder in all() {
        if recorder.draining.swap(true, Ordering::Acquire) {
            continue;
        }
        let _over = Reset(&recorder.draining);
        for table in &recorder.tables {
            table.drain(visit);
        }
    }
}

impl Recorder {
    #[inline]
    fn record(&self, key: &mut Key, attributes: &[u8], sums: &Sums) -> bool {
        let first = usize::from(self.turn.get());
        // A drain has one at a time. Between two tries it may have gone on from one to the other, but not often.
        for turn in [first, 1 - first, first, 1 - first] {
            if self.tables[turn].write(|table| table.add(key, attributes, sums)) {
                self.turn.set(turn as u8);
                return true;
            }
        }
        false
    }
}

impl Claimable {
    const fn new() -> Self {
        Self { claim: AtomicU8::new(FREE), table: UnsafeCell::new(None) }
    }

    #[inline]
    fn claim(&self, purpose: u8) -> bool {
        self.claim.compare_exchange(FREE, purpose, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// `false` if somebody else has it.
    #[inline]
    fn write(&self, write: impl FnOnce(&mut Table)) -> bool {
        if !self.claim(WRITTEN) {
            return false;
        }
        let claimed = Claimed(self);
        // SAFETY: claimed.
        write(unsafe { &mut *claimed.0.table.get() }.get_or_insert_with(Table::boxed));
        true
    }

    fn drain(&self, visit: &mut dyn FnMut(&Suspension<'_>)) {
        // A writer needs some nanoseconds, unless it has just lost its processor.
        const TRIES: u32 = 100;
        let is_claimed = (0..TRIES).any(|_| {
            let is_claimed = self.claim(DRAINED);
            if !is_claimed {
                hint::spin_loop();
            }
            is_claimed
        });
        if !is_claimed {
            return;
        }
        let claimed = Claimed(self);
        // SAFETY: claimed.
        if let Some(table) = unsafe { &mut *claimed.0.table.get() } {
            table.drain(visit);
        }
    }
}

/// Frees the table, also when a visitor panics.
struct Claimed<'a>(&'a Claimable);

impl Drop for Claimed<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.claim.store(FREE, Ordering::Release);
    }
}

struct Reset<'a>(&'a AtomicBool);

impl Drop for Reset<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
