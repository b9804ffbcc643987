//! Gives passing spans the attribute by which Grafana offers "Profiles for this span", where their service does not.
//!
//! The attribute is the span's own id, under which its samples are in Pyroscope. All else of a request stays as it came, byte
//! for byte: fields that nobody knows here are somebody's. So a request is not decoded and written anew, but copied with the
//! attribute put behind each span's fields.

use super::fields::{Fields, Malformed, Value};

/// What Grafana looks for.
const KEY: &[u8] = b"pyroscope.profile.id";
/// Where spans lie in a request: resources' spans, scopes' spans, spans.
const WAY: [u32; 3] = [1, 2, 2];

/// The request with the attribute on each of its spans that has an id and not the attribute.
///
/// # Errors
/// When the bytes are no such message.
pub fn with_profile_ids(request: &[u8]) -> Result<Vec<u8>, Malformed> {
    // An attribute is 46 bytes, and a span rarely shorter than 200.
    let mut copy = Vec::with_capacity(request.len() + request.len() / 4);
    copy_down(request, &WAY, &mut copy)?;
    Ok(copy)
}

fn copy_down(message: &[u8], way: &[u32], copy: &mut Vec<u8>) -> Result<(), Malformed> {
    let Some((next, rest)) = way.split_first() else { return copy_span(message, copy) };
    let mut fields = Fields(message);
    loop {
        let before = fields.0;
        let Some(field) = fields.next() else { return Ok(()) };
        match field? {
            (number, Value::Bytes(inner)) if number == *next => {
                let mut inside = Vec::with_capacity(inner.len() + inner.len() / 4);
                copy_down(inner, rest, &mut inside)?;
                put(number as u8, &inside, copy);
            }
            _ => copy.extend_from_slice(&before[..before.len() - fields.0.len()]),
        }
    }
}

fn copy_span(span: &[u8], copy: &mut Vec<u8>) -> Result<(), Malformed> {
    copy.extend_from_slice(span);
    let mut id = None;
    for field in Fields(span) {
        match field? {
            (2, value) => id = Some(value.bytes()).filter(|id| id.len() == 8),
            (9, value) if is_profile_id(value.bytes())? => return Ok(()),
            _ => {}
        }
    }
    if let Some(id) = id {
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let (mut text, mut value, mut attribute) = (Vec::new(), Vec::new(), Vec::new());
        put(1, hex.as_bytes(), &mut text);
        put(1, KEY, &mut value);
        put(2, &text, &mut value);
        put(9, &value, &mut attribute);
        copy.extend(attribute);
    }
    Ok(())
}

fn is_profile_id(attribute: &[u8]) -> Result<bool, Malformed> {
    for field in Fields(attribute) {
        if let (1, value) = field? {
            return Ok(value.bytes() == KEY);
        }
    }
    Ok(false)
}

/// A field of bytes; its number is below 16.
fn put(number: u8, bytes: &[u8], into: &mut Vec<u8>) {
    into.push(number << 3 | 2);
    let mut length = bytes.len();
    while length > 0x7f {
        into.push(length as u8 | 0x80);
        length >>= 7;
    }
    into.push(length as u8);
    into.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Any};
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn attribute(key: &str, text: &str) -> KeyValue {
        let value = Some(AnyValue { value: Some(Any::StringValue(text.into())) });
        KeyValue { key: key.into(), value, ..KeyValue::default() }
    }

    fn span(id: &[u8], attributes: Vec<KeyValue>) -> Span {
        Span { span_id: id.to_vec(), name: "x".repeat(200), attributes, ..Span::default() }
    }

    fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
        let scope_spans = vec![ScopeSpans { spans, schema_url: "s".into(), ..ScopeSpans::default() }];
        let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
        ExportTraceServiceRequest { resource_spans }
    }

    fn given(request: &ExportTraceServiceRequest) -> ExportTraceServiceRequest {
        let bytes = with_profile_ids(&request.encode_to_vec()).expect("it is a request");
        ExportTraceServiceRequest::decode(&*bytes).expect("it still is one")
    }

    #[test]
    fn a_span_gets_its_own_id_beside_what_it_had() {
        let id = [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 2, 0xb7];
        let own = attribute("pyroscope.profile.id", "00f067aa0ba902b7");
        let had = attribute("messaging.destination.name", "orders");
        let expected = request(vec![span(&id, vec![had.clone(), own])]);
        assert_eq!(given(&request(vec![span(&id, vec![had])])), expected);
    }

    #[test]
    fn who_has_one_or_no_id_stays_as_it_is() {
        let theirs = request(vec![
            span(&[1; 8], vec![attribute("pyroscope.profile.id", "theirs")]),
            span(&[], Vec::new()),
            span(&[1; 7], Vec::new()),
        ]);
        assert_eq!(given(&theirs), theirs);
    }

    #[test]
    fn what_nobody_knows_stays_byte_for_byte() {
        let mut bytes = vec![0x7a, 3, b'n', b'e', b'w', 0x10, 0x96, 1, 0x19, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(with_profile_ids(&bytes), Ok(bytes.clone()));
        bytes.push(0x0a);
        assert_eq!(with_profile_ids(&bytes), Err(Malformed::CutOff));
    }

    proptest! {
        #[test]
        fn whatever_comes_ends_in_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = with_profile_ids(&bytes);
        }

        #[test]
        fn all_spans_get_one_and_twice_is_once(ids in prop::collection::vec(any::<[u8; 8]>(), 0..20)) {
            let spans: Vec<Span> = ids.iter().map(|id| span(id, Vec::new())).collect();
            let once = given(&request(spans));
            prop_assert!(once.resource_spans[0].scope_spans[0].spans.iter().all(|span| span.attributes.len() == 1));
            prop_assert_eq!(given(&once), once);
        }
    }
}
