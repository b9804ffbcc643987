//! What spans, metrics and threads' records say.

mod conventions;
mod exported;
#[cfg(feature = "metrics")]
mod metrics;
mod records;
mod structure;
