//! What an ordinary service sets up: `tracing` on OpenTelemetry, the W3C propagator, and the one call that makes
//! its active span visible to a profiler.

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;

/// What has to live as long as the service.
pub(crate) struct Telemetry {
    /// Sends what it gathered when dropped.
    _spanprof: spanprof::Agent,
    // Else it only has to live.
    #[cfg_attr(not(any(feature = "rocketmq", feature = "kafka")), expect(dead_code))]
    provider: SdkTracerProvider,
}

#[cfg(any(feature = "rocketmq", feature = "kafka"))]
impl Telemetry {
    /// Makes spans of a client that has helpers for them; samples within them carry topic and group.
    pub(crate) fn instrumentation(
        &self,
        system: spanprof_messaging::System,
    ) -> spanprof_messaging::Instrumentation {
        spanprof_messaging::Instrumentation::new(system)
            .with_tracer_provider(&self.provider)
            .with_attributes(spanprof::with_attributes)
    }
}

/// Sets up tracing for the whole process. Spans get ids and are sampled; their ends are told to a local agent, if there is one.
///
/// A service whose spans can't be published goes on: it says so and lacks them in profiles.
pub(crate) fn start(service_name: &'static str) -> Telemetry {
    let spanprof =
        spanprof::Agent::builder().service_name(service_name).start().expect("nothing wrong was set by hand");
    let provider =
        SdkTracerProvider::builder().with_span_processor(spanprof::ProfileProcessor::new()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer(service_name));
    // Below it are the spans of HTTP/2 within RocketMQ's client, several for each request.
    let subscriber = tracing_subscriber::registry().with(LevelFilter::INFO).with(layer);
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        eprintln!("{service_name}: tracing was set up before; its spans are the other subscriber's");
    }
    Telemetry { _spanprof: spanprof, provider }
}

/// A message's user properties as a carrier of trace context.
pub(crate) struct UserProperties<'a>(pub(crate) &'a mut Vec<(String, String)>);

impl Injector for UserProperties<'_> {
    fn set(&mut self, key: &str, value: String) {
        self.0.retain(|(name, _)| name != key);
        if !value.is_empty() {
            self.0.push((key.to_owned(), value));
        }
    }
}

struct ReceivedProperties<'a>(&'a [(String, String)]);

impl Extractor for ReceivedProperties<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// Writes the context's span into the properties of a message that is about to be sent.
pub(crate) fn inject(context: &Context, properties: &mut Vec<(String, String)>) {
    TraceContextPropagator::new().inject_context(context, &mut UserProperties(properties));
}

/// The context that a received message came with; an empty one if it carries none.
pub(crate) fn extract(properties: &[(String, String)]) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &ReceivedProperties(properties))
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};

    use super::*;

    #[test]
    fn a_context_survives_the_user_properties() {
        let sent = SpanContext::new(
            TraceId::from_bytes([7; 16]),
            SpanId::from_bytes([9; 8]),
            TraceFlags::SAMPLED,
            true,
            TraceState::default(),
        );
        let mut properties = vec![("traceparent".to_owned(), "stale".to_owned())];
        inject(&Context::new().with_remote_span_context(sent.clone()), &mut properties);
        assert_eq!(properties.iter().filter(|(name, _)| name == "traceparent").count(), 1);
        let received = extract(&properties);
        assert_eq!(received.span().span_context().trace_id(), sent.trace_id());
        assert_eq!(received.span().span_context().span_id(), sent.span_id());
    }

    #[test]
    fn an_entered_span_is_what_the_thread_publishes() {
        let _telemetry = start("demo-test");
        let span = tracing::info_span!("process");
        let published = span.in_scope(spanprof::context::thread::current).expect("a published span");
        let context = tracing_opentelemetry::OpenTelemetrySpanExt::context(&span);
        assert_eq!(published.span_id.0, context.span().span_context().span_id().to_bytes());
        assert_eq!(published.trace_id.0, context.span().span_context().trace_id().to_bytes());
        assert_eq!(spanprof::context::thread::current(), None);
    }

    #[test]
    fn nonsense_carries_no_context() {
        let received = extract(&[("traceparent".to_owned(), "00-zz".to_owned())]);
        assert!(!received.has_active_span());
    }
}
