//! The protobuf of the process context, by hand: `ProcessContext`, `Resource`, `KeyValue`, `AnyValue` and its lists.
//!
//! Decoding takes bytes of another process: every length is checked against what is left, nesting is bounded, and
//! unknown fields are skipped.

use super::{ProcessContext, Value};

/// The deepest nesting of lists and maps that is decoded.
const MAXIMUM_DEPTH: usize = 8;

const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED_32: u64 = 5;

/// Encodes a context.
pub(super) fn encode(context: &ProcessContext) -> Vec<u8> {
    let mut resource = Vec::new();
    for (name, value) in &context.resource {
        put_message(&mut resource, 1, &key_value(name, value));
    }
    let mut out = Vec::new();
    put_message(&mut out, 1, &resource);
    for (name, value) in &context.attributes {
        put_message(&mut out, 2, &key_value(name, value));
    }
    out
}

fn key_value(name: &str, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, 1, name.as_bytes());
    put_message(&mut out, 2, &any_value(value));
    out
}

fn any_value(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Value::String(text) => put_message(&mut out, 1, text.as_bytes()),
        Value::Boolean(truth) => {
            put_varint(&mut out, 2 << 3 | VARINT);
            put_varint(&mut out, u64::from(*truth));
        }
        Value::Integer(number) => {
            put_varint(&mut out, 3 << 3 | VARINT);
            put_varint(&mut out, *number as u64);
        }
        Value::Double(number) => {
            put_varint(&mut out, 4 << 3 | FIXED_64);
            out.extend(number.to_le_bytes());
        }
        Value::Array(values) => {
            let mut list = Vec::new();
            for value in values {
                put_message(&mut list, 1, &any_value(value));
            }
            put_message(&mut out, 5, &list);
        }
        Value::Map(entries) => {
            let mut list = Vec::new();
            for (name, value) in entries {
                put_message(&mut list, 1, &key_value(name, value));
            }
            put_message(&mut out, 6, &list);
        }
        Value::Bytes(bytes) => put_message(&mut out, 7, bytes),
        Value::Empty => {}
    }
    out
}

fn put_message(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | LENGTH_DELIMITED);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Decodes a payload. `None` if it is no well-formed message of this kind.
pub fn decode(payload: &[u8]) -> Option<ProcessContext> {
    let mut context = ProcessContext::default();
    let mut fields = Fields(payload);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(resource)) => {
                let mut fields = Fields(resource);
                while let Some((number, field)) = fields.next()? {
                    if let (1, Field::Bytes(entry)) = (number, field) {
                        context.resource.push(decode_key_value(entry, 0)?);
                    }
                }
            }
            (2, Field::Bytes(entry)) => context.attributes.push(decode_key_value(entry, 0)?),
            _ => {}
        }
    }
    Some(context)
}

fn decode_key_value(bytes: &[u8], depth: usize) -> Option<(String, Value)> {
    let (mut name, mut value) = (String::new(), Value::Empty);
    let mut fields = Fields(bytes);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(text)) => name = std::str::from_utf8(text).ok()?.to_owned(),
            (2, Field::Bytes(any)) => value = decode_any_value(any, depth)?,
            _ => {}
        }
    }
    Some((name, value))
}

fn decode_any_value(bytes: &[u8], depth: usize) -> Option<Value> {
    if depth > MAXIMUM_DEPTH {
        return None;
    }
    let mut value = Value::Empty;
    let mut fields = Fields(bytes);
    while let Some((number, field)) = fields.next()? {
        value = match (number, field) {
            (1, Field::Bytes(text)) => Value::String(std::str::from_utf8(text).ok()?.to_owned()),
            (2, Field::Integer(number)) => Value::Boolean(number != 0),
            (3, Field::Integer(number)) => Value::Integer(number as i64),
            (4, Field::Fixed64(bits)) => Value::Double(f64::from_bits(bits)),
            (5, Field::Bytes(list)) => {
                let mut values = Vec::new();
                let mut fields = Fields(list);
                while let Some((number, field)) = fields.next()? {
                    if let (1, Field::Bytes(any)) = (number, field) {
                        values.push(decode_any_value(any, depth + 1)?);
                    }
                }
                Value::Array(values)
            }
            (6, Field::Bytes(list)) => {
                let mut entries = Vec::new();
                let mut fields = Fields(list);
                while let Some((number, field)) = fields.next()? {
                    if let (1, Field::Bytes(entry)) = (number, field) {
                        entries.push(decode_key_value(entry, depth + 1)?);
                    }
                }
                Value::Map(entries)
            }
            (7, Field::Bytes(bytes)) => Value::Bytes(bytes.to_vec()),
            _ => value,
        };
    }
    Some(value)
}

enum Field<'a> {
    Integer(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

/// The fields of a message that are left.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next field; `Some(None)` at the end, `None` if the message is malformed.
    fn next(&mut self) -> Option<Option<(u64, Field<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let tag = self.varint()?;
        let field = match tag & 7 {
            VARINT => Field::Integer(self.varint()?),
            FIXED_64 => Field::Fixed64(u64::from_le_bytes(*self.take(8)?.first_chunk()?)),
            LENGTH_DELIMITED => {
                let length = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(length)?)
            }
            FIXED_32 => {
                self.take(4)?;
                Field::Fixed32
            }
            _ => return None,
        };
        Some(Some((tag >> 3, field)))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_comes_back() {
        let context = ProcessContext {
            resource: vec![("service.name".into(), "orders".into()), ("empty".into(), Value::Empty)],
            attributes: vec![
                ("negative".into(), Value::Integer(-80)),
                ("truth".into(), true.into()),
                ("double".into(), Value::Double(0.5)),
                ("bytes".into(), Value::Bytes(vec![0, 255])),
                ("list".into(), Value::Array(vec!["a".into(), Value::Array(vec![]), 7.into()])),
                ("map".into(), Value::Map(vec![("inner".into(), "x".into())])),
            ],
        };
        assert_eq!(decode(&encode(&context)), Some(context));
    }

    #[test]
    fn bytes_are_the_standards() {
        let context = ProcessContext {
            resource: vec![("k".into(), "v".into())],
            attributes: vec![("n".into(), 300.into())],
        };
        assert_eq!(
            encode(&context),
            [
                0x0a, 10, 0x0a, 8, 0x0a, 1, b'k', 0x12, 3, 0x0a, 1,
                b'v', // resource { attributes { k: v } }
                0x12, 8, 0x0a, 1, b'n', 0x12, 3, 0x18, 0xac, 0x02, // attributes { n: 300 }
            ]
        );
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let mut bytes = vec![0x18, 1, 0x21, 0, 0, 0, 0, 0, 0, 0, 0, 0x2d, 0, 0, 0, 0, 0x32, 1, 9];
        bytes.extend(encode(&ProcessContext::for_service("s")));
        assert_eq!(decode(&bytes).unwrap().service_name(), Some("s"));
    }

    #[test]
    fn malformed_messages_are_refused() {
        for bytes in [
            &[0x0a, 5, 1][..],
            &[0x0a],
            &[0x0b],
            &[0x80],
            &[0xff; 11],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ] {
            assert_eq!(decode(bytes), None, "{bytes:x?}");
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let nested = |depth| (0..depth).fold(Value::Integer(1), |inner, _| Value::Array(vec![inner]));
        let context =
            |depth| ProcessContext { resource: vec![], attributes: vec![("deep".into(), nested(depth))] };
        assert!(decode(&encode(&context(MAXIMUM_DEPTH))).is_some());
        assert_eq!(decode(&encode(&context(MAXIMUM_DEPTH + 1))), None);
    }
}
