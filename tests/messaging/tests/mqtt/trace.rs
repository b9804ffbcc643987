//! Numbers as messages, each in a trace that can be told from the number without any carrier.

use std::collections::HashSet;

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use spanprof_messaging_tests::Spans;

/// Within the request for which a number is sent.
pub(crate) fn request(number: u32) -> Context {
    let trace = TraceId::from(u128::from(number) + 1);
    let request = SpanContext::new(trace, REQUEST, TraceFlags::SAMPLED, true, TraceState::NONE);
    Context::new().with_remote_span_context(request)
}

const REQUEST: SpanId = SpanId::from_bytes([7; 8]);

/// The message of a number.
pub(crate) fn payload(number: u32) -> String {
    format!("{{ \"number\":{number}, \"celsius\":21.50 }}")
}

/// The number of a message, whoever changed it.
pub(crate) fn number_of(payload: &[u8]) -> u32 {
    let payload: serde_json::Value = serde_json::from_slice(payload).expect("it is JSON");
    let number = payload["number"].as_u64().and_then(|number| number.try_into().ok());
    number.expect("it is numbered")
}

/// By parent and by link, one to one, each in the trace of its number's request.
pub(crate) fn each_process_span_belongs_to_its_send_span(spans: &Spans, destination: &str, number: u32) {
    let sent = spans.by_id(&format!("publish {destination}"));
    let processed = spans.named(&format!("process {destination}"));
    assert_eq!((sent.len(), processed.len()), (number as usize, number as usize));
    let (mut creators, mut traces) = (HashSet::new(), HashSet::new());
    for process in &processed {
        let links: Vec<_> = process.links.iter().map(|link| link.span_context.span_id()).collect();
        assert_eq!(links, [process.parent_span_id]);
        let send = &sent[&process.parent_span_id];
        assert_eq!(process.span_context.trace_id(), send.span_context.trace_id());
        assert_eq!(send.parent_span_id, REQUEST);
        assert!(creators.insert(process.parent_span_id), "one process span for each that was sent");
        traces.insert(process.span_context.trace_id());
    }
    assert_eq!(traces, (0..number).map(|number| TraceId::from(u128::from(number) + 1)).collect());
}
