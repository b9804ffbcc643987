//! The profile model, its formats and the places it is sent to.

mod absorb;
pub mod analysis;
mod cause;
#[cfg(feature = "sinks")]
pub mod delivery;
pub mod directory;
mod durations;
mod facts;
mod filter;
mod folded;
pub mod idle;
#[cfg(feature = "page")]
pub mod links;
#[cfg(feature = "local")]
pub mod local;
#[cfg(feature = "sinks")]
pub mod otlp;
#[cfg(feature = "page")]
pub mod page;
pub mod pprof;
mod profile;
#[cfg(feature = "sinks")]
pub mod pyroscope;
pub mod runtime;
mod select;
#[cfg(feature = "sinks")]
pub mod sinks;
#[cfg(feature = "page")]
pub mod speedscope;
mod stack_bounds;
#[cfg(feature = "stand-in")]
pub mod stand_in;
pub mod stored;
#[cfg(feature = "svg")]
pub mod svg;
mod told;
mod traffic;
pub mod waits;
mod wakers;

pub use cause::short_name;
pub use durations::{BUCKETS_NS, Durations};
pub use facts::{SpanFacts, SpanIds, SpanRef};
pub use filter::SampleFilter;
pub use folded::{FoldedRoot, folded};
pub use told::{MOST_AROUND, MOST_IN_WINDOW, MOST_LINKS, Relatives, SpanClass, SpanKind, ToldSpan};
pub use traffic::{Counted, Source, Traffic, TrafficKey};
pub use wakers::{Wakers, WokenBy};

pub use profile::{
    Label, LabelSetId, LabelValue, Location, LocationId, Module, ModuleId, Profile, SampleKey, SampleKind,
    SampleValue, StackId, label,
};
