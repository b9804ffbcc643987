//! One message: a header, the resource's attributes, a profile. Pure functions of bytes.

use prost::Message;

use super::LARGEST_PROFILE;

/// What a message begins with; the last byte is the version.
const MAGIC: [u8; 8] = *b"spanprf\x01";

/// The header's length: magic, length of the resource, length of the profile (both `u32`, little-endian).
pub(super) const HEADER: usize = 16;

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
}

impl Answer {
    pub(super) const fn byte(self) -> u8 {
        match self {
            Answer::Taken => b'+',
            Answer::Refused => b'!',
            Answer::Busy => b'~',
        }
    }

    pub(super) const fn of(byte: u8) -> Option<Answer> {
        match byte {
            b'+' => Some(Answer::Taken),
            b'!' => Some(Answer::Refused),
            b'~' => Some(Answer::Busy),
            _ => None,
        }
    }
}

/// The lengths that a header tells, within the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lengths {
    pub(super) resource: usize,
    pub(super) profile: usize,
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// Another protocol or version.
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

/// The header and the resource for a profile of so many bytes. What a resource has beyond the limits is left out, the
/// last first.
pub(super) fn head(resource: &[(String, String)], profile: usize) -> Vec<u8> {
    let attributes = resource.iter().take(MOST_ATTRIBUTES);
    let attributes = attributes.map(|(key, value)| Attribute { key: key.clone(), value: value.clone() });
    let mut message = ResourceMessage { attributes: attributes.collect() };
    while message.encoded_len() > LARGEST_RESOURCE {
        message.attributes.pop();
    }
    let mut bytes = Vec::with_capacity(HEADER + message.encoded_len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&(message.encoded_len() as u32).to_le_bytes());
    bytes.extend_from_slice(&(profile as u32).to_le_bytes());
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes
}

/// Reads a header.
pub(super) fn lengths(header: &[u8; HEADER]) -> Result<Lengths, Malformed> {
    let (magic, rest) = header.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(Malformed::Magic);
    }
    let number =
        |at: usize| u32::from_le_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]) as usize;
    let lengths = Lengths { resource: number(0), profile: number(4) };
    if lengths.resource > LARGEST_RESOURCE || lengths.profile > LARGEST_PROFILE {
        return Err(Malformed::TooLarge);
    }
    Ok(lengths)
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

    fn header(bytes: &[u8]) -> &[u8; HEADER] {
        bytes[..HEADER].try_into().unwrap()
    }

    #[test]
    fn a_message_s_beginning_is_read_back() {
        let given = vec![("service.name".to_owned(), "orders".to_owned()), ("k".to_owned(), "ü".to_owned())];
        let bytes = head(&given, 77);
        assert_eq!(&bytes[..8], b"spanprf\x01");
        let read = lengths(header(&bytes)).unwrap();
        assert_eq!((read.profile, HEADER + read.resource), (77, bytes.len()));
        assert_eq!(resource(&bytes[HEADER..]).unwrap(), given);
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let many: Vec<_> = (0..200).map(|n| (format!("key{n}"), "x".repeat(1_000))).collect();
        let bytes = head(&many, 0);
        let read = lengths(header(&bytes)).unwrap();
        let kept = resource(&bytes[HEADER..]).unwrap();
        assert!(read.resource <= LARGEST_RESOURCE && kept.len() < 128 && kept[..] == many[..kept.len()]);
        let refused = |at: usize, number: u32| {
            let mut bytes = head(&[], 0);
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
            lengths(header(&bytes)).unwrap_err()
        };
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
            let _ = lengths(header(&bytes));
            let _ = resource(&bytes);
        }
    }
}
