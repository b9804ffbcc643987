//! The wakers: one that a poll sees, and what leaves keep of it.
//!
//! A leaf that isn't ready keeps a clone of the waker in its context. So each poll is given a waker of our own (table
//! [`POLL`], borrowing a [`Root`] on the stack), whose clone is a waker of another kind (table [`KEPT`], sharing a
//! [`Shared`]): the clone runs inside the leaf's poll and sees where that is. As the two kinds never look alike, a leaf
//! that would keep an old waker if it found it again (`will_wake`) takes a new one at every poll, so no suspension is
//! missed. Refused: one waker for the whole life of the task, which most leaves clone at their first poll only.
//!
//! The low six bits of a kept waker's pointer say which clone it is: its *number*, by which a wake-up tells which
//! branch of a `join!` or `select!` it belongs to.

use std::mem::ManuallyDrop;
use std::ptr;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::shared::{NUMBERS, Owned, Shared};
use super::watch::Meter;
use super::{calling_thread, recorder};
use crate::clock;

/// Seen by polls. Never dropped: it lies on the stack below the one who made it.
static POLL: RawWakerVTable = RawWakerVTable::new(clone_poll, wake_poll, wake_poll, drop_poll);

/// Kept by leaves.
static KEPT: RawWakerVTable = RawWakerVTable::new(clone_kept, wake_kept, wake_kept_by_ref, drop_kept);

/// A waker is given to a poll by reference, but a reference to it may go to other threads while the poll lasts: those
/// touch only the first two fields.
pub(super) struct Root<'a> {
    outer: &'a Waker,
    thread: usize,
    /// Used on the polling thread only, for moments in which no foreign code runs.
    meter: *mut Meter,
}

/// Whether a waker is one that a [`Watch`](super::Watch) gives to its future.
#[inline]
pub(super) fn is_watched(waker: &Waker) -> bool {
    ptr::eq(waker.vtable(), &POLL)
}

impl<'a> Root<'a> {
    /// # Safety
    /// Until the root is gone the meter is valid, and used by nobody but the root and, on the same thread, between
    /// calls of the root's waker, by the caller.
    #[inline]
    pub(super) unsafe fn new(outer: &'a Waker, meter: *mut Meter) -> Self {
        Self { outer, thread: calling_thread::identity(), meter }
    }

    /// The waker to poll with.
    ///
    /// # Safety
    /// It is lent only while the root lives and stays where it is.
    #[inline]
    pub(super) unsafe fn waker(&self) -> ManuallyDrop<Waker> {
        // SAFETY: the table's functions take a root that lives as long as whoever borrows the waker, by the caller's
        // promise. They may be called on any thread.
        ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(ptr::from_ref(self).cast(), &POLL)) })
    }

    /// What is shared with the wakers that leaves keep, made now if need be; only on the polling thread.
    ///
    /// The pointer is good as long as the poll, and until the caller lets foreign code run on it.
    fn shared(&self) -> *const Shared {
        // SAFETY: on the polling thread, for a moment.
        if unsafe { (*self.meter).shared.is_none() } {
            // Foreign code, which might come back here: nothing of the meter is borrowed meanwhile.
            let new = Owned::new(self.outer);
            // SAFETY: as above.
            let superfluous = unsafe {
                let shared = &mut (*self.meter).shared;
                if shared.is_none() { shared.replace(new) } else { Some(new) }
            };
            drop(superfluous);
        }
        // SAFETY: as above.
        unsafe { (*self.meter).shared.as_ref().map_or(ptr::null(), Owned::as_ptr) }
    }

    /// Notes that the poll waits at a place: what is shared, and the branch's number.
    ///
    /// # Safety
    /// On the polling thread; `low` is an address in a live frame inside the poll.
    #[inline]
    unsafe fn note(&self, low: usize) -> (*const Shared, usize) {
        let shared = self.shared();
        let root = ptr::from_ref(self).addr();
        // SAFETY: the root lies in the frame that polls, `low` in an inner one.
        let place = recorder::with(|recorder| unsafe { recorder.finder.find(low, root) }).flatten();
        // SAFETY: `shared` has just made it sure, and on the polling thread no one else has the notes.
        let number = unsafe { (*shared).notes(&mut (*self.meter).span).add(place) };
        (shared, number)
    }
}

/// Not inlined: a place is what lies above its frame.
#[inline(never)]
unsafe fn clone_poll(data: *const ()) -> RawWaker {
    // SAFETY: the table goes with a root, which lives while its waker is borrowed.
    let root = unsafe { &*data.cast::<Root<'_>>() };
    if root.thread != calling_thread::identity() {
        return unwatched(root.outer);
    }
    let marker = 0_u8;
    // SAFETY: on the polling thread; the marker lies in this frame.
    unsafe {
        let (shared, number) = root.note((&raw const marker).addr());
        Owned::add(shared);
        kept(shared, number)
    }
}

/// The wake-up of a poll by itself, through the reference: the task waits for nothing but its next turn.
#[inline(never)]
unsafe fn wake_poll(data: *const ()) {
    // SAFETY: the table goes with a root, which lives while its waker is borrowed.
    let root = unsafe { &*data.cast::<Root<'_>>() };
    if root.thread == calling_thread::identity() {
        let marker = 0_u8;
        // SAFETY: on the polling thread; the marker lies in this frame; what is shared lives while nothing foreign runs.
        unsafe {
            let (shared, number) = root.note((&raw const marker).addr());
            (*shared).stamp(clock::now(), number);
        }
    }
    root.outer.wake_by_ref();
}

unsafe fn drop_poll(_: *const ()) {}

/// A clone for a thread that got hold of the poll's waker: it wakes, and isn't followed.
#[cold]
fn unwatched(outer: &Waker) -> RawWaker {
    let waker = ManuallyDrop::new(outer.clone());
    RawWaker::new(waker.data(), waker.vtable())
}

const NUMBER_MASK: usize = NUMBERS - 1;
const _: () = assert!(NUMBERS == align_of::<Shared>(), "a pointer's free bits are the numbers'");

#[inline]
fn kept(shared: *const Shared, number: usize) -> RawWaker {
    RawWaker::new(shared.map_addr(|address| address | number).cast(), &KEPT)
}

#[inline]
fn shared_of(data: *const ()) -> *const Shared {
    data.map_addr(|address| address & !NUMBER_MASK).cast()
}

unsafe fn clone_kept(data: *const ()) -> RawWaker {
    // SAFETY: the table goes with an `Owned`.
    unsafe { Owned::add(shared_of(data)) };
    RawWaker::new(data, &KEPT)
}

unsafe fn wake_kept(data: *const ()) {
    // SAFETY: the table goes with an `Owned`, which this call consumes.
    let shared = unsafe { Owned::from_added(shared_of(data)) };
    shared.wake(data.addr() & NUMBER_MASK);
}

unsafe fn wake_kept_by_ref(data: *const ()) {
    // SAFETY: the table goes with an `Owned`, which the caller keeps.
    let shared = unsafe { &*shared_of(data) };
    shared.wake(data.addr() & NUMBER_MASK);
}

unsafe fn drop_kept(data: *const ()) {
    // SAFETY: the table goes with an `Owned`, which this call consumes.
    drop(unsafe { Owned::from_added(shared_of(data)) });
}
