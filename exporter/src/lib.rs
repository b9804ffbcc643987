//! The profile model, its formats and the places it is sent to.

pub mod analysis;
mod cause;
mod filter;
mod folded;
pub mod page;
pub mod pprof;
mod profile;
pub mod runtime;

pub use cause::short_name;
pub use filter::SampleFilter;
pub use folded::{FoldedRoot, folded};

pub use profile::{
    Label, LabelSetId, LabelValue, Location, LocationId, Module, ModuleId, Profile, SampleKey, SampleKind,
    SampleValue, StackId, label,
};
