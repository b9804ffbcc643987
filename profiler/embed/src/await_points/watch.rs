//! The future at the handler's root, and its account of time.

use std::future::Future;
use std::hint::black_box;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use super::packed_span::PackedSpan;
use super::recorder;
use super::shared::{Owned, Waking, Woken};
use super::wakers::{self, Root};
use crate::clock;

/// Sees where and how long a future waits, from its first poll to its end; made by [`watch`](super::watch).
///
/// Inside another `Watch` it does nothing but hand on polls: the outer one sees all.
#[must_use = "futures do nothing unless polled"]
#[derive(Debug)]
#[repr(C)]
pub struct Watch<F> {
    /// Before the future, so that a suspension that is cancelled ends before the future's own destructors run; and at the
    /// lowest address, where a runtime's task has what it touches at each poll.
    meter: Meter,
    future: F,
}

/// Where the time of a watched future went, in nanoseconds. `wall = polled + suspended + ready`, exactly.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Times {
    /// From the first poll to the end of the latest one.
    pub wall: u64,
    /// Inside polls: the thread's cpu, off-CPU and run-queue time.
    pub polled: u64,
    /// From Pending to the wake-up.
    pub suspended: u64,
    /// From the wake-up to the next poll.
    pub ready: u64,
}

static RECORDING: AtomicBool = AtomicBool::new(true);

/// Turns recording off or on again, for the whole program; on unless told otherwise. An [`Agent`](crate::Agent) that is
/// built with the self-profile turns it on or off as it starts, by whether it profiles. Off, a [`Watch`] hands on polls for
/// about a nanosecond. Suspensions that have begun are recorded.
pub fn set_recording(on: bool) {
    RECORDING.store(on, Ordering::Relaxed);
}

impl<F: Future> Watch<F> {
    pub(super) fn new(future: F) -> Self {
        Self { meter: Meter::default(), future }
    }

    /// Where the time went until the end of the latest poll.
    pub fn times(&self) -> Times {
        self.meter.times()
    }

    /// Resolves to the output and where the time went.
    pub fn with_times(self) -> Timed<F> {
        Timed { watch: self }
    }
}

impl<F: Future> Future for Watch<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: the future is never moved out of the pinned watch, and `Watch` has no `Drop` of its own; the meter is
        // not pinned.
        let (meter, future) = unsafe {
            let this = self.get_unchecked_mut();
            (&raw mut this.meter, Pin::new_unchecked(&mut this.future))
        };
        // Through a pointer that the compiler can't see through: what is inlined into the future's poll then has its
        // frames below a return address of its own, and none of ours among them.
        let poll: fn(Pin<&mut F>, &mut Context<'_>) -> Poll<F::Output> = black_box(F::poll);
        let outer = context.waker();
        if !RECORDING.load(Ordering::Relaxed) || wakers::is_watched(outer) {
            // SAFETY: the meter is ours alone.
            unsafe { (*meter).pause() };
            return poll(future, context);
        }
        // SAFETY: the meter is ours alone until the root is made, and from then on the root's too, on this thread,
        // while foreign code runs. The root outlives the waker and stays where it is.
        unsafe {
            (*meter).begin_poll(outer);
            let root = Root::new(outer, meter);
            let waker = root.waker();
            let panic = EndOnPanic(meter);
            let result = poll(future, &mut Context::from_waker(&waker));
            mem::forget(panic);
            if result.is_ready() {
                (*meter).end();
            } else {
                (*meter).suspend(outer);
            }
            result
        }
    }
}

/// A poll that panics is the future's last.
struct EndOnPanic(*mut Meter);

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        // SAFETY: made beside a root in `poll`; the poll is over.
        unsafe { (*self.0).end() }
    }
}

/// Resolves to a watched future's output and where its time went; made by [`Watch::with_times`].
#[must_use = "futures do nothing unless polled"]
#[derive(Debug)]
pub struct Timed<F> {
    watch: Watch<F>,
}

impl<F: Future> Future for Timed<F> {
    type Output = (F::Output, Times);

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: the watch is never moved out of the pinned future.
        let mut watch = unsafe { self.map_unchecked_mut(|timed| &mut timed.watch) };
        watch.as_mut().poll(context).map(|output| (output, watch.times()))
    }
}

/// A watched future's stamps and sums, in [`clock`]'s nanoseconds. Consecutive stretches share their stamps, so that
/// nothing lies between them.
///
/// In this order: what is shared is fetched first, and lies where a runtime's task begins.
#[derive(Default)]
#[repr(C)]
pub(super) struct Meter {
    pub(super) shared: Option<Owned>,
    /// When the latest stretch ended.
    last: u64,
    polled: u64,
    suspended: u64,
    ready: u64,
    /// A part of the [notes](super::notes).
    pub(super) span: PackedSpan,
    /// Whether the stretch that has begun is a suspension.
    is_suspended: bool,
}

impl Meter {
    fn times(&self) -> Times {
        let Meter { polled, suspended, ready, .. } = *self;
        Times { wall: polled + suspended + ready, polled, suspended, ready }
    }

    #[inline]
    fn begin_poll(&mut self, outer: &Waker) {
        let now = clock::now().max(self.last);
        if self.is_suspended {
            self.resume(now, false);
        }
        // What nobody watched is no part of any time.
        self.last = now;
        if let Some(shared) = &self.shared {
            if shared.is_for(outer) {
                // SAFETY: the watch is ours alone, and no poll is on the way.
                unsafe { shared.notes(&mut self.span).begin_poll() };
            } else {
                // What leaves have kept goes on to wake as the contract says, unseen by us.
                self.shared = None;
            }
        }
    }

    /// The poll returned Pending.
    #[inline]
    fn suspend(&mut self, outer: &Waker) {
        self.end();
        self.is_suspended = true;
        let shared = self.shared.get_or_insert_with(|| Owned::new(outer));
        // SAFETY: the watch is ours alone again: its poll is over.
        unsafe { shared.notes(&mut self.span).end_poll() };
    }

    /// The poll is over for good, or a suspension begins.
    #[inline]
    fn end(&mut self) {
        let now = clock::now().max(self.last);
        self.polled += now - self.last;
        self.last = now;
    }

    /// The poll that comes isn't watched.
    #[inline]
    fn pause(&mut self) {
        if self.is_suspended {
            self.stop(false);
        }
    }

    #[cold]
    fn stop(&mut self, cancelled: bool) {
        let now = clock::now().max(self.last);
        self.resume(now, cancelled);
        self.last = now;
    }

    /// A suspension is over: accounts for it and records it.
    #[inline]
    fn resume(&mut self, now: u64, cancelled: bool) {
        self.is_suspended = false;
        let Some(shared) = &self.shared else { return };
        let mut woken_by = Waking::NONE;
        let woken = shared.take_woken(&mut woken_by);
        let woken_at = woken.map_or(now, Woken::at).clamp(self.last, now);
        let (suspended, ready) = (woken_at - self.last, now - woken_at);
        self.suspended += suspended;
        self.ready += ready;
        // SAFETY: the watch is ours alone, and no foreign code runs until the notes are let go.
        let notes = unsafe { shared.notes(&mut self.span) };
        let waited = notes.waited(woken.map(Woken::number));
        let mut key = recorder::Key { span: *waited.span, place: waited.place, woken_by };
        recorder::record(&mut key, waited.attributes, recorder::Sums::one(suspended, ready, cancelled));
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if self.is_suspended {
            self.stop(true);
        }
    }
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Meter").field(&self.times()).finish()
    }
}
