//! The profile model, its formats and the places it is sent to.

mod profile;

pub use profile::{
    Label, LabelSetId, LabelValue, Location, LocationId, Module, ModuleId, Profile, SampleKey, SampleKind,
    SampleValue, StackId, label,
};
