//! The context as members of a JSON object, for payloads that are one.
//!
//! `traceparent`, and `tracestate` if there is one, become the first members of the outermost object; every byte of the
//! payload stays, so numbers, order and white space are what they were. A payload is touched only if **all** of it is one
//! valid object without such a member: whatever else it is, it goes out as it came.
//!
//! Reading looks at the outermost object's members alone, and takes the first `traceparent`. Keys written with escapes are
//! not ours. Both are one pass without recursion and without allocation, but for the new payload; objects within objects
//! go 128 deep, and payloads over [`LARGEST`] are left alone.

use std::borrow::Cow;

use crate::carrier::Carrier;
use crate::text::{TRACEPARENT, TRACESTATE};
use crate::{TraceContext, mqtt::json::scan::Scan};

mod scan;

/// The largest payload that is looked at, in bytes: eight times what a device's message has, yet a bound.
pub const LARGEST: usize = 1 << 20;

/// The payload with the context inserted; as it is without a context, or where it is not the place for one.
pub fn insert<'p>(payload: &'p [u8], context: Option<&TraceContext<'_>>) -> Cow<'p, [u8]> {
    let (Some(context), Some(place)) = (context, place(payload)) else { return Cow::Borrowed(payload) };
    let mut inserted =
        Vec::with_capacity(payload.len() + 80 + context.tracestate().map_or(0, |state| state.len() + 20));
    inserted.extend_from_slice(&payload[..place.at]);
    member(&mut inserted, TRACEPARENT, context.to_traceparent().as_str());
    if let Some(tracestate) = context.tracestate() {
        inserted.push(b',');
        member(&mut inserted, TRACESTATE, tracestate);
    }
    if !place.is_empty {
        inserted.push(b',');
    }
    inserted.extend_from_slice(&payload[place.at..]);
    Cow::Owned(inserted)
}

fn member(json: &mut Vec<u8>, key: &str, value: &str) {
    json.push(b'"');
    json.extend_from_slice(key.as_bytes());
    json.extend_from_slice(b"\":\"");
    for byte in value.bytes() {
        // A `tracestate` is printable ASCII, of which two need an escape.
        if matches!(byte, b'"' | b'\\') {
            json.push(b'\\');
        }
        json.push(byte);
    }
    json.push(b'"');
}

/// The context in a payload, if it is an object that has one.
///
/// A `tracestate` that was written with escapes is left out.
pub fn read(payload: &[u8]) -> Option<TraceContext<'_>> {
    let context = TraceContext::parse(value(payload, TRACEPARENT)?)?;
    Some(match value(payload, TRACESTATE) {
        Some(tracestate) => context.with_tracestate(tracestate),
        None => context,
    })
}

/// A payload as a carrier: reads as [`read`] does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Payload<'a>(pub &'a [u8]);

impl Carrier for Payload<'_> {
    fn value(&self, key: &str) -> Option<&[u8]> {
        value(self.0, key)
    }
}

/// Where members can be put.
struct Place {
    at: usize,
    /// Whether the object has no members.
    is_empty: bool,
}

/// `None` unless the whole payload is one valid object without our members.
fn place(payload: &[u8]) -> Option<Place> {
    let mut scan = Scan::of(payload)?;
    let at = scan.position();
    let mut is_empty = true;
    while let Some(found) = scan.member()? {
        if [TRACEPARENT, TRACESTATE].iter().any(|ours| found.key == ours.as_bytes()) {
            return None;
        }
        is_empty = false;
    }
    scan.is_at_end().then_some(Place { at, is_empty })
}

/// The first member of this key, if it is a string without escapes.
fn value<'p>(payload: &'p [u8], key: &str) -> Option<&'p [u8]> {
    let mut scan = Scan::of(payload)?;
    while let Some(found) = scan.member()? {
        if found.key == key.as_bytes() {
            let text = found.value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
            return (!text.contains(&b'\\')).then_some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn context() -> TraceContext<'static> {
        TraceContext::parse(TEXT).unwrap()
    }

    #[test]
    fn members_are_put_first_and_nothing_else_changes() {
        for (payload, expected) in [
            ("{}", format!("{{\"traceparent\":\"{TEXT}\"}}")),
            (" {\n}\n", format!(" {{\"traceparent\":\"{TEXT}\"\n}}\n")),
            ("{\"celsius\": 21.50}", format!("{{\"traceparent\":\"{TEXT}\",\"celsius\": 21.50}}")),
            (
                "{ \"a\":[1,{\"traceparent\":2}],\"b\":null }",
                format!("{{\"traceparent\":\"{TEXT}\", \"a\":[1,{{\"traceparent\":2}}],\"b\":null }}"),
            ),
        ] {
            let inserted = insert(payload.as_bytes(), Some(&context()));
            assert_eq!(std::str::from_utf8(&inserted), Ok(expected.as_str()));
            assert_eq!(read(&inserted), Some(context()));
        }
    }

    #[test]
    fn a_tracestate_goes_along() {
        let context = context().with_tracestate("a=1,b=2");
        let inserted = insert(b"{\"c\":1}", Some(&context));
        assert_eq!(read(&inserted), Some(context));
        assert!(serde_json::from_slice::<serde_json::Value>(&inserted).is_ok());
        let quoted = context.with_tracestate("a=\"\\");
        let inserted = insert(b"{}", Some(&quoted));
        assert!(serde_json::from_slice::<serde_json::Value>(&inserted).is_ok());
        assert_eq!(read(&inserted), Some(context.without_tracestate()));
    }

    #[test]
    fn whatever_is_no_object_is_left_alone() {
        let there = format!("{{\"traceparent\":\"{TEXT}\"}}");
        for payload in [
            "",
            "21.5",
            "\"text\"",
            "[{}]",
            "{",
            "{}}",
            "{} {}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{'a':1}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":nul}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "{{ template }}",
            "{\"a\":1 \"b\":2}",
            "\u{feff}{}",
            "{\"tracestate\":\"a=1\"}",
            "{\"traceparent\":null}",
            &there,
        ] {
            assert_eq!(insert(payload.as_bytes(), Some(&context())), payload.as_bytes(), "{payload}");
        }
        for payload in [&b"{\"a\":\"\xff\"}"[..], b"{\"\xff\":1}", b"\xf5SP\x01", b"{\"a\":1}\0"] {
            assert_eq!(insert(payload, Some(&context())), payload);
        }
        assert_eq!(insert(b"{}", None), &b"{}"[..]);
    }

    #[test]
    fn hostile_payloads_are_bounded() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(insert(deep.as_bytes(), Some(&context())), deep.as_bytes());
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(LARGEST));
        assert_eq!(insert(large.as_bytes(), Some(&context())), large.as_bytes());
        assert_eq!(read(large.as_bytes()), None);
    }

    #[test]
    fn the_first_outer_member_is_read() {
        let other = TEXT.replace('b', "c");
        for (payload, expected) in [
            (format!("{{\"x\":{{\"traceparent\":\"{other}\"}},\"traceparent\":\"{TEXT}\"}}"), true),
            (format!("{{\"traceparent\":\"{TEXT}\",\"traceparent\":\"{other}\"}}"), true),
            // What follows need not be whole: a reader takes what it can.
            (format!("{{\"traceparent\":\"{TEXT}\",\"cut off"), true),
            (format!("[{{\"traceparent\":\"{TEXT}\"}}]"), false),
            (format!("{{\"traceparent\":[\"{TEXT}\"]}}"), false),
            (format!("{{\"traceparent\":\"{}\"}}", TEXT.replace('-', "\\u002d")), false),
            ("{\"traceparent\":7}".to_owned(), false),
        ] {
            assert_eq!(read(payload.as_bytes()).is_some(), expected, "{payload}");
            if expected {
                assert_eq!(read(payload.as_bytes()), Some(context()));
            }
        }
    }
}
