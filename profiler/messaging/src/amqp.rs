//! AMQP: header maps.
//!
//! **0-9-1** (RabbitMQ): entries `traceparent` and `tracestate` of the header table, long strings. A table has each key once.
//!
//! **1.0**: `application-properties` with the same keys, which nobody on the way may change. Message annotations of these
//! names come from intermediaries and **count for more** where they are there: see [`Sections`]. W3C's draft, abandoned
//! since, wanted binary values there; both strings and binaries are read, as a carrier gives bytes. We write strings into
//! the application properties.
//!
//! `lapin`'s `FieldTable` is carried by this:
//!
//! ```
//! # use std::collections::BTreeMap;
//! # #[derive(Debug)] enum AMQPValue { LongString(Vec<u8>) }
//! # impl From<&str> for AMQPValue { fn from(text: &str) -> Self { Self::LongString(text.into()) } }
//! # #[derive(Default)] struct FieldTable(BTreeMap<String, AMQPValue>);
//! # impl FieldTable {
//! #     fn inner(&self) -> &BTreeMap<String, AMQPValue> { &self.0 }
//! #     fn insert(&mut self, key: &str, value: AMQPValue) { self.0.insert(key.into(), value); }
//! # }
//! # let mut table = FieldTable::default();
//! # let context = spanprof_messaging::TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
//! use spanprof_messaging::carrier::{reading, writing};
//! context.inject(&mut writing(|key: &str, value: Option<&str>| table.insert(key, value.unwrap_or("").into())));
//! let headers = reading(|key| match table.inner().get(key)? {
//!     AMQPValue::LongString(text) => Some(text.as_slice()),
//!     # #[allow(unreachable_patterns)]
//!     _ => None,
//! });
//! # assert_eq!(spanprof_messaging::TraceContext::extract(&headers), Some(context));
//! ```

use crate::carrier::{Carrier, CarrierMut};

/// The two places of AMQP 1.0 in which a context may stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sections<A, P> {
    /// The message annotations, from intermediaries; `()` where they can't be seen.
    pub annotations: A,
    /// The application properties, from the producer.
    pub properties: P,
}

impl<A: Carrier, P: Carrier> Carrier for Sections<A, P> {
    fn value(&self, key: &str) -> Option<&[u8]> {
        // One section for all: a `tracestate` does not go with another section's `traceparent`.
        match self.annotations.value(crate::TRACEPARENT) {
            Some(_) => self.annotations.value(key),
            None => self.properties.value(key),
        }
    }
}

impl<A: Carrier, P: CarrierMut> CarrierMut for Sections<A, P> {
    fn set_value(&mut self, key: &str, value: &str) {
        self.properties.set_value(key, value);
    }

    fn remove_value(&mut self, key: &str) {
        self.properties.remove_value(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_count_for_more_and_as_a_whole() {
        let properties = [("traceparent", "producer's"), ("tracestate", "a=1")];
        let annotations = [("traceparent", "broker's")];
        let both = Sections { annotations: &annotations[..], properties: &properties[..] };
        assert_eq!(both.value("traceparent"), Some(&b"broker's"[..]));
        assert_eq!(both.value("tracestate"), None);
        let alone = Sections { annotations: (), properties: &properties[..] };
        assert_eq!(alone.value("tracestate"), Some(&b"a=1"[..]));
    }
}
