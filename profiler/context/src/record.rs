//! The thread record of OTEP 4947: its layout, and a parser for the bytes of one.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 16 | trace id, W3C byte order; all zero = none |
//! | 16 | 8 | span id, W3C byte order |
//! | 24 | 1 | valid: 1 = usable, anything else = ignore the record |
//! | 25 | 1 | W3C trace flags |
//! | 26 | 2 | size of the attributes, host-endian |
//! | 28 | n | attributes: key index (1), length (1), `length` bytes of UTF-8, back to back |
//!
//! The parser is a pure function of a byte slice: how the bytes come out of the other process (a BPF program,
//! `process_vm_readv`, one's own memory) is not its concern.

use crate::ids::{SpanContext, SpanId, TraceId};

/// Name of the ELF TLS symbol (8 bytes) that holds a thread's pointer to its record, or null.
pub const THREAD_SYMBOL: &str = "otel_thread_ctx_v1";
/// Size of the fixed part of a record.
pub const HEADER_SIZE: usize = 28;
/// Offset of the trace id, 16 bytes.
pub const TRACE_ID_OFFSET: usize = 0;
/// Offset of the span id, 8 bytes.
pub const SPAN_ID_OFFSET: usize = 16;
/// Offset of the valid byte.
pub const VALID_OFFSET: usize = 24;
/// Offset of the trace flags byte.
pub const FLAGS_OFFSET: usize = 25;
/// Offset of the attributes' size, a host-endian `u16`.
pub const ATTRIBUTES_SIZE_OFFSET: usize = 26;
/// Offset of the attributes.
pub const ATTRIBUTES_OFFSET: usize = HEADER_SIZE;
/// The largest whole record, as recommended by the standard; what a reader needs to hold.
pub const MAXIMUM_SIZE: usize = 640;
/// The most bytes of attributes in a record.
pub const MAXIMUM_ATTRIBUTES_SIZE: usize = MAXIMUM_SIZE - HEADER_SIZE;
/// The valid byte's value in a usable record.
pub const VALID: u8 = 1;
/// Offset of our writer's sequence word from the thread's slot (the pointer), in bytes.
///
/// Present only where the process context says so
/// ([`SEQUENCE_ATTRIBUTE`](crate::process::SEQUENCE_ATTRIBUTE)).
pub const SEQUENCE_OFFSET: usize = 8;

/// A record, borrowed from the bytes that were read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    span_context: Option<SpanContext>,
    attributes: &'a [u8],
    declared_attributes_size: u16,
}

impl<'a> Record<'a> {
    /// Parses the bytes at a thread's pointer.
    ///
    /// `None` when there are fewer than [`HEADER_SIZE`] bytes or the record is not marked valid; both mean that
    /// nothing is known about the thread now. Bytes after the record's end, and after [`MAXIMUM_SIZE`], are
    /// ignored, so a fixed-size buffer may be passed whole.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header: &[u8; HEADER_SIZE] = bytes.first_chunk()?;
        if header[VALID_OFFSET] != VALID {
            return None;
        }
        let trace_id = TraceId(*header.first_chunk().expect("a header holds a trace id"));
        let span_id = SpanId(*header[SPAN_ID_OFFSET..].first_chunk().expect("a header holds a span id"));
        let span_context = SpanContext::new(trace_id, span_id, header[FLAGS_OFFSET]);
        let declared =
            u16::from_ne_bytes([header[ATTRIBUTES_SIZE_OFFSET], header[ATTRIBUTES_SIZE_OFFSET + 1]]);
        let end = (HEADER_SIZE + usize::from(declared)).min(MAXIMUM_SIZE).min(bytes.len());
        Some(Self {
            span_context: span_context.is_valid().then_some(span_context),
            attributes: &bytes[HEADER_SIZE..end],
            declared_attributes_size: declared,
        })
    }

    /// The active span, or `None` where the record carries attributes only.
    pub fn span_context(&self) -> Option<SpanContext> {
        self.span_context
    }

    /// Whether the record claims more attributes than were read or than the standard's ceiling admits.
    pub fn is_truncated(&self) -> bool {
        self.attributes.len() < usize::from(self.declared_attributes_size)
    }

    /// Number of attribute bytes that the record claims, which may be more than were read.
    pub fn declared_attributes_size(&self) -> usize {
        usize::from(self.declared_attributes_size)
    }

    /// The attributes as written: (key index, value), in order. A key may occur more than once: the last counts,
    /// so use [`Record::attribute`] to look one up.
    pub fn attributes(&self) -> AttributeIterator<'a> {
        AttributeIterator { rest: self.attributes }
    }

    /// The value of the key at this index of the process's key map: its last occurrence, if it is UTF-8.
    pub fn attribute(&self, key_index: u8) -> Option<&'a str> {
        let (_, value) = self.attributes().filter(|(index, _)| *index == key_index).last()?;
        std::str::from_utf8(value).ok()
    }
}

/// Iterates over a record's attributes; made by [`Record::attributes`].
///
/// Ends at the first entry that the remaining bytes cannot hold, as the standard asks.
#[derive(Clone, Debug)]
pub struct AttributeIterator<'a> {
    rest: &'a [u8],
}

impl<'a> AttributeIterator<'a> {
    /// Iterates over raw `attrs-data` that was read apart from its header.
    pub fn over(attributes: &'a [u8]) -> AttributeIterator<'a> {
        AttributeIterator { rest: attributes }
    }
}

impl<'a> Iterator for AttributeIterator<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[key_index, length], rest) = self.rest.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(usize::from(length))?;
        self.rest = rest;
        Some((key_index, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(valid: u8, attributes: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xa1; 16];
        bytes.extend([0xb2; 8]);
        bytes.extend([valid, 3]);
        bytes.extend((attributes.len() as u16).to_ne_bytes());
        bytes.extend(attributes);
        bytes
    }

    #[test]
    fn layout_is_the_standards() {
        assert_eq!((TRACE_ID_OFFSET, SPAN_ID_OFFSET, VALID_OFFSET, FLAGS_OFFSET), (0, 16, 24, 25));
        assert_eq!((ATTRIBUTES_SIZE_OFFSET, ATTRIBUTES_OFFSET, HEADER_SIZE), (26, 28, 28));
        assert_eq!((MAXIMUM_SIZE, MAXIMUM_ATTRIBUTES_SIZE), (640, 612));
    }

    #[test]
    fn last_occurrence_of_a_key_wins() {
        let bytes = bytes(1, b"\x01\x03old\x02\x01x\x01\x03new");
        let record = Record::parse(&bytes).unwrap();
        assert_eq!(record.span_context(), Some(SpanContext::new(TraceId([0xa1; 16]), SpanId([0xb2; 8]), 3)));
        assert_eq!(record.attribute(1), Some("new"));
        assert_eq!(record.attribute(2), Some("x"));
        assert_eq!(record.attribute(3), None);
        assert!(!record.is_truncated());
    }

    #[test]
    fn only_the_value_one_is_valid() {
        for valid in [0, 2, 255] {
            assert_eq!(Record::parse(&bytes(valid, b"")), None);
        }
    }

    #[test]
    fn a_cut_entry_ends_the_attributes() {
        let whole = bytes(1, b"\x01\x02ok\x02\x05cut");
        let record = Record::parse(&whole).unwrap();
        assert_eq!(record.attributes().collect::<Vec<_>>(), [(1, &b"ok"[..])]);
        let short = &whole[..whole.len() - 4];
        assert!(Record::parse(short).unwrap().is_truncated());
        assert_eq!(Record::parse(&whole[..27]), None);
    }

    #[test]
    fn ids_that_are_half_set_are_no_span() {
        let mut bytes = bytes(1, b"");
        bytes[SPAN_ID_OFFSET..SPAN_ID_OFFSET + 8].fill(0);
        assert_eq!(Record::parse(&bytes).unwrap().span_context(), None);
    }

    #[test]
    fn an_oversized_claim_is_clamped() {
        let mut bytes = bytes(1, &[0; 700]);
        bytes[26..28].copy_from_slice(&u16::MAX.to_ne_bytes());
        let record = Record::parse(&bytes).unwrap();
        assert!(record.is_truncated());
        assert_eq!(record.attributes().count(), MAXIMUM_ATTRIBUTES_SIZE / 2);
    }

    #[test]
    fn a_value_that_is_not_text_is_no_attribute() {
        assert_eq!(Record::parse(&bytes(1, b"\x01\x01\xff")).unwrap().attribute(1), None);
    }
}
