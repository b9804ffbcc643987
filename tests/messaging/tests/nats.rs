//! NATS, core and JetStream: nothing lost or doubled with spans on, every process span in the trace of its send span
//! and linked to it, and one more for each delivery.

use std::collections::HashSet;
use std::future::Future;
use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::{self, AckKind, stream};
use async_nats::{Client, HeaderMap};
use futures_util::StreamExt;
use opentelemetry::SpanId;
use spanprof_brokers::{Nats, require};
use spanprof_messaging::clients::nats;
use spanprof_messaging::{Instrumentation, System};
use spanprof_messaging_tests::{Spans, attribute};

const MESSAGES: usize = 2_000;

/// After this long a test hangs, on however slow a machine.
const HANGS: Duration = Duration::from_secs(300);

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("threads can be had");
    runtime.block_on(async { tokio::time::timeout(HANGS, test).await.expect("the test doesn't hang") })
}

fn instrumentation(spans: &Spans) -> Instrumentation {
    Instrumentation::new(System::Nats).with_tracer_provider(spans.provider())
}

async fn connect(broker: &Nats) -> Client {
    async_nats::connect(broker.address()).await.expect("it listens")
}

/// Other headers than ours, which have to arrive too.
fn headers(number: usize) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Number", number.to_string().as_str());
    headers
}

#[test]
fn each_message_of_a_queue_group_is_in_its_senders_trace() {
    let test = "each_message_of_a_queue_group_is_in_its_senders_trace";
    let Some(broker) = require(test, Nats::shared()) else { return };
    let spans = Spans::new();
    let producer = instrumentation(&spans).producer("orders");
    let consumer = instrumentation(&spans).consumer("orders", "billing");
    run(async {
        let client = connect(broker).await;
        let mut subscriber =
            client.queue_subscribe("orders", "billing".to_owned()).await.expect("it subscribes");
        let mut unknowing = client.subscribe("orders").await.expect("it subscribes");
        client.flush().await.expect("the server answers");
        for number in 0..MESSAGES {
            let sent = nats::publish(&producer, &client, "orders", headers(number), number.to_string()).await;
            sent.expect("the client runs");
        }
        for number in 0..MESSAGES {
            let message = subscriber.next().await.expect("the subscription goes on");
            let process = nats::process(&consumer, &message);
            assert_eq!(message.payload, number.to_string().as_bytes());
            let headers = message.headers.as_ref().expect("it has headers");
            assert_eq!(headers.get("Number").map(|value| value.as_str()), Some(number.to_string().as_str()));
            process.done();
            let unknowing = unknowing.next().await.expect("the subscription goes on");
            assert_eq!(unknowing.payload, number.to_string().as_bytes());
        }
    });
    let processed = each_process_span_belongs_to_its_send_span(&spans, "orders");
    assert_eq!(processed.len(), MESSAGES);
    assert!(
        spans
            .named("process orders")
            .iter()
            .all(|span| { attribute(span, "messaging.consumer.group.name").as_deref() == Some("billing") })
    );
}

#[test]
fn jetstream_delivers_again_within_the_same_trace() {
    let test = "jetstream_delivers_again_within_the_same_trace";
    let Some(broker) = require(test, Nats::shared()) else { return };
    let spans = Spans::new();
    let producer = instrumentation(&spans).producer("invoices");
    let consumer = instrumentation(&spans).consumer("invoices", "archive");
    run(async {
        let context = jetstream::new(connect(broker).await);
        let of_invoices = stream::Config {
            name: "INVOICES".to_owned(),
            subjects: vec!["invoices".to_owned()],
            ..stream::Config::default()
        };
        let stream = context.get_or_create_stream(of_invoices).await.expect("the stream is made");
        let archive = pull::Config { durable_name: Some("archive".to_owned()), ..pull::Config::default() };
        let archive = stream.create_consumer(archive).await.expect("the consumer is made");
        for number in 0..MESSAGES {
            let payload = number.to_string();
            let stored =
                nats::jetstream::publish(&producer, &context, "invoices", headers(number), payload).await;
            assert_eq!(stored.expect("the server answers").sequence, number as u64 + 1);
        }
        let mut messages = archive.messages().await.expect("the consumer is there");
        let mut settled = HashSet::new();
        while settled.len() < MESSAGES {
            let message = messages.next().await.expect("the consumer goes on").expect("the server answers");
            let process = nats::jetstream::process(&consumer, &message);
            let sequence = message.info().expect("it is JetStream's").stream_sequence;
            // Every hundredth fails at first.
            let fails = sequence % 100 == 0 && message.info().expect("it is JetStream's").delivered == 1;
            let kind = if fails {
                process.retried("handler", "not yet");
                AckKind::Nak(None)
            } else {
                process.done();
                assert!(settled.insert(sequence), "{sequence} came twice");
                AckKind::Ack
            };
            nats::jetstream::settle(&consumer, &message, kind).await.expect("the client runs");
        }
    });
    let processed = each_process_span_belongs_to_its_send_span(&spans, "invoices");
    assert_eq!(processed.len(), MESSAGES);
    let attempts = |attempt: &str| {
        let processed = spans.named("process invoices");
        let of_attempt =
            |span: &&_| attribute(span, "spanprof.messaging.delivery.attempt").as_deref() == Some(attempt);
        processed.iter().filter(of_attempt).count()
    };
    assert_eq!((attempts("1"), attempts("2")), (MESSAGES, MESSAGES / 100));
    assert_eq!(spans.named("nack invoices").len(), MESSAGES / 100);
    assert_eq!(spans.named("ack invoices").len(), MESSAGES);
}

/// By parent and by link. Who sent the messages that were processed.
fn each_process_span_belongs_to_its_send_span(spans: &Spans, destination: &str) -> HashSet<SpanId> {
    let sent = spans.by_id(&format!("publish {destination}"));
    assert_eq!(sent.len(), MESSAGES);
    let processed = spans.named(&format!("process {destination}"));
    for process in &processed {
        let links: Vec<_> = process.links.iter().map(|link| link.span_context.span_id()).collect();
        assert_eq!(links, [process.parent_span_id]);
        let send = &sent[&process.parent_span_id];
        assert_eq!(process.span_context.trace_id(), send.span_context.trace_id());
        for key in ["messaging.message.body.size", "spanprof.messaging.offset"] {
            assert_eq!(attribute(process, key), attribute(send, key), "both sides say the same");
        }
    }
    processed.iter().map(|process| process.parent_span_id).collect()
}
