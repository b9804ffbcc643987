//! Profiles running producers and consumers from outside and answers where the time of a slow message went.

mod active_span;
pub mod capture;
pub mod cli;
pub mod diagnosis;
pub mod metrics;
mod page;
pub mod probe;
pub mod recorder;
pub mod spans;
pub mod summary;
pub mod targets;
pub mod window;

pub use active_span::ActiveSpan;
