//! Against the protocol's own types, and against bytes of any kind.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span as proto};
use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text_attribute(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.into()))
}

fn request(spans: Vec<Span>) -> Vec<u8> {
    let resource = Resource {
        attributes: vec![text_attribute("host.name", "here"), text_attribute("service.name", "billing")],
        ..Resource::default()
    };
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans =
        vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn read(request: &[u8]) -> Vec<FinishedSpan> {
    let mut read = Vec::new();
    let number = spans(request, |span| read.push(span)).expect("it is well-formed");
    assert_eq!(number, read.len());
    read
}

fn process_span() -> Span {
    Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        parent_span_id: vec![3; 8],
        name: "process orders".into(),
        kind: proto::SpanKind::Consumer as i32,
        start_time_unix_nano: 1_700_000_000_000_000_000,
        end_time_unix_nano: 1_700_000_000_480_000_000,
        attributes: vec![
            text_attribute("messaging.destination.name", "orders"),
            text_attribute("messaging.consumer.group.name", "billing"),
            text_attribute("messaging.operation.name", "process"),
            attribute("messaging.batch.message_count", any_value::Value::IntValue(32)),
            attribute("spanprof.messaging.delivery.attempt", any_value::Value::IntValue(3)),
        ],
        links: vec![proto::Link { trace_id: vec![4; 16], span_id: vec![5; 8], ..proto::Link::default() }],
        status: Some(Status { code: 2, message: "no stock".into() }),
        ..Span::default()
    }
}

#[test]
fn a_span_is_read_as_it_was_written() {
    let expected = FinishedSpan {
        span: ActiveSpan { trace_id: [1; 16], span_id: [2; 8] },
        parent: Some([3; 8]),
        kind: SpanKind::Consumer,
        start_unix_ns: 1_700_000_000_000_000_000,
        end_unix_ns: 1_700_000_000_480_000_000,
        failed: true,
        class: Class {
            service: "billing".into(),
            name: "process orders".into(),
            destination: "orders".into(),
            group: "billing".into(),
            operation: "process".into(),
        },
        messaging: Messaging { batch_size: Some(32), attempt: Some(3) },
        links: vec![ActiveSpan { trace_id: [4; 16], span_id: [5; 8] }],
    };
    let read = read(&request(vec![process_span()]));
    assert_eq!(read, [expected]);
    assert_eq!(read[0].wall(), std::time::Duration::from_millis(480));
}

#[test]
fn older_names_are_known_and_newer_ones_win() {
    let older = |attributes| Span { attributes, ..process_span() };
    let read = read(&request(vec![
        older(vec![
            text_attribute("messaging.rocketmq.client_group", "older"),
            text_attribute("messaging.operation", "receive"),
        ]),
        older(vec![
            text_attribute("messaging.consumer.group.name", "newer"),
            text_attribute("messaging.kafka.consumer.group", "older"),
        ]),
    ]));
    let classes: Vec<_> = read.iter().map(|span| (&*span.class.group, &*span.class.operation)).collect();
    assert_eq!(classes, [("older", "receive"), ("newer", "")]);
}

#[test]
fn ids_of_other_lengths_are_nobodys() {
    let read = read(&request(vec![Span { trace_id: vec![1; 15], span_id: vec![], ..process_span() }]));
    assert_eq!(read[0].span, ActiveSpan { trace_id: [0; 16], span_id: [0; 8] });
}

#[test]
fn huge_texts_are_cut_and_broken_ones_shown() {
    let read = read(&request(vec![Span { name: "x".repeat(1 << 20), ..process_span() }]));
    assert_eq!(read[0].class.name.len(), 256);
    assert_eq!(&*text(b"a\xff"), "a\u{fffd}");
}

#[test]
fn a_flood_of_empty_spans_is_refused() {
    // A scope with spans of two bytes each.
    let scope = [0x12, 0x00].repeat(MAX_SPANS + 1);
    let wrapped = [wrap(2, &scope)].concat();
    let request = wrap(1, &wrapped);
    let mut number = 0;
    assert_eq!(spans(&request, |_| number += 1), Err(Malformed::TooManySpans(MAX_SPANS)));
    assert_eq!(number, MAX_SPANS);
}

#[test]
fn depth_costs_nothing() {
    let mut value = vec![0x0a, 0];
    for _ in 0..100 {
        // An array in an array.
        value = wrap(5, &wrap(1, &value));
    }
    let deep = wrap(9, &[wrap(1, b"deep"), wrap(2, &value)].concat());
    let mut bytes = process_span().encode_to_vec();
    bytes.extend(deep);
    let request = wrap(1, &wrap(2, &wrap(2, &bytes)));
    assert_eq!(&*read(&request)[0].class.name, "process orders");
}

/// A message as a field of another.
fn wrap(field: u8, message: &[u8]) -> Vec<u8> {
    let mut wrapped = vec![field << 3 | 2];
    prost::encoding::encode_varint(message.len() as u64, &mut wrapped);
    wrapped.extend(message);
    wrapped
}

proptest! {
    /// Whatever comes, it is read or refused.
    #[test]
    fn anything_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = spans(&bytes, |_| {});
    }

    /// So are well-formed requests with bytes changed or cut.
    #[test]
    fn anything_near_a_request_is_read_or_refused(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        length in any::<prop::sample::Index>(),
    ) {
        let mut bytes = request(vec![process_span(), process_span()]);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(length.index(bytes.len()) + 1);
        let _ = spans(&bytes, |_| {});
    }
}
