//! pprof: the format of `go tool pprof`, Pyroscope, speedscope and Grafana.
//!
//! A file holds three sample types, `cpu`, `off_cpu` and `run_queue`, and behind them, where the process told
//! of its tasks, `suspended` and `ready`; all in nanoseconds, so that one file answers where the time of a span
//! went. Counts are not written: one more column would have to mean something different for each kind, and
//! viewers would offer to add them up. They are 0 after reading.
//!
//! What a profile knows beside its samples stands in a field of its own, which other readers pass over (`side_tables`).
//!
//! The messages are written by hand in `message` (see there why no generator and no other crate); the
//! conventions are those of google/pprof's `profile.proto`.

mod builder;
mod decode;
mod encode;
mod message;
mod scan;
mod side_tables;

#[cfg(feature = "sinks")]
pub(crate) use builder::{ProfileBuilder, SampleRow};
#[cfg(feature = "sinks")]
pub(crate) use encode::gzip;
#[cfg(feature = "stand-in")]
pub(crate) use message::PprofProfile;

pub use decode::{DecodeLimits, decode, decode_with_limits};
pub use encode::{encode, encode_of_service, encode_uncompressed};

/// Why a pprof file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PprofError {
    /// The gzip stream is damaged or ends early.
    #[error("the gzip stream is damaged: {0}")]
    Gzip(#[source] std::io::Error),
    /// The file is larger, once decompressed, than the reader allows.
    #[error("the profile is larger than {limit} bytes once decompressed")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The file holds more of something than the reader allows.
    #[error("the profile holds more than {limit} {what}")]
    TooMany {
        /// What there is too much of, in the plural.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The bytes are not a protobuf message of pprof's shape.
    #[error("this is not a pprof profile: {0}")]
    NotPprof(String),
    /// A reference inside the file leads nowhere.
    #[error("the profile is broken: {what} {id} does not exist")]
    Dangling {
        /// What is referred to.
        what: &'static str,
        /// The reference.
        id: i64,
    },
    /// A sample has not one value per sample type.
    #[error("the profile is broken: a sample has {found} values for {expected} sample types")]
    ValueCount {
        /// How many sample types the file names.
        expected: usize,
        /// How many values the sample has.
        found: usize,
    },
    /// A value is below zero: the file is a difference of two profiles, which is no profile of time.
    #[error("the profile holds a negative value: a difference of two profiles can't be shown as time")]
    Negative,
    /// No sample type of the file is a time that spanprof knows.
    #[error("the profile holds no CPU, off-CPU, run-queue or await time; its sample types are: {found}")]
    NoKnownTypes {
        /// The types found, as `name/unit`, separated by commas.
        found: String,
    },
}
