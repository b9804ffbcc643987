//! Finished spans: what the spans of messages turned out to be, and which of them keep their ids.
//!
//! A thread's record says which span it works on, and nothing of how long the span took, whether it failed, or what it was
//! about when no thread had it. Who tells that is the service's tracer, once a span has ended. Here such spans are kept for
//! a while ([`SpanIndex`]), and from them, or from the time that the capture saw where no tracer tells anything, it is
//! decided which spans are worth their ids ([`Keeping`]).
//!
//! This room knows neither captures nor windows: it is asked about ids and times. Its words are the profile model's.

mod batch;
mod children;
mod class;
mod finished;
mod index;
mod keep;
pub mod otlp;
mod pace;
mod relatives;
mod traffic;
mod unseen;

pub use batch::{InBatch, Share, in_batches};
pub use children::children_time;
pub use class::{Class, ClassId, Classes};
pub use finished::{FinishedSpan, Messaging, SpanKind};
pub use index::{IndexLimits, IndexedSpan, SpanIndex, SpanLosses};
pub use keep::{Keeping, KeepingOptions, Kept, Reason, SeenSpan};
pub use pace::Pace;
pub use relatives::relatives;
