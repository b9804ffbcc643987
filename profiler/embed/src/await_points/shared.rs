//! What a watched task shares with the wakers that its leaves keep: the runtime's waker and the stamp of the wake-up.
//!
//! Allocated at the first clone and used until the runtime gives the task another waker. Nothing in it is locked: the
//! wake-up that comes first sets one word, time and branch together, by compare-and-exchange from 0; who it was is
//! written beside it under a tag that names that word. The poll takes both and sets the word back to 0.

use std::cell::UnsafeCell;
use std::panic::RefUnwindSafe;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::task::{RawWakerVTable, Waker};

use super::notes::{Body, Head, Notes};
use super::packed_span::PackedSpan;
use super::{WokenBy, calling_thread};
use crate::clock;

/// How many numbers a branch can have. 0 stands for none.
pub(super) const NUMBERS: usize = 64;

/// What every suspension touches comes first.
#[repr(C, align(64))]
pub(super) struct Shared {
    outer: Waker,
    /// The table of the waker that `outer` was cloned from.
    table: &'static RawWakerVTable,
    /// 0, or the first wake-up since the poll began.
    woken: AtomicU64,
    /// Touched by polls and by the watch's end alone, as are the rest of the notes.
    head: UnsafeCell<Head>,
    by: By,
    body: UnsafeCell<Body>,
}

/// With the counts beside it, what a suspended task takes.
const _: () = assert!(size_of::<Shared>() + align_of::<Shared>() <= 512);

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

impl Shared {
    /// Clones the runtime's waker.
    pub(super) fn new(outer: &Waker) -> Self {
        Self {
            outer: outer.clone(),
            table: outer.vtable(),
            woken: AtomicU64::new(0),
            head: UnsafeCell::new(Head::new()),
            by: By::default(),
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

    /// # Safety
    /// The caller has the watch that this belongs to for itself, and lets go of the notes before it calls foreign code.
    #[inline]
    pub(super) unsafe fn notes(&self) -> Notes<'_> {
        // SAFETY: the caller's promise.
        unsafe { Notes { head: &mut *self.head.get(), body: &mut *self.body.get() } }
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
        let word = now * NUMBERS as u64 + number as u64;
        if self.woken.compare_exchange(0, word, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.by.describe(word);
        }
    }

    /// Takes the wake-up that came first since the last call, so that the next one is noted again.
    #[inline]
    pub(super) fn take_woken(&self) -> Option<(Woken, Waking)> {
        let word = self.woken.load(Ordering::Acquire);
        if word == 0 {
            return None;
        }
        let by = self.by.of(word);
        // Nobody else writes unless it is 0. One that comes from here on counts for the suspension that follows.
        self.woken.store(0, Ordering::Release);
        Some((Woken(word), by))
    }
}

/// Who woke. A waker that was fast enough to set the word, then slow to say who it is, may still write while the next
/// one would: the tag lets only one write at a time, and says of which word the rest speaks.
#[derive(Default)]
#[repr(C)]
struct By {
    tag: AtomicU64,
    thread: AtomicU32,
    /// [`PackedSpan::state`]; where it says that there is no span, the ids are somebody else's.
    state: AtomicU64,
    span_id: AtomicU64,
    trace_id: [AtomicU64; 2],
}

/// No word: a stamp is at least 1, so a word at least 64.
const WRITING: u64 = 1;

impl By {
    #[inline]
    fn describe(&self, word: u64) {
        let tag = self.tag.load(Ordering::Relaxed);
        if tag == WRITING
            || self.tag.compare_exchange(tag, WRITING, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            return;
        }
        // A reader that sees any of the following sees the tag above, too.
        fence(Ordering::Release);
        let span = calling_thread::span();
        self.thread.store(calling_thread::id(), Ordering::Relaxed);
        self.state.store(span.state, Ordering::Relaxed);
        if span.state != 0 {
            self.span_id.store(span.span_id, Ordering::Relaxed);
            self.trace_id[0].store(span.trace_id[0], Ordering::Relaxed);
            self.trace_id[1].store(span.trace_id[1], Ordering::Relaxed);
        }
        self.tag.store(word, Ordering::Release);
    }

    #[inline]
    fn of(&self, word: u64) -> Waking {
        if self.tag.load(Ordering::Acquire) != word {
            return Waking::NONE;
        }
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let span = match load(&self.state) {
            0 => PackedSpan::NONE,
            state => PackedSpan {
                trace_id: [load(&self.trace_id[0]), load(&self.trace_id[1])],
                span_id: load(&self.span_id),
                state,
            },
        };
        let waking = Waking { thread: self.thread.load(Ordering::Relaxed), span };
        fence(Ordering::Acquire);
        if self.tag.load(Ordering::Relaxed) == word { waking } else { Waking::NONE }
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

    #[test]
    fn the_first_wake_up_counts_until_it_is_taken() {
        let shared = Shared::new(Waker::noop());
        assert!(shared.take_woken().is_none());
        shared.stamp(7, 3);
        shared.stamp(9, 4);
        let (woken, by) = shared.take_woken().expect("woken");
        assert_eq!((woken.at(), woken.number()), (7, 3));
        assert_eq!(by.thread, calling_thread::id());
        assert!(shared.take_woken().is_none());
        shared.stamp(9, 63);
        let (woken, _) = shared.take_woken().expect("woken again");
        assert_eq!((woken.at(), woken.number()), (9, 63));
    }

    #[test]
    fn who_woke_is_never_taken_for_another() {
        let shared = Shared::new(Waker::noop());
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
                if let Some((woken, by)) = shared.take_woken()
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
