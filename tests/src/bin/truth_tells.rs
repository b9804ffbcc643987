//! A service that tells its finished spans to the agent beside it, by the embedded half alone.
//!
//! Two threads work on messages of 2 ms, of which every fiftieth takes 60 ms; each is a span of OpenTelemetry's, half
//! of its time computing, half asleep. What a span took is told as the tracer saw it end.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanKind, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span, SpanData, SpanProcessor};
use serde_json::{Value, json};
use spanprof_tests::clock;
use spanprof_tests::truth_program::{TruthProgram, is_stopped};

const MILLISECOND_NS: u64 = 1_000_000;
const SLOW_EVERY: u64 = 50;

/// What the tracer knows of every span that has ended.
#[derive(Clone, Debug, Default)]
struct Ended(Arc<Mutex<Vec<Value>>>);

impl SpanProcessor for Ended {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        let unix_ns = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |t| t.as_nanos() as u64);
        let wall_ns = unix_ns(span.end_time).saturating_sub(unix_ns(span.start_time));
        let told = json!({
            "span_id": span.span_context.span_id().to_string(), "wall_ns": wall_ns,
            "is_slow": wall_ns >= 60 * MILLISECOND_NS,
        });
        self.0.lock().expect("nobody panics").push(told);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn work(tracer: &SdkTracer) {
    for number in 1.. {
        if is_stopped() {
            return;
        }
        let destination = KeyValue::new("messaging.destination.name", "orders");
        let builder = tracer.span_builder("process orders").with_kind(SpanKind::Consumer);
        let span = builder.with_attributes([destination]).start_with_context(tracer, &Context::new());
        let context = Context::new().with_span(span);
        let half = if number % SLOW_EVERY == 0 { 30 } else { 1 } * MILLISECOND_NS;
        let attached = context.clone().attach();
        clock::spin_cpu(half);
        clock::sleep_ns(half);
        drop(attached);
        context.span().end();
    }
}

fn main() {
    let program = TruthProgram::begin();
    let agent =
        spanprof::Agent::builder().service_name("truth_tells").start().expect("nothing wrong was set");
    let ended = Ended::default();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(ended.clone())
        .with_span_processor(spanprof::ProfileProcessor::new())
        .build();
    let tracer = provider.tracer("truth_tells");
    program.ready();
    let threads = ["first", "second"].map(|name| {
        let tracer = tracer.clone();
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(move || work(&tracer)).expect("a thread")
    });
    program.wait_for_end();
    for thread in threads {
        thread.join().expect("its messages");
    }
    // What is left is told to the agent before the truth is to the test.
    drop(agent);
    let spans = std::mem::take(&mut *ended.0.lock().expect("nobody panics"));
    program.tell(&json!({ "program": "truth_tells", "pid": std::process::id(), "spans": spans }));
}
