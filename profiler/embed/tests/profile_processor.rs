//! The span processor: which spans can be found in profiles, and what their threads' records say.
#![cfg(feature = "opentelemetry-sdk")]

use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, Span, SpanData, SpanProcessor};
use spanprof::context::thread::capture;
use spanprof::{Attributes, Key, ProfileProcessor};
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;

fn install() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let agent = spanprof::Agent::builder().service_name("test").start().expect("nothing wrong was set");
        assert!(agent.notes().is_empty());
    });
}

/// Keeps the spans that have ended.
#[derive(Clone, Debug, Default)]
struct Ended(Arc<Mutex<Vec<SpanData>>>);

impl SpanProcessor for Ended {
    fn on_start(&self, _: &mut Span, _: &Context) {}
    fn on_end(&self, span: SpanData) {
        self.0.lock().unwrap().push(span);
    }
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }
    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Ended {
    fn profile_id(&self, name: &str) -> Option<String> {
        let spans = self.0.lock().unwrap();
        let span = spans.iter().find(|span| span.name == name).expect("the span has ended");
        let id = span.attributes.iter().find(|attribute| attribute.key.as_str() == "pyroscope.profile.id");
        let id = id.map(|attribute| attribute.value.to_string());
        assert!(id.is_none() || id == Some(span.span_context.span_id().to_string()));
        id
    }
}

fn tracer(processor: ProfileProcessor) -> (SdkTracer, Ended, SdkTracerProvider) {
    let ended = Ended::default();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_span_processor(ended.clone())
        .build();
    (provider.tracer("test"), ended, provider)
}

fn remote() -> Context {
    Context::new().with_remote_span_context(SpanContext::new(
        TraceId::from_bytes([7; 16]),
        SpanId::from_bytes([7; 8]),
        TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    ))
}

fn start(tracer: &SdkTracer, parent: &Context, name: &'static str, attributes: Vec<KeyValue>) -> Context {
    let span = tracer.span_builder(name).with_attributes(attributes).start_with_context(tracer, parent);
    parent.with_span(span)
}

fn id(context: &Context) -> String {
    context.span().span_context().span_id().to_string()
}

fn published(context: &Context) -> Attributes {
    let _attached = context.clone().attach();
    let (span, attributes) = capture().expect("the context has a span");
    assert_eq!(span.span_id.to_string(), id(context));
    attributes
}

#[test]
fn recorded_spans_can_be_found_in_profiles() {
    let (tracer, ended, _provider) = tracer(ProfileProcessor::new());
    let root = start(&tracer, &remote(), "root", vec![]);
    drop(start(&tracer, &root, "child", vec![]));
    drop(root);
    assert!(ended.profile_id("root").is_some() && ended.profile_id("child").is_some());
}

#[test]
fn only_local_roots_where_that_is_asked_for() {
    let (tracer, ended, _provider) = tracer(ProfileProcessor::new().local_roots_only());
    for parent in [remote(), Context::new()] {
        ended.0.lock().unwrap().clear();
        let root = start(&tracer, &parent, "root", vec![]);
        drop(start(&tracer, &root, "child", vec![]));
        drop(root);
        assert!(ended.profile_id("root").is_some());
        assert_eq!(ended.profile_id("child"), None);
    }
}

#[test]
fn records_tell_the_local_root_and_the_topic() {
    install();
    let (tracer, _, _provider) = tracer(ProfileProcessor::new());
    let orders = KeyValue::new("messaging.destination.name", "orders");
    let group = KeyValue::new("messaging.consumer.group.name", "billing");
    let root = start(&tracer, &remote(), "process", vec![orders, group, KeyValue::new("order", 7)]);
    let child = start(&tracer, &root, "parse", vec![]);
    for context in [&root, &child] {
        let attributes = published(context);
        assert_eq!(attributes.get(Key::LocalRootSpanId), Some(id(&root).as_str()));
        assert_eq!(attributes.get(Key::MessagingDestinationName), Some("orders"));
        assert_eq!(attributes.get(Key::MessagingConsumerGroupName), Some("billing"));
    }
    // A context that is made of it later, on another thread, as baggage does.
    let derived = std::thread::spawn({
        let child = child.clone();
        move || published(&child.with_value(7u64))
    });
    assert_eq!(derived.join().unwrap(), published(&child));
    let invoices = KeyValue::new("messaging.destination.name", "invoices");
    let send = published(&start(&tracer, &child, "send", vec![invoices]));
    assert_eq!(send.get(Key::LocalRootSpanId), Some(id(&root).as_str()));
    assert_eq!(send.get(Key::MessagingDestinationName), Some("invoices"));
    assert_eq!(send.get(Key::MessagingConsumerGroupName), None);
    // Another message in the same trace.
    let second = start(&tracer, &remote(), "process", vec![]);
    assert_eq!(published(&second).get(Key::LocalRootSpanId), Some(id(&second).as_str()));
    assert_eq!(published(&second).get(Key::MessagingDestinationName), None);
}

#[test]
fn attributes_given_to_a_context_are_inherited_too() {
    install();
    let (tracer, _, _provider) = tracer(ProfileProcessor::new());
    let orders = Arc::new(Attributes::new().with(Key::MessagingDestinationName, "orders"));
    let consumer = spanprof::with_attributes(&Context::new(), &orders);
    let root = start(&tracer, &consumer, "process", vec![]);
    let child = start(&tracer, &root, "parse", vec![KeyValue::new("messaging.operation.name", "process")]);
    let attributes = published(&child);
    assert_eq!(attributes.get(Key::LocalRootSpanId), Some(id(&root).as_str()));
    assert_eq!(attributes.get(Key::MessagingDestinationName), Some("orders"));
    assert_eq!(attributes.get(Key::MessagingOperationName), Some("process"));
    let refunds = Arc::new(Attributes::new().with(Key::MessagingDestinationName, "refunds"));
    let later = published(&spanprof::with_attributes(&child, &refunds));
    assert_eq!(later.get(Key::MessagingDestinationName), Some("refunds"), "the last word counts");
    assert_eq!(later.get(Key::LocalRootSpanId), Some(id(&root).as_str()));
}

#[test]
fn nothing_is_kept_of_spans_that_have_ended() {
    install();
    let (tracer, _, _provider) = tracer(ProfileProcessor::new());
    let orders = KeyValue::new("messaging.destination.name", "orders");
    let root = start(&tracer, &remote(), "process", vec![orders]);
    root.span().end();
    assert_eq!(published(&root.with_value(7u64)), Attributes::new(), "a new context finds no note");
}

#[test]
fn a_provider_that_ends_takes_its_own_notes_alone() {
    install();
    let orders = KeyValue::new("messaging.destination.name", "orders");
    let (first, _, ending) = tracer(ProfileProcessor::new());
    let (second, _, _provider) = tracer(ProfileProcessor::new());
    let (gone, kept) =
        [first, second].map(|tracer| start(&tracer, &remote(), "process", vec![orders.clone()])).into();
    ending.shutdown().expect("it ends");
    assert_eq!(published(&gone.with_value(7u64)), Attributes::new());
    assert_eq!(published(&kept.with_value(7u64)).get(Key::MessagingDestinationName), Some("orders"));
}

#[test]
fn spans_that_sampling_dropped_publish_their_ids_alone() {
    install();
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::AlwaysOff)
        .with_span_processor(ProfileProcessor::new())
        .build();
    let span = start(&provider.tracer("test"), &Context::new(), "dropped", vec![]);
    assert_eq!(published(&span), Attributes::new());
}

/// Fields of `tracing` reach the record with nothing changed in the handler.
#[test]
fn fields_of_tracing_reach_the_record() {
    install();
    let (tracer, _, _provider) = tracer(ProfileProcessor::new());
    let layer = tracing_opentelemetry::layer().with_tracer(tracer);
    let _subscriber = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let handler = async {
        let destination = || capture()?.1.get(Key::MessagingDestinationName).map(str::to_owned);
        assert_eq!(destination().as_deref(), Some("orders"));
        tokio::task::yield_now().await;
        async { assert_eq!(destination().as_deref(), Some("orders")) }
            .instrument(tracing::info_span!("parse"))
            .await;
    };
    let topic = String::from("orders");
    let span =
        tracing::info_span!("process", messaging.destination.name = %topic, messaging.system = "kafka");
    runtime.block_on(handler.instrument(span));
    assert_eq!(capture(), None);
}
