//! One span as OTLP's protobuf, written where it will lie.
//!
//! By hand, as an encoder of whole messages would first want the span as a structure of its own, with allocations for
//! each.

#[cfg(feature = "opentelemetry-sdk")]
use std::time::{SystemTime, UNIX_EPOCH};

/// Longer texts are cut, at a character's beginning. The agent keeps as much.
const LONGEST_TEXT: usize = 256;
/// The agent keeps no more links of one span.
const MOST_LINKS: usize = 1_024;
/// A span without name, attributes and links.
const SPAN_BYTES: usize = 96;
const LINK_BYTES: usize = 32;
const ATTRIBUTE_BYTES: usize = 16;

/// What the agent reads of a span's attributes: today's names, then older ones.
const ATTRIBUTES: [&str; 10] = [
    "messaging.destination.name",
    "messaging.consumer.group.name",
    "messaging.operation.name",
    "messaging.batch.message_count",
    "spanprof.messaging.delivery.attempt",
    "messaging.destination",
    "messaging.kafka.consumer.group",
    "messaging.rocketmq.client_group",
    "messaging.consumer_group",
    "messaging.operation",
];

/// Which attributes are told.
pub(crate) fn is_told(name: &str) -> bool {
    (name.starts_with("messaging.") || name.starts_with("spanprof.")) && ATTRIBUTES.contains(&name)
}

/// The most bytes of a span with such a name and so many links, with attributes of so many bytes (see
/// [`attribute_bytes`]).
pub(crate) fn most_bytes(name: &str, attributes: usize, links: usize) -> usize {
    SPAN_BYTES + name.len().min(LONGEST_TEXT) + attributes + links.min(MOST_LINKS) * LINK_BYTES
}

/// The most bytes of an attribute.
pub(crate) fn attribute_bytes(name: &str, text: &str) -> usize {
    ATTRIBUTE_BYTES + name.len() + text.len().min(LONGEST_TEXT)
}

/// OpenTelemetry's kinds of span, as OTLP counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
    Producer = 4,
    Consumer = 5,
}

/// Nanoseconds since 1970; zero before.
#[cfg(feature = "opentelemetry-sdk")]
pub(crate) fn unix_nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Writes one span; everything by name of OTLP's `Span`.
pub(crate) struct SpanWriter<'a>(&'a mut Vec<u8>);

/// Field 2 of `ScopeSpans`, whose length is not known yet: three bytes take any below two million.
const LENGTH: usize = 3;

impl<'a> SpanWriter<'a> {
    /// Writes a whole span at the end of the bytes.
    pub(super) fn whole(bytes: &'a mut Vec<u8>, write: impl FnOnce(&mut SpanWriter<'_>)) {
        bytes.push(2 << 3 | 2);
        let begin = bytes.len() + LENGTH;
        bytes.extend_from_slice(&[0; LENGTH]);
        write(&mut SpanWriter(bytes));
        let length = bytes.len() - begin;
        let parts = [length as u8 | 0x80, (length >> 7) as u8 | 0x80, (length >> 14) as u8 & 0x7f];
        bytes[begin - LENGTH..begin].copy_from_slice(&parts);
    }

    pub(crate) fn ids(&mut self, trace_id: [u8; 16], span_id: [u8; 8], parent: Option<[u8; 8]>) {
        self.bytes(1, &trace_id);
        self.bytes(2, &span_id);
        if let Some(parent) = parent {
            self.bytes(4, &parent);
        }
    }

    pub(crate) fn name(&mut self, name: &str, kind: Kind) {
        self.bytes(5, cut(name).as_bytes());
        self.number(6, kind as u64);
    }

    /// In nanoseconds since 1970.
    pub(crate) fn times(&mut self, begin: u64, end: u64) {
        for (field, time) in [(7, begin), (8, end)] {
            self.0.push(field << 3 | 1);
            self.0.extend_from_slice(&time.to_le_bytes());
        }
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        let value = cut(value);
        let any = 1 + varint_length(value.len()) + value.len();
        self.key(key, any);
        self.bytes(1, value.as_bytes());
    }

    #[cfg(feature = "opentelemetry-sdk")]
    pub(crate) fn whole_number(&mut self, key: &str, value: u64) {
        self.key(key, 1 + varint_length(value as usize));
        self.number(3, value);
    }

    /// An attribute up to its value, which takes so many bytes.
    fn key(&mut self, key: &str, any: usize) {
        let length = 1 + varint_length(key.len()) + key.len() + 1 + varint_length(any) + any;
        self.length(9, length);
        self.bytes(1, key.as_bytes());
        self.length(2, any);
    }

    #[cfg(feature = "opentelemetry-sdk")]
    pub(crate) fn links(&mut self, links: impl Iterator<Item = ([u8; 16], [u8; 8])>) {
        for (trace_id, span_id) in links.take(MOST_LINKS) {
            self.length(13, 2 + 16 + 2 + 8);
            self.bytes(1, &trace_id);
            self.bytes(2, &span_id);
        }
    }

    /// The status of a span that failed.
    #[cfg(feature = "opentelemetry-sdk")]
    pub(crate) fn failed(&mut self) {
        self.bytes(15, &[3 << 3, 2]);
    }

    fn bytes(&mut self, field: u8, bytes: &[u8]) {
        self.length(field, bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn length(&mut self, field: u8, length: usize) {
        self.0.push(field << 3 | 2);
        varint(self.0, length as u64);
    }

    fn number(&mut self, field: u8, value: u64) {
        self.0.push(field << 3);
        varint(self.0, value);
    }
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn varint_length(value: usize) -> usize {
    (usize::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_TEXT)]
}

/// The beginning of an `ExportTraceServiceRequest` of a service's spans that take so many bytes.
pub(super) fn request(service: &str, spans: &[u8]) -> Vec<u8> {
    let mut resource = Vec::new();
    // A resource's attributes have another number than a span's.
    let mut attribute = Vec::new();
    let mut value = Vec::new();
    SpanWriter(&mut value).bytes(1, cut(service).as_bytes());
    SpanWriter(&mut attribute).bytes(1, b"service.name");
    SpanWriter(&mut attribute).bytes(2, &value);
    SpanWriter(&mut resource).bytes(1, &attribute);
    let mut of_resource = Vec::with_capacity(spans.len() + resource.len() + 32);
    SpanWriter(&mut of_resource).bytes(1, &resource);
    SpanWriter(&mut of_resource).bytes(2, spans);
    let mut request = Vec::with_capacity(of_resource.len() + 8);
    SpanWriter(&mut request).bytes(1, &of_resource);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(write: impl FnOnce(&mut SpanWriter<'_>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        SpanWriter::whole(&mut bytes, write);
        bytes
    }

    #[test]
    fn a_span_is_as_its_protobuf_says() {
        let bytes = span(|span| {
            span.ids([1; 16], [2; 8], Some([3; 8]));
            span.name("process", Kind::Consumer);
            span.times(7, 300);
            span.text("k", "v");
        });
        let body = [
            &[0x0a, 16][..],
            &[1; 16],
            &[0x12, 8],
            &[2; 8],
            &[0x22, 8],
            &[3; 8], // Ids.
            &[0x2a, 7],
            b"process",
            &[0x30, 5], // Name and kind.
            &[0x39, 7, 0, 0, 0, 0, 0, 0, 0],
            &[0x41, 44, 1, 0, 0, 0, 0, 0, 0],                  // Times.
            &[0x4a, 8, 0x0a, 1, b'k', 0x12, 3, 0x0a, 1, b'v'], // An attribute.
        ]
        .concat();
        assert_eq!(bytes[0], 0x12);
        assert_eq!(bytes[1..4], [body.len() as u8 | 0x80, 0x80 | (body.len() >> 7) as u8, 0]);
        assert_eq!(bytes[4..], body);
    }

    #[test]
    fn no_span_is_longer_than_was_said() {
        let name = "ü".repeat(300);
        for key in ATTRIBUTES {
            let bytes = span(|span| {
                span.ids([1; 16], [2; 8], Some([3; 8]));
                span.name(&name, Kind::Internal);
                span.times(u64::MAX, u64::MAX);
                span.text(key, &name);
            });
            assert!(bytes.len() <= most_bytes(&name, attribute_bytes(key, &name), 0), "{key}");
            assert!(is_told(key));
        }
        assert!(!is_told("messaging.message.id") && !is_told("user.name"));
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut(&"ü".repeat(300)).len(), 256);
        assert_eq!(cut(&"€".repeat(300)).len(), 255);
        assert_eq!(cut("orders"), "orders");
    }

    #[test]
    fn lengths_of_numbers_are_those_that_are_written() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::MAX] {
            let mut bytes = Vec::new();
            varint(&mut bytes, value);
            assert_eq!(bytes.len(), varint_length(value as usize), "{value}");
        }
    }
}
