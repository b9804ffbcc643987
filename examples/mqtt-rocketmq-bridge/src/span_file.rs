//! Spans as lines of JSON, one written as soon as it ends: nothing of it is lost with the process.
//!
//! For tests and a first look. Who has a collector adds OpenTelemetry's own exporter beside it or in its place.

use std::io::{self, Write};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, Status};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use serde_json::{Value, json};

/// A span processor that writes a line per span.
///
/// ```
/// use opentelemetry_sdk::trace::SdkTracerProvider;
/// use spanprof_mqtt_rocketmq_bridge::span_file::SpanLines;
/// let provider = SdkTracerProvider::builder().with_span_processor(SpanLines::to(std::io::stdout())).build();
/// ```
pub struct SpanLines(Mutex<Box<dyn Write + Send>>);

impl SpanLines {
    /// To a file or a stream, which is flushed after each.
    pub fn to(out: impl Write + Send + 'static) -> Self {
        Self(Mutex::new(Box::new(out)))
    }

    fn write(&self, span: &SpanData) -> io::Result<()> {
        // One write for a line, so that processes can append to one file.
        let line = format!("{}\n", line(span));
        let mut out = self.0.lock().map_err(|_| io::ErrorKind::Other)?;
        out.write_all(line.as_bytes())?;
        out.flush()
    }
}

impl std::fmt::Debug for SpanLines {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("SpanLines")
    }
}

fn line(span: &SpanData) -> Value {
    let mut line = ids(&span.span_context);
    let parent = span.parent_span_id;
    line["parent_span_id"] = (parent != SpanId::INVALID).then(|| parent.to_string()).into();
    line["name"] = span.name.as_ref().into();
    line["kind"] = format!("{:?}", span.span_kind).to_lowercase().into();
    line["start_unix_nanoseconds"] = nanoseconds(span.start_time).into();
    line["end_unix_nanoseconds"] = nanoseconds(span.end_time).into();
    let attributes = span.attributes.iter().map(|one| (one.key.to_string(), one.value.to_string().into()));
    line["attributes"] = Value::Object(attributes.collect());
    line["links"] = span.links.iter().map(|link| ids(&link.span_context)).collect();
    if let Status::Error { description } = &span.status {
        line["error"] = description.as_ref().into();
    }
    line
}

fn ids(context: &SpanContext) -> Value {
    json!({ "trace_id": context.trace_id().to_string(), "span_id": context.span_id().to_string() })
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

impl SpanProcessor for SpanLines {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        // A full disk may not stop what the spans tell of.
        let _ = self.write(&span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
