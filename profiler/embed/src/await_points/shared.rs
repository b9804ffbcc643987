//! What a watched task shares with the wakers that its leaves keep: the runtime's waker and the stamp of the wake-up.
//!
//! Allocated at the first clone and used until the runtime gives the task another waker. Nothing in it is locked: the
//! wake-up that comes first claims one word by compare-and-exchange from 0, writes beside it who it was, and then sets the
//! word to time and branch together. The poll takes all of it and sets the word back to 0.
//!
//! With a thousand tasks each line of memory that a suspension touches has to be fetched, from another processor if one
//! woke the task there. So the owners are counted here and not by an `Arc`, whose count would be a line of its own, and
//! what a usual suspension needs lies on one line, from the clone to the poll that follows it.

use std::cell::UnsafeCell;
use std::mem::offset_of;
use std::ops::Deref;
use std::panic::RefUnwindSafe;
use std::process;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::task::{RawWakerVTable, Waker};

use super::notes::{Body, Head, Notes};
use super::packed_span::PackedSpan;
use super::{WokenBy, calling_thread};
use crate::clock;

/// How many numbers a branch can have. 0 stands for none.
pub(super) const NUMBERS: usize = 64;

/// What is shared; what every suspension touches comes first.
#[repr(C, align(64))]
pub(super) struct Shared {
    owners: AtomicU32,
    /// The thread that woke, and [`HAS_SPAN`]. Written, as is its span, by who has claimed the word, until that is set.
    by: AtomicU32,
    /// 0, or [`CLAIMED`], or the first wake-up since the poll began.
    woken: AtomicU64,
    outer: Waker,
    /// The table of the waker that `outer` was cloned from.
    table: &'static RawWakerVTable,
    /// Touched by polls and by the watch's end alone, as is the rest of the notes.
    head: UnsafeCell<Head>,
    by_span: BySpan,
    body: UnsafeCell<Body>,
}

const _: () = assert!(offset_of!(Shared, by_span) <= 64, "a usual suspension's are on one line");
/// What a suspended task takes.
const _: () = assert!(size_of::<Shared>() <= 384);

// SAFETY: the notes are reached only through `notes`, whose callers hold the one watch exclusively.
unsafe impl Sync for Shared {}
// A panic leaves stamps and notes whole: they are plain values, written to the end.
impl RefUnwindSafe for Shared {}

/// A wake-up: when, and of which branch, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Woken(u64);

impl Woken {
    /// In [`clock`]'s nanoseconds, which fill 58 bits after nine years.
    pub(super) fn at(self) -> u64 {
        self.0 / NUMBERS as u64
    }

    pub(super) fn number(self) -> usize {
        self.0 as usize % NUMBERS
    }
}

/// No wake-up: a stamp is at least 1, so a word at least 64.
const CLAIMED: u64 = 1;

/// The kernel's thread ids have 22 bits.
const HAS_SPAN: u32 = 1 << 31;

impl Shared {
    /// Clones the runtime's waker.
    fn new(outer: &Waker) -> Self {
        Self {
            owners: AtomicU32::new(1),
            by: AtomicU32::new(0),
            woken: AtomicU64::new(0),
            outer: outer.clone(),
            table: outer.vtable(),
            head: UnsafeCell::new(Head::new()),
            by_span: BySpan::default(),
            body: UnsafeCell::new(Body::new()),
        }
    }

    /// Whether this is for the waker of a poll.
    ///
    /// Not by `will_wake` alone: where a compiler has put two copies of a table into a program, a waker and its clone
    /// have different ones, and each poll would get a `Shared` of its own. As long as our clone lives, nobody else's
    /// waker can have its data.
    #[inline]
    pub(super) fn is_for(&self, outer: &Waker) -> bool {
        self.outer.data() == outer.data()
            && (ptr::eq(self.table, outer.vtable()) || ptr::eq(self.outer.vtable(), outer.vtable()))
    }

    /// The notes, of which `span` lies elsewhere.
    ///
    /// # Safety
    /// The caller has the watch that this belongs to for itself, and lets go of the notes before it calls foreign code.
    #[inline]
    pub(super) unsafe fn notes<'a>(&'a self, span: &'a mut PackedSpan) -> Notes<'a> {
        // SAFETY: the caller's promise.
        unsafe { Notes { head: &mut *self.head.get(), span, body: &mut *self.body.get() } }
    }

    /// Wakes the task, by a branch's waker.
    #[inline]
    pub(super) fn wake(&self, number: usize) {
        if self.woken.load(Ordering::Relaxed) == 0 {
            self.stamp(clock::now(), number);
        }
        self.outer.wake_by_ref();
    }

    /// Notes a wake-up unless there was one before.
    #[inline]
    pub(super) fn stamp(&self, now: u64, number: usize) {
        let by = Waking { thread: calling_thread::id(), span: calling_thread::span() };
        if self.woken.compare_exchange(0, CLAIMED, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            self.write_by(&by);
            self.woken.store(now * NUMBERS as u64 + number as u64, Ordering::Release);
        }
    }

    /// Takes the wake-up that came first since the last call, and who it was, so that the next one is noted again. One that is
    /// just being noted counts for the suspension that follows: its caller wakes the task only then.
    #[inline]
    pub(super) fn take_woken(&self, by: &mut Waking) -> Option<Woken> {
        let word = self.woken.load(Ordering::Acquire);
        if word == 0 || word == CLAIMED {
            return None;
        }
        self.read_by(by);
        // Nobody else writes, here or there, unless it is 0.
        self.woken.store(0, Ordering::Release);
        Some(Woken(word))
    }
}

// Who woke. One thread at a time has it, by the word beside it: atomic only so that all may reach it.
impl Shared {
    #[inline]
    fn write_by(&self, by: &Waking) {
        let PackedSpan { trace_id, span_id, state } = by.span;
        if state == 0 {
            return self.by.store(by.thread, Ordering::Relaxed);
        }
        self.by.store(by.thread | HAS_SPAN, Ordering::Relaxed);
        self.by_span.state.store(state, Ordering::Relaxed);
        self.by_span.span_id.store(span_id, Ordering::Relaxed);
        self.by_span.trace_id[0].store(trace_id[0], Ordering::Relaxed);
        self.by_span.trace_id[1].store(trace_id[1], Ordering::Relaxed);
    }

    /// Word by word: see [`PackedSpan`].
    #[inline]
    fn read_by(&self, by: &mut Waking) {
        let thread = self.by.load(Ordering::Relaxed);
        by.thread = thread & !HAS_SPAN;
        by.span.state = 0;
        if thread & HAS_SPAN != 0 {
            by.span.trace_id[0] = self.by_span.trace_id[0].load(Ordering::Relaxed);
            by.span.trace_id[1] = self.by_span.trace_id[1].load(Ordering::Relaxed);
            by.span.span_id = self.by_span.span_id.load(Ordering::Relaxed);
            by.span.state = self.by_span.state.load(Ordering::Relaxed);
        }
    }
}

/// The span of who woke.
#[derive(Default)]
struct BySpan {
    trace_id: [AtomicU64; 2],
    span_id: AtomicU64,
    state: AtomicU64,
}

/// One owner's hold on a [`Shared`], as an `Arc` would be.
pub(super) struct Owned(NonNull<Shared>);

// SAFETY: what it leads to may be used from all threads and lives until the last owner is gone, who may be on any.
unsafe impl Send for Owned {}
// SAFETY: as above.
unsafe impl Sync for Owned {}

impl Owned {
    /// The first owner of a new one, with a clone of the runtime's waker.
    pub(super) fn new(outer: &Waker) -> Self {
        Self(NonNull::from(Box::leak(Box::new(Shared::new(outer)))))
    }

    pub(super) fn as_ptr(&self) -> *const Shared {
        self.0.as_ptr()
    }

    /// Takes back an owner that [`add`](Self::add) has added.
    ///
    /// # Safety
    /// `shared` has an owner more than anybody will give up.
    #[inline]
    pub(super) unsafe fn from_added(shared: *const Shared) -> Self {
        // SAFETY: not null, as it is owned.
        Self(unsafe { NonNull::new_unchecked(shared.cast_mut()) })
    }

    /// Adds an owner.
    ///
    /// # Safety
    /// `shared` has an owner during the call.
    #[inline]
    pub(super) unsafe fn add(shared: *const Shared) {
        // SAFETY: it lives, by the caller's promise.
        let before = unsafe { &(*shared).owners }.fetch_add(1, Ordering::Relaxed);
        // Owners that were forgotten, by the billion; `Arc` ends the program, too.
        if before > i32::MAX as u32 {
            process::abort();
        }
    }
}

impl Deref for Owned {
    type Target = Shared;

    #[inline]
    fn deref(&self) -> &Shared {
        // SAFETY: owned.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Owned {
    #[inline]
    fn drop(&mut self) {
        if self.owners.fetch_sub(1, Ordering::Release) == 1 {
            // What other owners did comes before its end.
            fence(Ordering::Acquire);
            // SAFETY: from a box, and nobody has it any more.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}

/// Who woke, packed; thread 0 for nobody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waking {
    pub(super) thread: u32,
    pub(super) span: PackedSpan,
}

impl Waking {
    pub(super) const NONE: Self = Self { thread: 0, span: PackedSpan::NONE };

    pub(super) fn get(&self) -> Option<WokenBy> {
        (self.thread != 0).then(|| WokenBy { thread: self.thread, span: self.span.get() })
    }

    #[inline(always)]
    pub(super) fn is(&self, other: &Self) -> bool {
        self.thread == other.thread && self.span.is(&other.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_woken(shared: &Shared) -> Option<(Woken, Waking)> {
        let mut by = Waking::NONE;
        shared.take_woken(&mut by).map(|woken| (woken, by))
    }

    #[test]
    fn the_first_wake_up_counts_until_it_is_taken() {
        let shared = Owned::new(Waker::noop());
        assert!(take_woken(&shared).is_none());
        shared.stamp(7, 3);
        shared.stamp(9, 4);
        let (woken, by) = take_woken(&shared).expect("woken");
        assert_eq!((woken.at(), woken.number()), (7, 3));
        assert_eq!(by.thread, calling_thread::id());
        assert!(take_woken(&shared).is_none());
        shared.stamp(9, 63);
        let (woken, _) = take_woken(&shared).expect("woken again");
        assert_eq!((woken.at(), woken.number()), (9, 63));
    }

    #[test]
    fn who_woke_is_never_taken_for_another() {
        let shared = Owned::new(Waker::noop());
        const ROUNDS: u64 = if cfg!(miri) { 50 } else { 20_000 };
        std::thread::scope(|scope| {
            let wakers: Vec<_> = (1..=3)
                .map(|number| {
                    let shared = &shared;
                    scope.spawn(move || {
                        for round in 0..ROUNDS {
                            shared.stamp(1 + round, number);
                            std::hint::spin_loop();
                        }
                        (number, calling_thread::id())
                    })
                })
                .collect();
            let mut seen = Vec::new();
            while !wakers.iter().all(|waker| waker.is_finished()) {
                if let Some((woken, by)) = take_woken(&shared)
                    && by.thread != 0
                {
                    seen.push((woken.number(), by.thread));
                }
            }
            let threads: Vec<_> = wakers.into_iter().map(|waker| waker.join().expect("no panic")).collect();
            assert!(seen.iter().all(|wake| threads.contains(wake)), "{threads:?}");
        });
    }
}
