//! The context in 29 bytes, for devices and links on which 55 of text are too many.
//!
//! The layout is the one of gRPC's `grpc-trace-bin`, which OpenCensus defined and W3C's draft of a binary format took over,
//! so that others can read it:
//!
//! | offset | bytes | value |
//! |---|---|---|
//! | 0 | 1 | version: 0 |
//! | 1 | 1 | field 0: trace id |
//! | 2 | 16 | the trace id |
//! | 18 | 1 | field 1: span id |
//! | 19 | 8 | the span id |
//! | 27 | 1 | field 2: flags |
//! | 28 | 1 | W3C's flags |
//!
//! A layout without the field numbers would save three bytes and be read by nobody else.
//!
//! Reading takes fields in any order, and the first of a kind. It stops at a field that it doesn't know, as nothing tells
//! that field's length, and at one that is cut off; what was read before stands. Missing flags are 0; a missing id, or one
//! that is all zero, means that there is no context. So does a version other than 0.

use spanprof_context::{SpanContext, SpanId, TraceId};

/// How long the binary form is, in bytes.
pub const SIZE: usize = 29;

const VERSION: u8 = 0;
const TRACE_ID: u8 = 0;
const SPAN_ID: u8 = 1;
const FLAGS: u8 = 2;

/// Flags that are defined: sampled and random.
const KNOWN_FLAGS: u8 = 0x03;

#[inline]
pub(crate) fn write(span: &SpanContext) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    bytes[0] = VERSION;
    bytes[1] = TRACE_ID;
    bytes[2..18].copy_from_slice(&span.trace_id.0);
    bytes[18] = SPAN_ID;
    bytes[19..27].copy_from_slice(&span.span_id.0);
    bytes[27] = FLAGS;
    bytes[28] = span.flags;
    bytes
}

#[inline]
pub(crate) fn parse(bytes: &[u8]) -> Option<SpanContext> {
    let [VERSION, fields @ ..] = bytes else { return None };
    let (mut trace_id, mut span_id, mut flags) = (None, None, None);
    let mut rest = fields;
    while let [field, value @ ..] = rest {
        let next = match *field {
            TRACE_ID => take(value, &mut trace_id),
            SPAN_ID => take(value, &mut span_id),
            FLAGS => take(value, &mut flags),
            _ => None,
        };
        let Some(next) = next else { break };
        rest = next;
        if trace_id.is_some() && span_id.is_some() && flags.is_some() {
            break;
        }
    }
    let [flags] = flags.unwrap_or_default();
    let span = SpanContext::new(TraceId(trace_id?), SpanId(span_id?), flags & KNOWN_FLAGS);
    span.is_valid().then_some(span)
}

/// Takes a field's value, and returns what follows it; `None` if it is cut off.
#[inline]
fn take<'a, const N: usize>(bytes: &'a [u8], field: &mut Option<[u8; N]>) -> Option<&'a [u8]> {
    let (value, rest) = bytes.split_first_chunk()?;
    field.get_or_insert(*value);
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: SpanContext = SpanContext::new(TraceId([0xab; 16]), SpanId([0xcd; 8]), 3);

    #[test]
    fn the_layout_is_the_documented_one() {
        let mut expected = vec![0, 0];
        expected.extend([0xab; 16]);
        expected.push(1);
        expected.extend([0xcd; 8]);
        expected.extend([2, 3]);
        assert_eq!(write(&SPAN).as_slice(), expected);
        assert_eq!(parse(&expected), Some(SPAN));
    }

    #[test]
    fn what_follows_does_not_matter() {
        let mut bytes = write(&SPAN).to_vec();
        bytes.extend([0, 1, 2, 3]);
        assert_eq!(parse(&bytes), Some(SPAN));
    }

    #[test]
    fn cut_off_or_unknown_fields_end_the_reading() {
        let bytes = write(&SPAN);
        for length in 0..SIZE {
            let read = parse(&bytes[..length]);
            // Flags alone may be missing.
            assert_eq!(read, (length >= 27).then_some(SpanContext { flags: 0, ..SPAN }), "{length}");
        }
        let mut unknown = bytes;
        unknown[18] = 7;
        assert_eq!(parse(&unknown), None);
    }

    #[test]
    fn any_order_will_do_and_the_first_counts() {
        let bytes = write(&SPAN);
        let turned =
            [&[0][..], &bytes[27..], &bytes[18..27], &[1, 9, 9, 9, 9, 9, 9, 9, 9], &bytes[1..18]].concat();
        assert_eq!(parse(&turned), Some(SPAN));
    }

    #[test]
    fn other_versions_and_empty_ids_are_refused() {
        let mut other = write(&SPAN);
        other[0] = 1;
        assert_eq!(parse(&other), None);
        assert_eq!(parse(&write(&SpanContext::new(TraceId([0; 16]), SPAN.span_id, 1))), None);
        assert_eq!(parse(&write(&SpanContext::new(SPAN.trace_id, SpanId([0; 8]), 1))), None);
        assert_eq!(parse(&[0, 2, 1, 2, 1, 2, 1]), None);
    }
}
