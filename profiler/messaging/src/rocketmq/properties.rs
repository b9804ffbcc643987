//! A message's properties as they are stored and sent: `key \u{1} value \u{2}` after each other.

use crate::carrier::Carrier;

/// The most that a broker stores of a message's properties, in bytes.
pub const LONGEST_PROPERTIES: usize = i16::MAX as usize;

const AFTER_KEY: u8 = 0x01;
const AFTER_VALUE: u8 = 0x02;

/// Raw properties, decoded where they lie. The first of a key counts.
///
/// Total: a pair without its middle is skipped, the last separator may be missing, and nothing is read behind the
/// [`LONGEST_PROPERTIES`] that a broker can store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Properties<'a>(&'a [u8]);

impl<'a> Properties<'a> {
    /// Of text or bytes as a client or a frame has them.
    pub fn new(properties: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        let properties = properties.as_ref();
        Self(&properties[..properties.len().min(LONGEST_PROPERTIES)])
    }

    /// The pairs in their order, duplicates included.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.0.split(|byte| *byte == AFTER_VALUE).filter_map(|pair| {
            let middle = pair.iter().position(|byte| *byte == AFTER_KEY)?;
            Some((&pair[..middle], &pair[middle + 1..]))
        })
    }
}

impl Carrier for Properties<'_> {
    fn value(&self, key: &str) -> Option<&[u8]> {
        self.iter().find(|(name, _)| *name == key.as_bytes()).map(|(_, value)| value)
    }
}

/// Adds a property to raw ones, for producers that build frames themselves. `false`, and nothing is changed, where a broker
/// could not store them or where key or value hold a separator.
pub fn append_property(properties: &mut String, key: &str, value: &str) -> bool {
    let is_plain = |text: &str| !text.bytes().any(|byte| matches!(byte, AFTER_KEY | AFTER_VALUE));
    let ends_open = !properties.is_empty() && !properties.ends_with(char::from(AFTER_VALUE));
    let added = key.len() + value.len() + 2 + usize::from(ends_open);
    if !is_plain(key) || !is_plain(value) || properties.len() + added > LONGEST_PROPERTIES {
        return false;
    }
    if ends_open {
        properties.push(char::from(AFTER_VALUE));
    }
    properties.push_str(key);
    properties.push(char::from(AFTER_KEY));
    properties.push_str(value);
    properties.push(char::from(AFTER_VALUE));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TraceContext;

    #[test]
    fn the_inner_messages_own_context_counts() {
        // As a broker up to 5.3.3 stores an inner message: its own properties, then the wrapper's.
        let stored = "UNIQ_KEY\u{1}B2\u{2}traceparent\u{1}00-22222222222222222222222222222222-2222222222222222-01\u{2}\
                      UNIQ_KEY\u{1}B1,B2\u{2}traceparent\u{1}00-99999999999999999999999999999999-9999999999999999-01";
        let properties = Properties::new(stored);
        assert_eq!(TraceContext::extract(&properties).unwrap().span_id().to_string(), "2222222222222222");
        assert_eq!(properties.value("UNIQ_KEY"), Some(&b"B2"[..]));
        assert_eq!(properties.iter().count(), 4);
    }

    #[test]
    fn a_context_on_the_wrapper_alone_counts_where_it_arrives() {
        let stored = "UNIQ_KEY\u{1}B2\u{2}traceparent\u{1}00-99999999999999999999999999999999-9999999999999999-01\u{2}";
        assert!(TraceContext::extract(&Properties::new(stored)).is_some());
    }

    #[test]
    fn trace_context_is_ignored() {
        let stored = "TRACE_CONTEXT\u{1}00-99999999999999999999999999999999-9999999999999999-01\u{2}";
        assert_eq!(TraceContext::extract(&Properties::new(stored)), None);
    }

    #[test]
    fn junk_is_skipped() {
        for (stored, value) in [
            ("", None),
            ("\u{1}", None),
            ("\u{2}\u{2}\u{2}", None),
            ("a", None),
            ("b\u{2}a\u{1}1", Some("1")),
            ("a\u{1}\u{2}", Some("")),
            ("a\u{1}1\u{1}2\u{2}", Some("1\u{1}2")),
            ("\u{1}1\u{2}a\u{1}2\u{2}", Some("2")),
        ] {
            assert_eq!(Properties::new(stored).value("a"), value.map(str::as_bytes), "{stored:?}");
        }
    }

    #[test]
    fn nothing_is_read_that_no_broker_stores() {
        let mut stored = "x".repeat(LONGEST_PROPERTIES);
        stored.push_str("\u{2}a\u{1}1\u{2}");
        assert_eq!(Properties::new(&stored).value("a"), None);
    }

    #[test]
    fn appending_keeps_what_is_there() {
        let mut stored = "a\u{1}1".to_owned();
        assert!(append_property(&mut stored, "b", "2"));
        assert_eq!(stored, "a\u{1}1\u{2}b\u{1}2\u{2}");
        assert!(!append_property(&mut stored, "c\u{2}", "3"));
        assert!(!append_property(&mut stored, "c", &"3".repeat(LONGEST_PROPERTIES)));
        assert_eq!(stored, "a\u{1}1\u{2}b\u{1}2\u{2}");
    }
}
