//! Where an asynchronous handler waits while no thread has it.
//!
//! A profiler of threads sees a handler while it runs. Most of a slow handler's time it doesn't run: it is suspended at
//! some `.await`, and no thread knows of it. [`watch`] wraps the handler's future, at its root, and sees each of its
//! waits: at which chain of await points, under which span, how long until the wake-up, how long from there until a
//! thread polled it again, which branch of a `join!` or `select!` it was, and who woke it.
//!
//! ```
//! use spanprof::await_points::WatchExt;
//! # async fn handle(message: u32) {}
//! # fn spawn(_: impl Future + Send) {}
//! # let message = 1;
//! spawn(handle(message).watched()); // With any runtime, in any place where a future goes.
//! ```
//!
//! One at the root suffices: spans that are entered further in are seen by what the thread publishes at the moment
//! of the wait. With the self-profile running, the times appear in its profiles as `suspended` and `ready`. Without it,
//! [`drain`] hands them out.
//!
//! # What is exact, and what is not
//!
//! * Times are. `wall = polled + suspended + ready` for each watched future, to the nanosecond: see [`Times`].
//! * A place is right or unknown, never guessed. It is unknown on other architectures than x86-64, and for a future that
//!   returns Pending and registers no waker in that poll.
//! * If several branches wait, the one that woke has the time. If nobody woke the task (a parent polled it on its own
//!   account, or it was cancelled), it is the one that registered its waker last.
//! * A wait is recorded when it ends. One that goes on is not seen yet.
//! * `FuturesUnordered`, and what is built on it (`buffer_unordered`, `join_all` of more than 30), polls its members
//!   with wakers of its own: it is one place. Watch its members to see theirs; their waits then stand beside the
//!   task's own.
//! * A parent that hands a new waker to each poll costs an allocation per suspension.
//!
//! # What it costs
//!
//! A suspension costs 50 to 75 ns, its exact chain included: no lock, no allocation after a task's first one, no system call
//! (`cargo bench -p spanprof --features await-points --bench await_points` tells). A suspended task takes 384 bytes, a
//! thread that records two tables of some ten kilobytes, or up to 200 KB each if it has a thousand different waits
//! between two drains. A new chain of functions is walked once, which takes microseconds.

mod calling_thread;
mod losses;
mod notes;
mod packed_span;
mod places;
mod recorder;
mod shared;
mod table;
mod wakers;
mod walk;
mod watch;

use spanprof_context::SpanContext;

pub use losses::{Lost, lost};
pub use watch::{Timed, Times, Watch, set_recording};

/// Watches a future; put it at the handler's root.
pub fn watch<F: Future>(future: F) -> Watch<F> {
    Watch::new(future)
}

/// Watches futures by a method.
pub trait WatchExt: Future + Sized {
    /// Watches this future, as [`watch`] does.
    fn watched(self) -> Watch<Self> {
        watch(self)
    }
}

impl<F: Future> WatchExt for F {}

/// Waits under one span, at one place, ended by one waker: their sums since they were last drained. Times are in
/// nanoseconds.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Suspension<'a> {
    /// The span that the thread published when the task began to wait, if any.
    pub span: Option<SpanContext>,
    /// That span's attributes, encoded as in a thread's record: per entry a key's number, a length and the value. Whole
    /// entries, 128 bytes at most.
    pub attributes: &'a [u8],
    /// Addresses inside the calls that led to the wait, leaf first, up to the watched future's own poll. Each lies
    /// within the calling instruction, ready to be symbolized. Empty if the place is unknown.
    pub place: &'a [u64],
    /// How many there were, …
    pub count: u64,
    /// … and how many of these ended because the future was dropped.
    pub cancelled: u64,
    /// From Pending to the wake-up, or to the end if nobody woke the task.
    pub suspended: u64,
    /// From the wake-up to the next poll, or to the end.
    pub ready: u64,
    /// The longest one, both times together.
    pub longest: u64,
    /// Who woke the task. `None` if nobody did, if it could not be told, or if there was no room to tell wakers apart.
    pub woken_by: Option<WokenBy>,
}

/// Who ended a wait.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct WokenBy {
    /// The kernel's id of the thread that called the waker.
    pub thread: u32,
    /// The span that this thread published when it did.
    pub span: Option<SpanContext>,
}

/// Shows what was recorded since the last call, and forgets it.
///
/// Takes nothing from the threads that record: they never wait for it, however long `visit` takes. What is just being
/// written comes with the next call. Two calls at the same time share what there is. The self-profile, if it runs, is
/// such a caller.
pub fn drain(visit: &mut dyn FnMut(&Suspension<'_>)) {
    recorder::drain(visit);
}
