//! What the consumer writes down, a line of JSON each, and how a test reads it.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use spanprof_context::{SpanId, TraceId};
use spanprof_messaging::TraceContext;

use crate::Cause;

/// The context that a message is sent with: its trace is told by its number.
///
/// # Panics
/// Never: neither id is zero.
#[must_use]
pub fn context(number: u32) -> TraceContext<'static> {
    let trace = TraceId((u128::from(number) + 1).to_be_bytes());
    let span = SpanId((u64::from(number) + 1).to_be_bytes());
    TraceContext::new(trace, span, 1).expect("neither id is zero")
}

/// A message as its handler saw it. Times are in nanoseconds, by the clocks of the thread that handled it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageTruth {
    /// Which message.
    pub number: u32,
    /// The trace's id, in hexadecimal.
    pub trace: String,
    /// The id of the span that it was processed in, in hexadecimal.
    pub span: String,
    /// What it was made slow by.
    pub cause: Option<Cause>,
    /// From the handler's begin to its end.
    pub wall_ns: u64,
    /// Of that, running.
    pub cpu_ns: u64,
    /// Of that, ready to run and not running.
    pub run_queue_ns: u64,
    /// From when its batch was received to the handler's begin.
    pub waited_ns: u64,
    /// Of that, while a message of its batch was handled that was put at the head to hold up the others.
    pub behind_ns: u64,
}

impl MessageTruth {
    /// What of the time was neither running nor ready to run.
    #[must_use]
    pub fn blocked_ns(&self) -> u64 {
        self.wall_ns.saturating_sub(self.cpu_ns + self.run_queue_ns)
    }
}

/// A span as its tracer saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanTruth {
    /// The trace's id, in hexadecimal.
    pub trace: String,
    /// Its own, in hexadecimal.
    pub span: String,
    /// What it is called.
    pub name: String,
    /// From its begin to its end, in nanoseconds.
    pub wall_ns: u64,
}

/// All that the consumer knows.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Every message once.
    pub messages: Vec<MessageTruth>,
    /// Every span.
    pub spans: Vec<SpanTruth>,
}

#[derive(Serialize, Deserialize)]
enum Line {
    Message(MessageTruth),
    Span(SpanTruth),
}

impl Truth {
    /// Writes it to a file.
    ///
    /// # Errors
    /// The file's.
    pub fn write(self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        let messages = self.messages.into_iter().map(Line::Message);
        for line in messages.chain(self.spans.into_iter().map(Line::Span)) {
            serde_json::to_writer(&mut file, &line)?;
            file.write_all(b"\n")?;
        }
        file.flush()
    }

    /// Reads what was written.
    ///
    /// # Errors
    /// The file's, or that it holds something else.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut truth = Self::default();
        for line in BufReader::new(File::open(path)?).lines() {
            match serde_json::from_str(&line?)? {
                Line::Message(message) => truth.messages.push(message),
                Line::Span(span) => truth.spans.push(span),
            }
        }
        Ok(truth)
    }
}
