//! The helper with the client itself, on the broker that librdkafka has inside for tests.

use std::time::Duration;

use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::OwnedMessage;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};

use super::*;
use crate::{Instrumentation, System, TraceContext};

const CONTEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn instrumentation() -> (Instrumentation, InMemorySpanExporter) {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    (Instrumentation::new(System::Kafka).with_tracer_provider(&provider), exporter)
}

fn named(spans: &[SpanData], name: &str) -> Vec<SpanData> {
    spans.iter().filter(|span| span.name == name).cloned().collect()
}

fn attribute<'a>(span: &'a SpanData, key: &str) -> Option<std::borrow::Cow<'a, str>> {
    span.attributes.iter().find(|known| known.key.as_str() == key).map(|known| known.value.as_str())
}

#[test]
fn the_context_of_the_last_header_counts_and_is_replaced() {
    let mut headers = Some(
        OwnedHeaders::new()
            .insert(Header { key: "traceparent", value: Some("old") })
            .insert(Header { key: "other", value: None::<&str> })
            .insert(Header { key: "traceparent", value: Some(CONTEXT) }),
    );
    assert_eq!(Received(headers.as_ref()).value("traceparent"), Some(CONTEXT.as_bytes()));
    Sent(&mut headers).set_value("traceparent", "new");
    Sent(&mut headers).remove_value("absent");
    let headers = headers.unwrap();
    let all = headers.iter().map(|header| (header.key, header.value)).collect::<Vec<_>>();
    assert_eq!(all, [("other", None), ("traceparent", Some(&b"new"[..]))]);
    assert_eq!(Received(None::<&OwnedHeaders>).value("traceparent"), None);
    let mut none = None;
    Sent(&mut none).remove_value("traceparent");
    assert!(none.is_none(), "no headers are made for nothing");
}

#[test]
fn bytes_that_are_no_context_are_none() {
    let headers = OwnedHeaders::new().insert(Header { key: "traceparent", value: Some(&[0xff; 55][..]) });
    assert_eq!(TraceContext::extract(&Received(Some(&headers))), None);
}

#[test]
fn the_highest_offset_of_each_partition_is_committed() {
    let at = |partition, offset| {
        OwnedMessage::new(None, None, "t".into(), Timestamp::NotAvailable, partition, offset, None)
    };
    let offsets = offsets(&[at(0, 7), at(1, 3), at(0, 9), at(0, 8), at(1, i64::MAX)]).unwrap();
    assert_eq!(offsets.count(), 2);
    assert_eq!(offsets.find_partition("t", 0).unwrap().offset(), Offset::Offset(10));
    assert_eq!(offsets.find_partition("t", 1).unwrap().offset(), Offset::Offset(i64::MAX));
}

#[test]
fn errors_have_a_word_of_low_cardinality() {
    let produced = |code| error_type(&KafkaError::MessageProduction(code));
    assert_eq!(produced(RDKafkaErrorCode::MessageTimedOut), "_MSG_TIMED_OUT");
    assert_eq!(produced(RDKafkaErrorCode::UnknownTopicOrPartition), "UNKNOWN_TOPIC_OR_PARTITION");
    assert_eq!(produced(RDKafkaErrorCode::BadCompression), "_OTHER");
    assert_eq!(error_type(&KafkaError::Canceled), "canceled");
}

#[test]
fn one_trace_from_the_producer_to_a_batch_that_is_committed() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("orders", 1, 1).unwrap();
    let mut configuration = ClientConfig::new();
    configuration.set("bootstrap.servers", cluster.bootstrap_servers());
    let (instrumentation, exporter) = instrumentation();

    let orders = instrumentation.producer("orders");
    let client: ThreadedProducer<_> = configuration.create_with_context(EndsSpans).unwrap();
    for key in ["a", "b", "c"] {
        let record = sending_base(&orders, BaseRecord::to("orders").key(key).payload("a book"));
        client.send(record).map_err(|(error, record)| refused(record, error)).unwrap();
    }
    client.flush(Duration::from_secs(60)).unwrap();
    let sent = named(&exporter.get_finished_spans().unwrap(), "send orders");
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|span| span.span_kind == SpanKind::Producer));
    assert_eq!(attribute(&sent[2], "messaging.kafka.offset").as_deref(), Some("2"));

    let orders = instrumentation.consumer("orders", "billing");
    configuration.set("group.id", "billing").set("auto.offset.reset", "earliest");
    let client: BaseConsumer = configuration.set("enable.auto.commit", "false").create().unwrap();
    client.subscribe(&["orders"]).unwrap();
    let mut batch = Vec::new();
    while batch.len() < 3 {
        batch.extend(poll_batch(&orders, &client, 32, Duration::from_secs(60)).unwrap());
    }
    for message in &batch {
        process(&orders, message).done();
    }
    commit_batch(&orders, &client, &batch, CommitMode::Sync).unwrap();
    let committed = client.committed(Duration::from_secs(60)).unwrap();
    assert_eq!(committed.find_partition("orders", 0).unwrap().offset(), Offset::Offset(3));

    let spans = exporter.get_finished_spans().unwrap();
    for (sent, processed) in sent.iter().zip(named(&spans, "process orders")) {
        assert_eq!(processed.span_context.trace_id(), sent.span_context.trace_id());
        assert_eq!(processed.parent_span_id, sent.span_context.span_id());
    }
    let received = named(&spans, "poll orders");
    assert_eq!(received.iter().map(|span| span.links.len()).sum::<usize>(), 3);
    let settled = named(&spans, "commit orders");
    assert_eq!(settled.iter().map(|span| span.links.len()).collect::<Vec<_>>(), [3]);
}
