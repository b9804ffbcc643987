//! A span that has ended, as far as the agent cares: times, outcome, and what it was about in messaging's words.

use std::time::Duration;

use super::class::Class;
use crate::ActiveSpan;

pub use spanprof_exporter::SpanKind;

/// What only messaging spans say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Messaging {
    /// How many messages the span is about: `messaging.batch.message_count`.
    pub batch_size: Option<u32>,
    /// Which delivery of the message it is about, from 1.
    pub attempt: Option<u32>,
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedSpan {
    /// Itself.
    pub span: ActiveSpan,
    /// Its parent's id, in the same trace.
    pub parent: Option<[u8; 8]>,
    /// Its kind.
    pub kind: SpanKind,
    /// When it began by the service's clock, in nanoseconds since 1970.
    pub start_unix_ns: u64,
    /// When it ended by the same clock.
    pub end_unix_ns: u64,
    /// Whether its status is an error.
    pub failed: bool,
    /// What it shares with spans of its kind.
    pub class: Class,
    /// What is its own.
    pub messaging: Messaging,
    /// The spans that it links to: a batch's messages, a message's creation.
    pub links: Vec<ActiveSpan>,
}

impl FinishedSpan {
    /// From its begin to its end; zero where a clock was set back meanwhile.
    pub fn wall(&self) -> Duration {
        Duration::from_nanos(self.end_unix_ns.saturating_sub(self.start_unix_ns))
    }
}
