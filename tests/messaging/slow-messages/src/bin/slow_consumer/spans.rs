//! Spans as the tracer has them: kept here, and told to the agent where it takes them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanProcessor,
};
use spanprof_slow_messages::SpanTruth;

use crate::Failure;

/// Room for spans that wait to be told: more than any burst.
const QUEUE: usize = 1 << 17;

/// What has ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended(Arc<Mutex<Vec<SpanTruth>>>);

impl Ended {
    pub(crate) fn take(&self) -> Vec<SpanTruth> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl SpanProcessor for Ended {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        let wall = span.end_time.duration_since(span.start_time).unwrap_or_default();
        let truth = SpanTruth {
            trace: span.span_context.trace_id().to_string(),
            span: span.span_context.span_id().to_string(),
            name: span.name.into_owned(),
            wall_ns: wall.as_nanos() as u64,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(truth);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// A provider whose spans go to `ended` and, where there is an address, by OTLP to it.
pub(crate) fn provider(
    service: &str,
    ended: &Ended,
    address: Option<&str>,
) -> Result<SdkTracerProvider, Failure> {
    let resource = Resource::builder_empty().with_service_name(service.to_owned()).build();
    let builder = SdkTracerProvider::builder().with_resource(resource).with_span_processor(ended.clone());
    let Some(address) = address else { return Ok(builder.build()) };
    let exporter =
        SpanExporter::builder().with_http().with_endpoint(format!("http://{address}/v1/traces")).build()?;
    let config = BatchConfigBuilder::default().with_max_queue_size(QUEUE).build();
    let batches = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
    Ok(builder.with_span_processor(batches).build())
}
