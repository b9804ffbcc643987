//! Which attributes our writer puts into a record, encoded once and copied as bytes.
//!
//! A consumer knows its topic and group long before a message arrives, so the encoding is done when the consumer
//! is made; publishing copies at most a few dozen bytes. The record carries a key as an index into the process's
//! key map ([`KEYS`], published in the process context).

use crate::record::MAXIMUM_ATTRIBUTES_SIZE;

/// A key of our writer's key map; its number is its index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Key {
    /// The local root span's id, as 16 lowercase hexadecimal digits. Index 0 by the convention of the writers
    /// that came first.
    LocalRootSpanId = 0,
    /// The topic or queue that the message came from or goes to.
    MessagingDestinationName = 1,
    /// The consumer group.
    MessagingConsumerGroupName = 2,
    /// The messaging system's own word for the operation: send, poll, process, …
    MessagingOperationName = 3,
}

/// Our writer's key map: the names of [`Key`], each at its index. Append-only.
pub const KEYS: [&str; 4] = [
    "local_root_span_id",
    "messaging.destination.name",
    "messaging.consumer.group.name",
    "messaging.operation.name",
];

impl Key {
    /// The key's name by OpenTelemetry's conventions.
    pub const fn name(self) -> &'static str {
        KEYS[self as usize]
    }
}

/// Attributes of a record, encoded.
///
/// ```
/// use spanprof_context::{Attributes, Key};
/// let orders = Attributes::new()
///     .with(Key::MessagingDestinationName, "orders")
///     .with(Key::MessagingConsumerGroupName, "billing");
/// assert!(orders.is_complete());
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Attributes {
    bytes: Vec<u8>,
    incomplete: bool,
}

impl Attributes {
    /// No attributes.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), incomplete: false }
    }

    /// Adds an attribute. A value longer than 255 bytes is cut at a character's border, an entry for which the
    /// record has no room is left out; [`Attributes::is_complete`] tells.
    #[must_use]
    pub fn with(mut self, key: Key, value: &str) -> Self {
        let kept = &value[..value.floor_char_boundary(usize::from(u8::MAX))];
        self.incomplete |= kept.len() < value.len();
        if self.bytes.len() + 2 + kept.len() > MAXIMUM_ATTRIBUTES_SIZE {
            self.incomplete = true;
            return self;
        }
        self.bytes.extend([key as u8, kept.len() as u8]);
        self.bytes.extend(kept.as_bytes());
        self
    }

    /// Attributes as they stand in a record of our own.
    pub(crate) fn from_record(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), incomplete: false }
    }

    /// The value of a key, as far as it was taken; the last one where the key was added twice.
    pub fn get(&self, key: Key) -> Option<&str> {
        let mut rest = self.bytes.as_slice();
        let mut found = None;
        while let [index, length, behind @ ..] = rest {
            let (value, next) = behind.split_at_checked(usize::from(*length))?;
            if *index == key as u8 {
                found = std::str::from_utf8(value).ok();
            }
            rest = next;
        }
        found
    }

    /// Whether every value was taken whole.
    pub fn is_complete(&self) -> bool {
        !self.incomplete
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes as they stand in a record; at most [`MAXIMUM_ATTRIBUTES_SIZE`].
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A process's key map: which attribute a key index in its records means.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyMap {
    names: Vec<String>,
}

impl KeyMap {
    /// A key map from names in index order. Only the first 256 can be referred to; the rest is dropped.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self { names: names.into_iter().take(256).collect() }
    }

    /// The name of the key at an index, or `None` if the map has not that many: the process may have extended
    /// its map, so read its context again.
    pub fn name(&self, key_index: u8) -> Option<&str> {
        self.names.get(usize::from(key_index)).map(String::as_str)
    }

    /// The index of a name.
    ///
    /// For the local root span the spelling of other writers, `datadog.local_root_span_id`, is known too.
    pub fn index(&self, key: Key) -> Option<u8> {
        let name = key.name();
        let matches = |candidate: &String| {
            candidate == name || (key == Key::LocalRootSpanId && candidate == "datadog.local_root_span_id")
        };
        self.names.iter().position(matches).and_then(|index| u8::try_from(index).ok())
    }

    /// The names in index order.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_at_their_index() {
        assert_eq!(Key::LocalRootSpanId.name(), "local_root_span_id");
        assert_eq!(Key::MessagingDestinationName.name(), "messaging.destination.name");
        assert_eq!(Key::MessagingConsumerGroupName.name(), "messaging.consumer.group.name");
        assert_eq!(Key::MessagingOperationName.name(), "messaging.operation.name");
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let attributes = Attributes::new().with(Key::MessagingDestinationName, &"é".repeat(200));
        assert!(!attributes.is_complete());
        assert_eq!(attributes.as_bytes()[1], 254);
        assert!(std::str::from_utf8(&attributes.as_bytes()[2..]).is_ok());
    }

    #[test]
    fn values_are_found_again() {
        let attributes = Attributes::new()
            .with(Key::MessagingDestinationName, "orders")
            .with(Key::MessagingOperationName, "")
            .with(Key::MessagingDestinationName, "refunds");
        assert_eq!(attributes.get(Key::MessagingDestinationName), Some("refunds"));
        assert_eq!(attributes.get(Key::MessagingOperationName), Some(""));
        assert_eq!(attributes.get(Key::MessagingConsumerGroupName), None);
    }

    #[test]
    fn a_full_record_takes_no_more() {
        let long = "x".repeat(255);
        let two = Attributes::new()
            .with(Key::MessagingDestinationName, &long)
            .with(Key::MessagingDestinationName, &long);
        assert!(two.is_complete());
        let three = two.clone().with(Key::MessagingDestinationName, &long);
        assert!(!three.is_complete());
        assert_eq!(three.as_bytes(), two.as_bytes());
        let fits = two.with(Key::MessagingOperationName, &"y".repeat(MAXIMUM_ATTRIBUTES_SIZE - 2 * 257 - 2));
        assert!(fits.is_complete());
        assert_eq!(fits.as_bytes().len(), MAXIMUM_ATTRIBUTES_SIZE);
    }

    #[test]
    fn key_maps_of_other_writers_are_understood() {
        let map =
            KeyMap::new(["datadog.local_root_span_id".to_owned(), "messaging.destination.name".to_owned()]);
        assert_eq!(map.index(Key::LocalRootSpanId), Some(0));
        assert_eq!(map.index(Key::MessagingDestinationName), Some(1));
        assert_eq!(map.index(Key::MessagingOperationName), None);
        assert_eq!(map.name(1), Some("messaging.destination.name"));
        assert_eq!(map.name(2), None);
        assert_eq!(KeyMap::new((0..300).map(|n| n.to_string())).names().len(), 256);
    }
}
