//! Spans that stay in memory, and questions to them.

use std::borrow::Cow;
use std::collections::HashMap;

use opentelemetry::trace::{SpanContext, SpanId, TraceId};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use spanprof_messaging::conventions::attribute as key;
use spanprof_messaging::{Instrumentation, Operation, System};

/// A span's trace and its own id.
pub type Ids = (TraceId, SpanId);

/// A tracer provider, and what it finished.
#[derive(Debug)]
pub struct Spans {
    provider: SdkTracerProvider,
    exporter: InMemorySpanExporter,
}

impl Default for Spans {
    fn default() -> Self {
        Self::new()
    }
}

impl Spans {
    /// With one more processor, such as that of the embedded half.
    pub fn with_processor(processor: impl opentelemetry_sdk::trace::SpanProcessor + 'static) -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_simple_exporter(exporter.clone())
            .build();
        Self { provider, exporter }
    }

    /// With nothing beside.
    pub fn new() -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        Self { provider, exporter }
    }

    /// For `Instrumentation::with_tracer_provider`.
    pub fn provider(&self) -> &SdkTracerProvider {
        &self.provider
    }

    /// An instrumentation whose spans they are.
    pub fn instrumentation(&self, system: System) -> Instrumentation {
        Instrumentation::new(system).with_tracer_provider(&self.provider)
    }

    /// All that have ended.
    pub fn finished(&self) -> Vec<SpanData> {
        self.exporter.get_finished_spans().expect("nobody panicked while it exported")
    }

    /// Those of a name that have ended.
    pub fn named(&self, name: &str) -> Vec<SpanData> {
        let mut spans = self.finished();
        spans.retain(|span| span.name == name);
        spans
    }

    /// Those of an operation that have ended.
    pub fn of(&self, operation: Operation) -> Vec<SpanData> {
        let mut spans = self.finished();
        spans.retain(|span| attribute(span, key::OPERATION_TYPE).as_deref() == Some(operation.name()));
        spans
    }

    /// Those of a name that have ended, by their ids.
    pub fn by_id(&self, name: &str) -> HashMap<SpanId, SpanData> {
        self.named(name).into_iter().map(|span| (span.span_context.span_id(), span)).collect()
    }
}

/// A span's attribute as text.
pub fn attribute<'a>(span: &'a SpanData, key: &str) -> Option<Cow<'a, str>> {
    span.attributes.iter().find(|known| known.key.as_str() == key).map(|known| known.value.as_str())
}

/// An attribute of each span as text, to be compared with [`some`].
pub fn each<'a>(spans: &'a [SpanData], key: &str) -> Vec<Option<Cow<'a, str>>> {
    spans.iter().map(|span| attribute(span, key)).collect()
}

/// What an attribute is expected to be.
pub fn some(text: &str) -> Option<Cow<'_, str>> {
    Some(Cow::Borrowed(text))
}

/// Who a span is.
pub fn ids(span: &SpanData) -> Ids {
    of_context(&span.span_context)
}

/// Who its parent is, which is in its trace; invalid where it has none.
pub fn parent(span: &SpanData) -> Ids {
    (span.span_context.trace_id(), span.parent_span_id)
}

/// Which spans it links to.
pub fn links(span: &SpanData) -> Vec<Ids> {
    span.links.iter().map(|link| of_context(&link.span_context)).collect()
}

fn of_context(context: &SpanContext) -> Ids {
    (context.trace_id(), context.span_id())
}
