//! The truth file: one JSON object a line for every message that was handled.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::DemoError;
use crate::story::Cause;

/// A message that was handled, as the consumer itself measured it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handled {
    /// The trace's id, 32 hexadecimal digits.
    pub trace_id: String,
    /// The id of the span `process orders`, 16 hexadecimal digits.
    pub span_id: String,
    /// The id of the producer's span `send orders`, 16 hexadecimal digits; zeros if the message carried none.
    pub producer_span_id: String,
    /// The order's number.
    pub number: u64,
    /// Why it was slow, if it was.
    pub cause: Option<Cause>,
    /// For how long the order asked to be slow, in milliseconds; 0 for a fast one.
    pub trouble_milliseconds: u64,
    /// The name of the thread that ran the handlers.
    pub thread: String,
    /// From the handlers' first to their last instruction, in nanoseconds.
    pub wall_ns: u64,
    /// CPU that the thread used meanwhile, in nanoseconds.
    pub thread_cpu_ns: u64,
    /// From the span's start to its end, in nanoseconds; what is more than `wall_ns` passed between two threads.
    pub span_wall_ns: u64,
}

/// The truth file, if one was asked for.
#[derive(Debug)]
pub(crate) struct TruthFile(Option<Mutex<File>>);

impl TruthFile {
    pub(crate) fn create(path: Option<&Path>) -> Result<Self, DemoError> {
        let Some(path) = path else { return Ok(Self(None)) };
        let file = File::create(path).map_err(|source| DemoError::Truth { path: path.to_owned(), source })?;
        Ok(Self(Some(Mutex::new(file))))
    }

    /// Writes a line at once, so that it is there even if the process is killed.
    pub(crate) fn write(&self, handled: &Handled) {
        let Some(file) = &self.0 else { return };
        let mut line = serde_json::to_string(handled).expect("plain fields become JSON");
        line.push('\n');
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(line.as_bytes()) {
            eprintln!("the truth of order {} is lost: {error}", handled.number);
        }
    }
}
