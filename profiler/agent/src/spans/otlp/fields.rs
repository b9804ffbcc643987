//! A protobuf message's fields, read where they lie.
//!
//! Refused: a decoder that builds the whole message first. An empty span is two bytes on the wire and 250 in memory, and so
//! is an empty attribute: 4 MB from a stranger would become 500. Here nothing is allocated, and nothing is deeper than the
//! caller goes.

/// Why a message cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends within a field.
    #[error("the message is cut off")]
    CutOff,
    /// A wire type that protobuf 3 does not use.
    #[error("wire type {0} is not used by protobuf 3")]
    WireType(u8),
    /// More than anybody sends at once.
    #[error("more than {0} spans in one request")]
    TooManySpans(usize),
}

/// One field's value, by its wire type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The bytes of a string, of bytes or of a message; none of what should have been one of these and is not.
    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Value::Bytes(bytes) => bytes,
            _ => &[],
        }
    }

    /// A number however it was written; 0 of what is none.
    pub(super) fn number(self) -> u64 {
        match self {
            Value::Number(number) | Value::Fixed64(number) => number,
            _ => 0,
        }
    }
}

/// The fields of a message in the order in which they lie. Ends after the first error.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u32, Value<'a>), Malformed> {
        let tag = self.varint()?;
        let value = match (tag & 7) as u8 {
            0 => Value::Number(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| Malformed::CutOff)?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed::CutOff)?;
                Value::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Value::Fixed32
            }
            other => return Err(Malformed::WireType(other)),
        };
        // Field numbers have 29 bits; what has more is nobody's field.
        Ok((u32::try_from(tag >> 3).unwrap_or(0), value))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed::CutOff)?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for (index, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.0 = &self.0[index + 1..];
                return Ok(value);
            }
        }
        Err(Malformed::CutOff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Vec<Result<(u32, Value<'_>), Malformed>> {
        Fields(bytes).collect()
    }

    #[test]
    fn every_wire_type_is_read() {
        let bytes = [8, 0x96, 1, 17, 1, 0, 0, 0, 0, 0, 0, 0, 26, 2, b'h', b'i', 37, 1, 2, 3, 4];
        let expected = [
            Ok((1, Value::Number(150))),
            Ok((2, Value::Fixed64(1))),
            Ok((3, Value::Bytes(b"hi"))),
            Ok((4, Value::Fixed32)),
        ];
        assert_eq!(read(&bytes), expected);
    }

    #[test]
    fn what_is_cut_off_ends_with_an_error() {
        for bytes in [&[8][..], &[0x80], &[26, 2, b'h'], &[17, 1], &[37, 1], &[0xff; 12]] {
            assert_eq!(read(bytes), [Err(Malformed::CutOff)], "{bytes:?}");
        }
        assert_eq!(read(&[8, 1, 26, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).len(), 2);
    }

    #[test]
    fn groups_are_refused() {
        assert_eq!(read(&[11]), [Err(Malformed::WireType(3))]);
    }
}
