//! Spans that stay in memory, and questions to them.

use std::borrow::Cow;
use std::collections::HashMap;

use opentelemetry::SpanId;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};

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

    /// Those of a name that have ended, by their ids.
    pub fn by_id(&self, name: &str) -> HashMap<SpanId, SpanData> {
        self.named(name).into_iter().map(|span| (span.span_context.span_id(), span)).collect()
    }
}

/// A span's attribute as text.
pub fn attribute<'a>(span: &'a SpanData, key: &str) -> Option<Cow<'a, str>> {
    span.attributes.iter().find(|known| known.key.as_str() == key).map(|known| known.value.as_str())
}
