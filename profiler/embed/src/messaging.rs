//! What a span says about the message that it works on, gathered once per span and encoded as the record's attributes.
//!
//! A span inherits what encloses it: the parsing of a message is work on that message. A span that names a destination of
//! its own, such as the sending of another message, starts anew: the consumer group that it runs under has nothing to
//! do with where it sends to.

use std::sync::Arc;

use spanprof_context::{Attributes, Key, SpanId};

/// The messaging attributes of a record.
const KEYS: [Key; 3] =
    [Key::MessagingDestinationName, Key::MessagingConsumerGroupName, Key::MessagingOperationName];

/// What one span says by itself.
#[derive(Debug, Default)]
pub(crate) struct Messaging {
    values: [Option<String>; KEYS.len()],
}

impl Messaging {
    /// Which of the record's messaging attributes a name means.
    pub(crate) fn key(name: &str) -> Option<Key> {
        // Most fields of most spans are something else.
        name.starts_with("messaging.").then(|| KEYS.into_iter().find(|key| key.name() == name))?
    }

    /// Takes a value; the last one of a key counts.
    pub(crate) fn set(&mut self, key: Key, value: String) {
        if let Some(position) = KEYS.iter().position(|candidate| *candidate == key) {
            self.values[position] = Some(value);
        }
    }

    /// What attributes say that were encoded before.
    #[cfg(feature = "opentelemetry-sdk")]
    pub(crate) fn of(attributes: &Attributes) -> Self {
        Self { values: KEYS.map(|key| attributes.get(key).map(str::to_owned)) }
    }

    fn get(&self, key: Key) -> Option<&str> {
        let position = KEYS.iter().position(|candidate| *candidate == key)?;
        self.values[position].as_deref()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.iter().all(Option::is_none)
    }

    /// The attributes of a span's record.
    ///
    /// `inherited` are those of the enclosing span's record, with its local root where no other is known. Where the span
    /// adds nothing they are shared, not copied.
    pub(crate) fn attributes(
        &self,
        local_root: Option<SpanId>,
        inherited: Option<&Arc<Attributes>>,
    ) -> Arc<Attributes> {
        let inherited_root = inherited.and_then(|inherited| inherited.get(Key::LocalRootSpanId));
        let root = local_root.map(|id| id.to_string()).or(inherited_root.map(str::to_owned));
        if let Some(inherited) = inherited
            && self.is_empty()
            && root.as_deref() == inherited_root
        {
            return Arc::clone(inherited);
        }
        let starts_anew = self.get(Key::MessagingDestinationName).is_some();
        let enclosing = inherited.filter(|_| !starts_anew);
        let mut attributes = Attributes::new();
        if let Some(root) = &root {
            attributes = attributes.with(Key::LocalRootSpanId, root);
        }
        for key in KEYS {
            let value = self.get(key).or_else(|| enclosing.and_then(|enclosing| enclosing.get(key)));
            if let Some(value) = value {
                attributes = attributes.with(key, value);
            }
        }
        Arc::new(attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messaging(values: &[(&str, &str)]) -> Messaging {
        let mut messaging = Messaging::default();
        for (name, value) in values {
            if let Some(key) = Messaging::key(name) {
                messaging.set(key, (*value).to_owned());
            }
        }
        messaging
    }

    const ROOT: Option<SpanId> = Some(SpanId([0xab; 8]));

    #[test]
    fn a_span_inherits_what_it_does_not_say() {
        let outer = messaging(&[
            ("messaging.destination.name", "orders"),
            ("messaging.consumer.group.name", "billing"),
            ("messaging.system", "kafka"),
            ("order.id", "7"),
        ])
        .attributes(ROOT, None);
        assert_eq!(outer.get(Key::LocalRootSpanId), Some("abababababababab"));
        assert_eq!(outer.get(Key::MessagingDestinationName), Some("orders"));
        let inner = messaging(&[("messaging.operation.name", "process")]).attributes(ROOT, Some(&outer));
        assert_eq!(inner.get(Key::LocalRootSpanId), Some("abababababababab"));
        assert_eq!(inner.get(Key::MessagingDestinationName), Some("orders"));
        assert_eq!(inner.get(Key::MessagingConsumerGroupName), Some("billing"));
        assert_eq!(inner.get(Key::MessagingOperationName), Some("process"));
        let same = messaging(&[("order.id", "7")]).attributes(ROOT, Some(&outer));
        assert!(Arc::ptr_eq(&same, &outer));
    }

    #[test]
    fn another_destination_starts_anew() {
        let outer = messaging(&[
            ("messaging.destination.name", "orders"),
            ("messaging.consumer.group.name", "billing"),
        ])
        .attributes(ROOT, None);
        let send = messaging(&[("messaging.destination.name", "invoices")]).attributes(ROOT, Some(&outer));
        assert_eq!(send.get(Key::MessagingDestinationName), Some("invoices"));
        assert_eq!(send.get(Key::MessagingConsumerGroupName), None);
        assert_eq!(send.get(Key::LocalRootSpanId), Some("abababababababab"));
    }

    #[test]
    fn a_root_of_its_own_is_no_reason_to_forget_the_topic() {
        let consumer = messaging(&[("messaging.destination.name", "orders")]).attributes(None, None);
        let root = messaging(&[]).attributes(ROOT, Some(&consumer));
        assert_eq!(root.get(Key::MessagingDestinationName), Some("orders"));
        assert_eq!(root.get(Key::LocalRootSpanId), Some("abababababababab"));
    }
}
