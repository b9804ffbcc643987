//! Finished spans on their way to the agent on this machine: what it is told, and what costs nothing where nobody
//! listens.
#![cfg(all(feature = "finished-spans", feature = "opentelemetry-sdk", feature = "tracing"))]

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry::trace::{Link, SpanContext, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_sdk::trace::SdkTracerProvider;
use prost::Message;
use spanprof::ProfileProcessor;
use spanprof_exporter::local::{LocalReceiver, Wanted};
use tracing_subscriber::layer::SubscriberExt;

/// One of these tests at a time: a process tells one agent.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn agent(socket: &Path) -> spanprof::Agent {
    let builder = spanprof::Agent::builder().service_name("orders").local_agent(socket);
    builder.start().expect("nothing wrong was set")
}

/// What was told, request by request.
type Told = Arc<Mutex<Vec<ExportTraceServiceRequest>>>;

fn receiver(socket: &Path) -> (LocalReceiver, Told) {
    let told = Told::default();
    let into = Arc::clone(&told);
    let take = move |request: Vec<u8>| {
        let request = ExportTraceServiceRequest::decode(&*request);
        request.map(|request| into.lock().unwrap().push(request)).is_ok()
    };
    let wanted = Wanted { profiles: true, spans: Some(Box::new(take)) };
    (LocalReceiver::bind_for(socket, wanted).expect("a free path"), told)
}

/// All spans by name, after every request was found to be the service's.
fn spans(told: &Told) -> Vec<Span> {
    let mut spans = Vec::new();
    for of_resource in told.lock().unwrap().iter().flat_map(|request| &request.resource_spans) {
        let resource = of_resource.resource.as_ref().expect("a resource");
        assert_eq!(text(&resource.attributes, "service.name").as_deref(), Some("orders"));
        spans.extend(of_resource.scope_spans.iter().flat_map(|scope| scope.spans.clone()));
    }
    spans.sort_by(|a, b| a.name.cmp(&b.name));
    spans
}

fn text(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value?;
    match value {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_agent_is_told_what_a_span_was() {
    let _turn = turn();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent.sock");
    let (receiver, told) = receiver(&socket);
    let agent = agent(&socket);
    let provider = SdkTracerProvider::builder().with_span_processor(ProfileProcessor::new()).build();
    let tracer = provider.tracer("test");
    let parent = Context::new().with_span(tracer.start_with_context("b parent", &Context::new()));
    let linked: SpanContext = parent.span().span_context().clone();
    let attributes = [
        KeyValue::new("messaging.destination.name", "orders"),
        KeyValue::new("messaging.batch.message_count", 300),
        KeyValue::new("customer", "nobody's business"),
    ];
    let builder = tracer.span_builder("a process").with_kind(SpanKind::Consumer);
    let builder = builder.with_attributes(attributes).with_links(vec![Link::with_context(linked.clone())]);
    let process = parent.with_span(builder.start_with_context(&tracer, &parent));
    process.span().set_status(Status::error("it broke"));
    let ids = process.span().span_context().clone();
    process.span().end();
    parent.span().end();
    drop(agent);

    let spans = spans(&told);
    let [process, parent] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(process.name, "a process");
    assert_eq!(process.trace_id, ids.trace_id().to_bytes());
    assert_eq!(process.span_id, ids.span_id().to_bytes());
    assert_eq!(process.parent_span_id, linked.span_id().to_bytes());
    assert_eq!(process.kind, 5);
    assert!(process.start_time_unix_nano >= parent.start_time_unix_nano);
    assert!(process.end_time_unix_nano >= process.start_time_unix_nano);
    assert!(parent.end_time_unix_nano >= process.end_time_unix_nano);
    assert_eq!(text(&process.attributes, "messaging.destination.name").as_deref(), Some("orders"));
    assert_eq!(text(&process.attributes, "messaging.batch.message_count").as_deref(), Some("300"));
    assert_eq!(process.attributes.len(), 2, "what is no messaging is nobody's business");
    assert_eq!(
        (process.links.len(), process.links[0].span_id.as_slice()),
        (1, &linked.span_id().to_bytes()[..])
    );
    assert_eq!(process.status.as_ref().expect("a status").code, 2);
    assert_eq!((parent.name.as_str(), parent.kind, parent.parent_span_id.len()), ("b parent", 1, 0));
    assert!(parent.status.is_none());
    assert_eq!(receiver.counts().malformed, 0);
}

#[test]
fn the_layer_tells_them_without_opentelemetry() {
    let _turn = turn();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent.sock");
    let (_receiver, told) = receiver(&socket);
    let agent = agent(&socket);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(spanprof::layer()), || {
        let outer = tracing::info_span!("outer", messaging.destination.name = "orders");
        let inner = outer.in_scope(|| tracing::info_span!("inner", trace_id = tracing::field::Empty));
        // What is recorded later doesn't make it begin anew.
        inner.record("trace_id", "0af7651916cd43dd8448eb211c80319c");
        drop(inner);
    });
    drop(agent);
    let spans = spans(&told);
    let [inner, outer] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((inner.name.as_str(), outer.name.as_str()), ("inner", "outer"));
    assert_eq!(inner.parent_span_id, outer.span_id);
    assert!(inner.start_time_unix_nano >= outer.start_time_unix_nano);
    assert!(inner.end_time_unix_nano <= outer.end_time_unix_nano);
    for span in [inner, outer] {
        assert_eq!(text(&span.attributes, "messaging.destination.name").as_deref(), Some("orders"));
    }
}

#[test]
fn where_nobody_takes_them_they_are_lost_and_counted() {
    let _turn = turn();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent.sock");
    let provider = SdkTracerProvider::builder().with_span_processor(ProfileProcessor::new()).build();
    let tracer = provider.tracer("test");
    let end_one = || drop(tracer.start("one"));

    let nobody = agent(&socket);
    let before = nobody.finished_spans();
    end_one();
    drop(nobody);
    let receiver = LocalReceiver::bind(&socket).expect("a free path");
    let unwanted = agent(&socket);
    assert_eq!(unwanted.finished_spans().lost, before.lost + 1);
    end_one();
    // The agent's word ends the gathering.
    while unwanted.finished_spans().lost == before.lost + 1 {
        std::thread::yield_now();
    }
    end_one();
    let counts = unwanted.finished_spans();
    assert_eq!((counts.told, counts.lost), (before.told, before.lost + 2));
    drop(unwanted);
    assert_eq!(receiver.counts().unwanted, 1);
}

#[test]
fn without_an_agent_s_socket_nothing_is_gathered() {
    let _turn = turn();
    let agent = spanprof::Agent::builder().service_name("orders").start().expect("nothing wrong was set");
    let provider = SdkTracerProvider::builder().with_span_processor(ProfileProcessor::new()).build();
    let before = agent.finished_spans();
    drop(provider.tracer("test").start("one"));
    assert_eq!(agent.finished_spans(), before);
    drop(agent);
}
