//! What the examples share: where the broker is, and spans as lines on the terminal.
//!
//! A service has an exporter in place of [`PrintedSpans`], such as `opentelemetry-otlp`.

use std::time::Duration;

use opentelemetry::trace::{SpanId, Status};
use opentelemetry::{Context, global};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, Span, SpanData, SpanProcessor};
use rocketmq::conf::ClientOption;

/// Where RocketMQ's proxy is: as `ROCKETMQ_PROXY` says, or on its usual port.
#[must_use]
pub fn broker() -> ClientOption {
    let mut option = ClientOption::default();
    option.set_access_url(std::env::var("ROCKETMQ_PROXY").unwrap_or_else(|_| "127.0.0.1:8081".to_owned()));
    option.set_timeout(Duration::from_secs(10));
    option
}

/// Makes a tracer the global one whose spans are printed. Ends when what it returns is dropped.
#[must_use = "spans are printed as long as this lives"]
pub fn print_spans() -> SdkTracerProvider {
    let provider = SdkTracerProvider::builder().with_span_processor(PrintedSpans).build();
    global::set_tracer_provider(provider.clone());
    provider
}

/// After how many messages a consumer ends: its argument, or never.
#[must_use]
pub fn messages_wanted() -> usize {
    std::env::args().nth(1).and_then(|number| number.parse().ok()).unwrap_or(usize::MAX)
}

/// Prints a line for each span that ends: its trace, its parent, itself.
#[derive(Debug)]
pub struct PrintedSpans;

impl SpanProcessor for PrintedSpans {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        let parent = match span.parent_span_id {
            SpanId::INVALID => "no parent".to_owned(),
            parent => format!("parent {parent}"),
        };
        let linked = match span.links.len() {
            0 => String::new(),
            number => format!(", {number} linked"),
        };
        let failed = match &span.status {
            Status::Error { description } => format!(", failed: {description}"),
            _ => String::new(),
        };
        let context = &span.span_context;
        let (trace, id, name) = (context.trace_id(), context.span_id(), &span.name);
        println!("trace {trace}  span {id}  {parent:<23}  {name}{linked}{failed}");
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
