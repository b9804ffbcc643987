//! Which chain of functions a task waits in, exactly, without unwinding at every suspension.
//!
//! A chain is known by its depth (from the root's frame down to the waker's clone) and by the return addresses on the
//! stack. The first time one is seen the stack is walked, and *where* each return address lay is remembered. From then
//! on the same depth and the same values at all these addresses are the same chain: a function's frame has one size at
//! one return address, so if the innermost address is right, so is the place of the next, and so on to the root; the
//! depth closes the sum. Checked from the leaf on, so that only words that calls have written are read.
//!
//! Refused: unwinding each time (250–940 ns with a cache of rules, for 22 frames), frame pointers (nobody's std has
//! them all the way), a sample of the chains (a rare slow place is what one looks for).
//!
//! Chains are few and for good: they live until the program ends, at most [`MAXIMUM_SLOTS`] return addresses together.
//! All threads share them; each thread has its own short list of those that it met last.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use super::losses;
use super::walk::{self, MAXIMUM_FRAMES, Slot};
use crate::clock;

/// About 1.5 MB. A service with 300 places of 25 frames uses a ninth.
const MAXIMUM_SLOTS: usize = 65_536;

/// Bytes of stack between the root and a leaf. More is no call chain but another stack: a coroutine's.
const MAXIMUM_DEPTH: usize = 1 << 20;

const BUCKETS: usize = 1024;

/// Chains of one depth; a search through all of them takes some microseconds. More stay unknown.
const MAXIMUM_OF_A_DEPTH: usize = 512;

/// A chain of return addresses.
#[derive(Debug)]
pub(super) struct Place {
    depth: usize,
    slots: Box<[Slot]>,
    addresses: Box<[u64]>,
    next: *const Place,
}

// SAFETY: never changed once it is shared; `next` leads to a place that lives as long as the program.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

impl Place {
    fn new(depth: usize, slots: &[Slot]) -> Self {
        // The last one leads into the watch's own frame, which is checked but no part of the chain.
        let addresses = slots[..slots.len() - 1].iter().map(|slot| slot.return_address as u64 - 1).collect();
        Self { depth, slots: slots.into(), addresses, next: ptr::null() }
    }

    /// Addresses inside the calls, leaf first.
    pub(super) fn addresses(&self) -> &[u64] {
        &self.addresses
    }

    /// Whether the calling thread is here, with its root at an address.
    ///
    /// # Safety
    /// The calling thread's stack reaches from the root down by this place's depth.
    #[inline]
    unsafe fn is_here(&self, root: usize) -> bool {
        self.slots.iter().all(|slot| {
            // SAFETY: the slot lies within the depth, by the caller's promise on this thread's stack.
            unsafe { walk::stack_word(root - slot.below_root) == slot.return_address }
        })
    }
}

/// Chains by their depth; each list only ever grows at its front.
static PLACES: [AtomicPtr<Place>; BUCKETS] = [const { AtomicPtr::new(ptr::null_mut()) }; BUCKETS];

/// Return addresses kept so far, and the right to add.
static KEPT: Mutex<usize> = Mutex::new(0);

const SETS: usize = 32;
const WAYS: usize = 8;

/// A thread's latest places, and how much it may walk.
pub(super) struct Finder {
    latest: [[Cell<Option<&'static Place>>; WAYS]; SETS],
    credit: Credit,
}

/// How much a thread may walk, in frames of about a microsecond each: a fiftieth of its time, after a start that is
/// enough for some thousand places. A walk may run into debt, which time pays back. By the count, not by the clock: a
/// thread that lost its processor during a walk hasn't walked more.
struct Credit {
    frames: Cell<i64>,
    /// In nanoseconds, up to which time has been paid for.
    at: Cell<u64>,
}

impl Credit {
    const NANOSECONDS_PER_FRAME: u64 = 50_000;
    const MAXIMUM: i64 = 30_000;

    const fn new() -> Self {
        Self { frames: Cell::new(Self::MAXIMUM), at: Cell::new(0) }
    }

    fn is_left(&self, now: u64) -> bool {
        let earned = now.saturating_sub(self.at.get()) / Self::NANOSECONDS_PER_FRAME;
        self.at.set(self.at.get() + earned * Self::NANOSECONDS_PER_FRAME);
        self.frames.set(self.frames.get().saturating_add_unsigned(earned).min(Self::MAXIMUM));
        self.frames.get() > 0
    }

    fn spend(&self, frames: u64) {
        self.frames.set(self.frames.get().saturating_sub_unsigned(frames));
    }
}

impl Finder {
    pub(super) const fn new() -> Self {
        Self { latest: [const { [const { Cell::new(None) }; WAYS] }; SETS], credit: Credit::new() }
    }

    /// The calling thread's place: the chain of return addresses from `low` up to `root`, or `None` if it is unknown.
    ///
    /// # Safety
    /// Both are addresses of objects in live frames of the calling thread, `low` in an inner one.
    #[inline]
    pub(super) unsafe fn find(&self, low: usize, root: usize) -> Option<&'static Place> {
        let depth = root.wrapping_sub(low);
        let set = &self.latest[spread(depth) % SETS];
        for way in 0..WAYS {
            let Some(place) = set[way].get() else { break };
            // SAFETY: of this depth, so within the caller's promise.
            if place.depth == depth && unsafe { place.is_here(root) } {
                // Towards the front by one: places that come in turn settle there without pushing each other out.
                if way > 0 {
                    set[way].swap(&set[way - 1]);
                }
                return Some(place);
            }
        }
        // SAFETY: the caller's promise.
        let place = unsafe { self.find_elsewhere(low, root, depth) };
        if let Some(place) = place {
            let free = set.iter().position(|way| way.get().is_none()).unwrap_or(WAYS - 1);
            set[free].set(Some(place));
        }
        place
    }

    /// Among all threads' places, else by a walk.
    ///
    /// # Safety
    /// As for [`find`](Finder::find).
    #[cold]
    unsafe fn find_elsewhere(&self, low: usize, root: usize, depth: usize) -> Option<&'static Place> {
        let bucket = &PLACES[spread(depth) % BUCKETS];
        // SAFETY: the caller's promise.
        if let Some(place) = unsafe { find_known(bucket, root, depth) } {
            return Some(place);
        }
        if !cfg!(all(target_arch = "x86_64", not(miri))) {
            return None;
        }
        let place = (depth <= MAXIMUM_DEPTH)
            .then(|| self.walk(low, root))
            .flatten()
            .and_then(|place| keep(bucket, place));
        if place.is_none() {
            losses::place();
        }
        place
    }

    fn walk(&self, low: usize, root: usize) -> Option<Place> {
        if !self.credit.is_left(clock::now()) {
            return None;
        }
        let mut room = [Slot::default(); MAXIMUM_FRAMES];
        let (slots, frames) = walk::slots(low, root, &mut room);
        self.credit.spend(frames);
        slots.map(|slots| Place::new(root - low, slots))
    }
}

/// # Safety
/// As for [`Place::is_here`].
unsafe fn find_known(bucket: &AtomicPtr<Place>, root: usize, depth: usize) -> Option<&'static Place> {
    let mut next = bucket.load(Ordering::Acquire).cast_const();
    // SAFETY: null, or a place that was shared for good.
    while let Some(place) = unsafe { next.as_ref() } {
        // SAFETY: the caller's promise.
        if place.depth == depth && unsafe { place.is_here(root) } {
            return Some(place);
        }
        next = place.next;
    }
    None
}

/// Shares a place for good, unless another thread was faster or there is no room.
fn keep(bucket: &AtomicPtr<Place>, mut place: Place) -> Option<&'static Place> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let first = bucket.load(Ordering::Acquire).cast_const();
    let mut next = first;
    let mut of_depth = 0;
    // SAFETY: null, or a place that was shared for good.
    while let Some(other) = unsafe { next.as_ref() } {
        if other.depth == place.depth {
            if other.slots == place.slots {
                return Some(other);
            }
            of_depth += 1;
        }
        next = other.next;
    }
    if of_depth == MAXIMUM_OF_A_DEPTH || *kept + place.slots.len() > MAXIMUM_SLOTS {
        return None;
    }
    *kept += place.slots.len();
    place.next = first;
    let place: &'static Place = Box::leak(Box::new(place));
    // Never written through.
    bucket.store(ptr::from_ref(place).cast_mut(), Ordering::Release);
    Some(place)
}

#[inline]
fn spread(depth: usize) -> usize {
    // Depths are multiples of 16, more or less.
    (depth >> 4).wrapping_mul(0x9e37_79b9) >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "many steps of plain arithmetic")]
    fn walking_takes_a_fiftieth_of_the_time_once_the_start_is_over() {
        let credit = Credit::new();
        const WALK: u64 = 20;
        const SECOND: u64 = 1_000_000_000;
        let walks = |from: u64, to: u64| {
            // Somebody asks every 10 microseconds.
            let is_walked = |now: &u64| {
                let is_left = credit.is_left(*now);
                if is_left {
                    credit.spend(WALK);
                }
                is_left
            };
            (from..to).step_by(10_000).filter(is_walked).count()
        };
        let first = walks(SECOND, 2 * SECOND);
        assert!((1_500 + 999..=1_500 + 1_001).contains(&first), "{first}");
        let second = walks(2 * SECOND, 3 * SECOND);
        assert!((999..=1_001).contains(&second), "{second}");
        // Idle time doesn't add up without end.
        let third = walks(1_000 * SECOND, 1_000 * SECOND + SECOND / 100);
        assert!((999..=1_000).contains(&third), "one at each question: {third}");
    }

    #[test]
    fn a_chain_that_differs_anywhere_is_another() {
        let slots = |values: &[usize]| -> Vec<Slot> {
            let slot =
                |(number, value): (usize, &usize)| Slot { below_root: 100 - number, return_address: *value };
            values.iter().enumerate().map(slot).collect()
        };
        static BUCKET: AtomicPtr<Place> = AtomicPtr::new(ptr::null_mut());
        let keep_all = |values: &[usize]| keep(&BUCKET, Place::new(100, &slots(values))).expect("room");
        let first = keep_all(&[11, 12, 13]);
        assert_eq!(first.addresses(), [10, 11], "inside the calls, without the watch's own frame");
        assert!(ptr::eq(first, keep_all(&[11, 12, 13])));
        for other in [&[12, 12, 13][..], &[11, 13, 13], &[11, 12, 14], &[11, 12]] {
            assert!(!ptr::eq(first, keep_all(other)), "{other:?}");
            assert!(ptr::eq(keep_all(other), keep_all(other)));
        }
        if cfg!(miri) {
            return; // The rest is the same, a thousand times.
        }
        let kept = (0..2 * MAXIMUM_OF_A_DEPTH)
            .filter(|number| keep(&BUCKET, Place::new(100, &slots(&[1000 + number, 12]))).is_some());
        assert_eq!(kept.count(), MAXIMUM_OF_A_DEPTH - 5);
        assert!(keep(&BUCKET, Place::new(116, &slots(&[1, 2]))).is_some(), "another depth");
    }
}
