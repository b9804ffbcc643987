//! Finished spans told to the agent on this machine, so that it knows how long each message took without a collector.
//!
//! A span that ends is written, as OTLP has it, into memory that was set aside ([`queue`]); a thread sends what lies
//! there five times a second and at the end ([`sender`]). Who ends a span never waits and never allocates here: where
//! there is no room the span is dropped and counted. Told is what says how long a span took and what it was about: ids,
//! times, name, kind, links, whether it failed, and a few attributes of messaging. Nothing else leaves the process.
//!
//! Refused: a second exporter for OTLP. It would bring an HTTP client and a runtime into services that have neither,
//! and hand a stranger's port every attribute that a service has.

mod queue;
mod sender;
pub(crate) mod write;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
#[cfg(feature = "tracing")]
use std::time::{SystemTime, UNIX_EPOCH};

use queue::Queue;
pub(crate) use sender::Running;
use write::SpanWriter;

/// Whether what ends now is told to anybody.
static WANTED: AtomicBool = AtomicBool::new(false);
/// Made at the first start; its memory is kept, as a span may end at any time.
static QUEUE: OnceLock<Queue> = OnceLock::new();
static TOLD: AtomicU64 = AtomicU64::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);

/// What became of finished spans since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FinishedSpans {
    /// Taken by the agent.
    pub told: u64,
    /// Dropped: without room, or because nobody took them in time.
    pub lost: u64,
}

/// What became of finished spans so far.
pub(crate) fn counts() -> FinishedSpans {
    FinishedSpans { told: TOLD.load(Ordering::Relaxed), lost: LOST.load(Ordering::Relaxed) }
}

/// Whether it is worth looking at a span that ends.
#[inline]
pub(crate) fn are_wanted() -> bool {
    WANTED.load(Ordering::Relaxed)
}

/// Puts a span into the queue; `most` is what it takes at most, in bytes.
pub(crate) fn put(most: usize, write: impl FnOnce(&mut SpanWriter<'_>)) {
    let Some(queue) = QUEUE.get() else { return };
    if !queue.put(most, write) {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
}

/// Nanoseconds since 1970.
#[cfg(feature = "tracing")]
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}
