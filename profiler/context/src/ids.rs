//! Trace and span ids in W3C byte order, with their hexadecimal form.
//!
//! Own types instead of a tracing library's: this crate is read by an agent that links no such library, and the
//! bytes here are exactly the bytes of the shared record.

use std::fmt;
use std::str::FromStr;

/// A trace id: 16 bytes in the order in which they are printed. All zero means "none".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(transparent)]
pub struct TraceId(pub [u8; 16]);

/// A span id: 8 bytes in the order in which they are printed. All zero means "none".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(transparent)]
pub struct SpanId(pub [u8; 8]);

/// What identifies the span a thread is working on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SpanContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span within the trace.
    pub span_id: SpanId,
    /// W3C trace flags: 0x01 sampled, 0x02 random.
    pub flags: u8,
}

impl SpanContext {
    /// A span context with the given flags.
    #[inline]
    pub const fn new(trace_id: TraceId, span_id: SpanId, flags: u8) -> Self {
        Self { trace_id, span_id, flags }
    }

    /// Whether both ids are set. The standard allows no half: a record has both or neither.
    #[inline]
    pub const fn is_valid(&self) -> bool {
        self.trace_id.is_valid() && self.span_id.is_valid()
    }
}

/// Text that is not the lowercase or uppercase hexadecimal form of an id of the expected length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidId {
    expected_digits: usize,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "expected {} hexadecimal digits", self.expected_digits)
    }
}

impl std::error::Error for InvalidId {}

fn parse_hexadecimal<const N: usize>(text: &str) -> Result<[u8; N], InvalidId> {
    let invalid = InvalidId { expected_digits: 2 * N };
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return Err(invalid);
    }
    let digit = |byte: u8| (byte as char).to_digit(16).map(|value| value as u8);
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        match (digit(pair[0]), digit(pair[1])) {
            (Some(high), Some(low)) => *byte = high << 4 | low,
            _ => return Err(invalid),
        }
    }
    Ok(bytes)
}

fn write_hexadecimal(bytes: &[u8], formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
}

macro_rules! identifier {
    ($name:ident, $bytes:literal, $integer:ty) => {
        impl $name {
            /// Whether the id is set, i.e. not all zero.
            #[inline]
            pub const fn is_valid(&self) -> bool {
                <$integer>::from_ne_bytes(self.0) != 0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hexadecimal(&self.0, formatter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hexadecimal(&self.0, formatter)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_hexadecimal(text).map(Self)
            }
        }

        impl From<[u8; $bytes]> for $name {
            #[inline]
            fn from(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }
        }
    };
}

identifier!(TraceId, 16, u128);
identifier!(SpanId, 8, u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_form_keeps_the_byte_order() {
        let trace: TraceId = "0102030405060708090a0b0c0d0e0fff".parse().unwrap();
        assert_eq!(trace.0[0], 1);
        assert_eq!(trace.0[15], 0xff);
        assert_eq!(trace.to_string(), "0102030405060708090a0b0c0d0e0fff");
        let span: SpanId = "00F067AA0BA902B7".parse().unwrap();
        assert_eq!(span.to_string(), "00f067aa0ba902b7");
    }

    #[test]
    fn wrong_text_is_refused() {
        for text in [
            "",
            "0",
            "00f067aa0ba902b",
            "00f067aa0ba902b70",
            "00f067aa0ba902bg",
            "+0f067aa0ba902b7",
            "0é0067aa0ba902b",
        ] {
            assert!(text.parse::<SpanId>().is_err(), "{text}");
        }
        assert_eq!("zz".parse::<TraceId>().unwrap_err().to_string(), "expected 32 hexadecimal digits");
    }

    #[test]
    fn zero_is_not_valid() {
        assert!(!TraceId::default().is_valid());
        assert!(!SpanContext::new(TraceId([1; 16]), SpanId::default(), 1).is_valid());
        assert!(SpanContext::new(TraceId([1; 16]), SpanId([1; 8]), 0).is_valid());
    }
}
