//! Spans as an exporter gets them.

use opentelemetry::trace::{SpanContext, SpanId};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use spanprof_messaging::{Instrumentation, System, TraceContext};

/// A provider, and what it has exported.
pub(crate) struct Exported {
    provider: SdkTracerProvider,
    exporter: InMemorySpanExporter,
}

impl Exported {
    pub(crate) fn new() -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        Self { provider, exporter }
    }

    pub(crate) fn instrumentation(&self, system: System) -> Instrumentation {
        Instrumentation::new(system).with_tracer_provider(&self.provider)
    }

    pub(crate) fn provider(&self) -> &SdkTracerProvider {
        &self.provider
    }

    /// The ended spans, in the order of their ends.
    pub(crate) fn spans(&self) -> Vec<SpanData> {
        self.exporter.get_finished_spans().expect("the exporter is not shut down")
    }

    /// The one span that has ended.
    pub(crate) fn span(&self) -> SpanData {
        let mut spans = self.spans();
        assert_eq!(spans.len(), 1, "{spans:#?}");
        spans.remove(0)
    }
}

/// A span's attribute as text.
pub(crate) fn attribute(span: &SpanData, key: &str) -> Option<String> {
    let mut values = span.attributes.iter().filter(|attribute| attribute.key.as_str() == key);
    let value = values.next().map(|attribute| attribute.value.to_string());
    assert!(values.next().is_none(), "{key} stands twice");
    value
}

/// The spans that a span links to.
pub(crate) fn linked(span: &SpanData) -> Vec<SpanId> {
    span.links.iter().map(|link| link.span_context.span_id()).collect()
}

/// The context of a message from elsewhere.
pub(crate) fn elsewhere(number: u8) -> (TraceContext<'static>, SpanContext) {
    use spanprof_context::{SpanId, TraceId};
    let context = TraceContext::new(TraceId([number; 16]), SpanId([number; 8]), 1).expect("valid");
    (context, context.to_opentelemetry())
}

/// The properties of a message that carries a context.
pub(crate) fn carrying(context: &TraceContext<'_>) -> Vec<(String, String)> {
    let mut properties = Vec::new();
    context.inject(&mut properties);
    properties
}
