//! A span processor that links spans and profiles, both ways.
//!
//! Spans get `pyroscope.profile.id`, so that Grafana offers "Profiles for this span". Profiles get, through the published
//! record, the local root span and the messaging attributes that spans were started with, so that samples tell their
//! topic before any span has ended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::trace::Span as _;
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};

#[cfg(feature = "finished-spans")]
use crate::finished_spans;
use crate::messaging::Messaging;
use crate::{observer, span_attributes};

/// The attribute by which Grafana finds a span's profile.
const PROFILE_ID: &str = "pyroscope.profile.id";

/// A span processor for OpenTelemetry's SDK, beside the one that exports:
///
/// ```
/// use opentelemetry_sdk::trace::SdkTracerProvider;
///
/// let provider = SdkTracerProvider::builder()
///     .with_span_processor(spanprof::ProfileProcessor::new())
///     // .with_batch_exporter(…)
///     .build();
/// ```
///
/// # What spans get
///
/// Every recorded span gets `pyroscope.profile.id`, its own span id in hexadecimal: our samples carry the id of the
/// innermost span that was active, so that is what a span's profile is found by, and it holds what that span did by
/// itself. Spans dropped by sampling get nothing, as nobody sees them. Grafana's own agents label all samples
/// with the local root's id instead; [`local_roots_only`](Self::local_roots_only) marks the same spans as they do.
///
/// # What profiles get
///
/// Where the [`Agent`](crate::Agent) runs, the record of each thread also carries the local root's span id (the span whose
/// parent is in another process, or that has none) and `messaging.destination.name`, `messaging.consumer.group.name` and
/// `messaging.operation.name`, as far as the span or one around it was **started** with them; `tracing-opentelemetry`
/// starts spans with their fields. A span with a destination of its own takes nothing from the spans around it.
/// Attributes that are set later are not seen, nor are those of spans that sampling dropped.
///
/// # What the agent on this machine gets
///
/// With the feature `finished-spans`, and where `SPANPROF_LOCAL_AGENT` names the socket of a `spanprof attach --receive` that
/// profiles this service, each span that ends is told there: ids, times, name, kind, links, whether it failed, and what it
/// says of messaging. So the agent knows how long each message took, and needs no collector for it.
///
/// # Cost
///
/// The record is put together once per span, not per poll. It makes a context larger, so attaching one costs more than ids
/// alone do; `cargo bench -p spanprof --features opentelemetry-sdk,tracing` tells how much.
#[derive(Debug)]
pub struct ProfileProcessor {
    local_roots_only: bool,
    /// Tells the spans of several providers apart.
    number: u64,
}

impl Default for ProfileProcessor {
    fn default() -> Self {
        Self::new()
    }
}

impl ProfileProcessor {
    /// Marks every recorded span.
    pub fn new() -> Self {
        static PROCESSORS: AtomicU64 = AtomicU64::new(0);
        Self { local_roots_only: false, number: PROCESSORS.fetch_add(1, Ordering::Relaxed) }
    }

    /// Marks only spans whose parent is in another process or that have none.
    #[must_use]
    pub fn local_roots_only(mut self) -> Self {
        self.local_roots_only = true;
        self
    }
}

impl SpanProcessor for ProfileProcessor {
    fn on_start(&self, span: &mut Span, parent: &Context) {
        let id = span.span_context().span_id();
        if observer::is_installed() {
            span_attributes::note(self.number, id, parent, &messaging(span));
        }
        if !self.local_roots_only || span_attributes::is_local_root(parent) {
            span.set_attribute(KeyValue::new(PROFILE_ID, id.to_string()));
        }
    }

    fn on_end(&self, span: SpanData) {
        #[cfg(feature = "finished-spans")]
        if finished_spans::are_wanted() {
            tell(&span);
        }
        if observer::is_installed() {
            span_attributes::forget(span.span_context.span_id());
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        span_attributes::forget_all(self.number);
        Ok(())
    }
}

/// Tells the agent on this machine of a span that has ended.
#[cfg(feature = "finished-spans")]
fn tell(span: &SpanData) {
    use finished_spans::write::{Kind, attribute_bytes, is_told, most_bytes, unix_nanoseconds};
    use opentelemetry::trace::{SpanId, SpanKind, Status};

    let told = || span.attributes.iter().filter(|attribute| is_told(attribute.key.as_str()));
    let attributes = told().map(|KeyValue { key, value, .. }| match value {
        Value::String(text) => attribute_bytes(key.as_str(), text.as_str()),
        _ => attribute_bytes(key.as_str(), "12345678901"),
    });
    let most = most_bytes(&span.name, attributes.sum(), span.links.len());
    let kind = match span.span_kind {
        SpanKind::Internal => Kind::Internal,
        SpanKind::Server => Kind::Server,
        SpanKind::Client => Kind::Client,
        SpanKind::Producer => Kind::Producer,
        SpanKind::Consumer => Kind::Consumer,
    };
    let ids = |context: &opentelemetry::trace::SpanContext| {
        (context.trace_id().to_bytes(), context.span_id().to_bytes())
    };
    finished_spans::put(most, |writer| {
        let (trace_id, span_id) = ids(&span.span_context);
        let parent = Some(span.parent_span_id).filter(|parent| *parent != SpanId::INVALID);
        writer.ids(trace_id, span_id, parent.map(SpanId::to_bytes));
        writer.name(&span.name, kind);
        writer.times(unix_nanoseconds(span.start_time), unix_nanoseconds(span.end_time));
        for KeyValue { key, value, .. } in told() {
            match value {
                Value::String(text) => writer.text(key.as_str(), text.as_str()),
                Value::I64(number) if *number >= 0 => writer.whole_number(key.as_str(), *number as u64),
                _ => {}
            }
        }
        writer.links(span.links.iter().map(|link| ids(&link.span_context)));
        if matches!(span.status, Status::Error { .. }) {
            writer.failed();
        }
    });
}

/// What the span was started with. The SDK shows it as a copy only, a few hundred nanoseconds once per span.
fn messaging(span: &Span) -> Messaging {
    let mut messaging = Messaging::default();
    for KeyValue { key, value, .. } in span.exported_data().into_iter().flat_map(|data| data.attributes) {
        if let (Some(key), Value::String(text)) = (Messaging::key(key.as_str()), value) {
            messaging.set(key, text.as_str().to_owned());
        }
    }
    messaging
}
