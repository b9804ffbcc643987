//! One message: a header, the resource's attributes, a profile or finished spans. Pure functions of bytes.

use prost::Message;

use super::{LARGEST_PROFILE, LARGEST_SPANS};

/// What a message begins with; a byte follows that says of what kind and version the rest is.
const MAGIC: [u8; 7] = *b"spanprf";

/// The header's length: magic, kind, length of the resource, length of the body (both `u32`, little-endian).
pub(super) const HEADER: usize = 16;

/// What a message carries. A receiver that doesn't know a kind refuses the message, and so tells its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A resource, and a pprof file.
    Profile,
    /// An `ExportTraceServiceRequest` of OTLP, which has its resource within.
    Spans,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Kind::Profile => 1,
            Kind::Spans => 2,
        }
    }

    const fn of(byte: u8) -> Option<Kind> {
        match byte {
            1 => Some(Kind::Profile),
            2 => Some(Kind::Spans),
            _ => None,
        }
    }

    /// The most bytes of the resource and of the body.
    const fn largest(self) -> (usize, usize) {
        match self {
            Kind::Profile => (LARGEST_RESOURCE, LARGEST_PROFILE),
            Kind::Spans => (0, LARGEST_SPANS),
        }
    }
}

/// The most bytes that a resource may take: OpenTelemetry's SDKs allow 128 attributes.
const LARGEST_RESOURCE: usize = 64 << 10;

/// The most attributes of a resource.
const MOST_ATTRIBUTES: usize = 128;

/// What the receiver answers to one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has it.
    Taken,
    /// It could not be read; the connection ends.
    Refused,
    /// It was read and there is no room for it now.
    Busy,
    /// It was read and nothing here uses its kind.
    Unwanted,
}

impl Answer {
    pub(super) const fn byte(self) -> u8 {
        match self {
            Answer::Taken => b'+',
            Answer::Refused => b'!',
            Answer::Busy => b'~',
            Answer::Unwanted => b'-',
        }
    }

    pub(super) const fn of(byte: u8) -> Option<Answer> {
        match byte {
            b'+' => Some(Answer::Taken),
            b'!' => Some(Answer::Refused),
            b'~' => Some(Answer::Busy),
            b'-' => Some(Answer::Unwanted),
            _ => None,
        }
    }
}

/// What a header tells, within the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) resource: usize,
    pub(super) body: usize,
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// Another protocol, or a kind that is not known.
    Magic,
    /// More than is taken.
    TooLarge,
    /// The resource can't be read.
    Resource,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceMessage {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// The header for spans of so many bytes.
pub(super) fn head_of_spans(body: usize) -> Vec<u8> {
    header(Kind::Spans, 0, body)
}

fn header(kind: Kind, resource: usize, body: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + resource);
    bytes.extend_from_slice(&MAGIC);
    bytes.push(kind.byte());
    bytes.extend_from_slice(&(resource as u32).to_le_bytes());
    bytes.extend_from_slice(&(body as u32).to_le_bytes());
    bytes
}

/// The header and the resource for a profile of so many bytes. What a resource has beyond the limits is left out, the
/// last first.
pub(super) fn head_of_profile(resource: &[(String, String)], body: usize) -> Vec<u8> {
    let attributes = resource.iter().take(MOST_ATTRIBUTES);
    let attributes = attributes.map(|(key, value)| Attribute { key: key.clone(), value: value.clone() });
    let mut message = ResourceMessage { attributes: attributes.collect() };
    while message.encoded_len() > LARGEST_RESOURCE {
        message.attributes.pop();
    }
    let mut bytes = header(Kind::Profile, message.encoded_len(), body);
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes
}

/// Reads a header.
pub(super) fn read_header(bytes: &[u8; HEADER]) -> Result<Header, Malformed> {
    let (magic, rest) = bytes.split_at(MAGIC.len());
    let kind = Kind::of(rest[0]).filter(|_| magic == MAGIC).ok_or(Malformed::Magic)?;
    let number =
        |at: usize| u32::from_le_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]) as usize;
    let header = Header { kind, resource: number(1), body: number(5) };
    let (resource, body) = kind.largest();
    if header.resource > resource || header.body > body {
        return Err(Malformed::TooLarge);
    }
    Ok(header)
}

/// Reads a resource.
pub(super) fn resource(bytes: &[u8]) -> Result<Vec<(String, String)>, Malformed> {
    let message = ResourceMessage::decode(bytes).map_err(|_| Malformed::Resource)?;
    if message.attributes.len() > MOST_ATTRIBUTES {
        return Err(Malformed::Resource);
    }
    Ok(message.attributes.into_iter().map(|attribute| (attribute.key, attribute.value)).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn beginning(bytes: &[u8]) -> &[u8; HEADER] {
        bytes[..HEADER].try_into().unwrap()
    }

    #[test]
    fn a_message_s_beginning_is_read_back() {
        let given = vec![("service.name".to_owned(), "orders".to_owned()), ("k".to_owned(), "ü".to_owned())];
        let bytes = head_of_profile(&given, 77);
        assert_eq!(&bytes[..8], b"spanprf\x01");
        let read = read_header(beginning(&bytes)).unwrap();
        assert_eq!((read.kind, read.body, HEADER + read.resource), (Kind::Profile, 77, bytes.len()));
        assert_eq!(resource(&bytes[HEADER..]).unwrap(), given);
        let bytes = head_of_spans(88);
        assert_eq!(&bytes[..8], b"spanprf\x02");
        let read = read_header(beginning(&bytes)).unwrap();
        assert_eq!(read, Header { kind: Kind::Spans, resource: 0, body: 88 });
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let many: Vec<_> = (0..200).map(|n| (format!("key{n}"), "x".repeat(1_000))).collect();
        let bytes = head_of_profile(&many, 0);
        let read = read_header(beginning(&bytes)).unwrap();
        let kept = resource(&bytes[HEADER..]).unwrap();
        assert!(read.resource <= LARGEST_RESOURCE && kept.len() < 128 && kept[..] == many[..kept.len()]);
        let refused_of = |mut bytes: Vec<u8>, at: usize, number: u32| {
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
            read_header(beginning(&bytes)).unwrap_err()
        };
        let refused = |at, number| refused_of(head_of_profile(&[], 0), at, number);
        assert_eq!(refused_of(head_of_spans(0), 8, 1), Malformed::TooLarge);
        assert_eq!(refused_of(head_of_spans(0), 12, LARGEST_SPANS as u32 + 1), Malformed::TooLarge);
        assert_eq!(refused(8, LARGEST_RESOURCE as u32 + 1), Malformed::TooLarge);
        assert_eq!(refused(12, LARGEST_PROFILE as u32 + 1), Malformed::TooLarge);
        assert_eq!(refused(12, u32::MAX), Malformed::TooLarge);
        assert_eq!(refused(4, 0), Malformed::Magic);
        let attribute = [0x0a, 0x00];
        assert_eq!(resource(&attribute.repeat(129)).unwrap_err(), Malformed::Resource);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), HEADER..200)) {
            let _ = read_header(beginning(&bytes));
            let _ = resource(&bytes);
        }
    }
}
