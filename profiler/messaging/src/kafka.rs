//! Kafka: record headers.
//!
//! Headers `traceparent` and `tracestate`, UTF-8 bytes. A header may stand more than once; writers remove what is there and
//! add one, readers take the **last**: so do OpenTelemetry's other instrumentations, and so does a proxy that appends.
//!
//! Pairs are carried by [`LastWins`]; `rdkafka`'s headers by this:
//!
//! ```
//! use spanprof_messaging::carrier::{Carrier, CarrierMut};
//! # #[derive(Default)] struct OwnedHeaders(Vec<(String, Option<Vec<u8>>)>);
//! # struct Header<'a, V> { key: &'a str, value: Option<V> }
//! # impl OwnedHeaders {
//! #     fn insert(mut self, header: Header<'_, &str>) -> Self {
//! #         self.0.push((header.key.into(), header.value.map(Into::into))); self
//! #     }
//! #     fn iter(&self) -> impl Iterator<Item = Header<'_, &[u8]>> {
//! #         self.0.iter().map(|(key, value)| Header { key, value: value.as_deref() })
//! #     }
//! # }
//! struct Headers<'a>(&'a mut OwnedHeaders);
//! impl Carrier for Headers<'_> {
//!     fn value(&self, key: &str) -> Option<&[u8]> {
//!         self.0.iter().filter(|header| header.key == key).last()?.value
//!     }
//! }
//! impl CarrierMut for Headers<'_> {
//!     fn set_value(&mut self, key: &str, value: &str) {
//!         let headers = std::mem::take(self.0);
//!         *self.0 = headers.insert(Header { key, value: Some(value) }); // the last one counts
//!     }
//!     fn remove_value(&mut self, _: &str) {} // rdkafka can't; an empty `tracestate` would say the same
//! }
//! # let mut owned = OwnedHeaders::default();
//! # Headers(&mut owned).set_value("traceparent", "old");
//! # Headers(&mut owned).set_value("traceparent", "new");
//! # assert_eq!(Headers(&mut owned).value("traceparent"), Some(&b"new"[..]));
//! ```

pub use crate::carrier::LastWins;

/// The error that an error code of Kafka's protocol tells, by the protocol's name for it; `None` for success.
///
/// `rdkafka`'s codes of brokers' errors are the same numbers; its own, which are below -1, become `_OTHER`.
pub fn error(code: i32) -> Option<&'static str> {
    Some(match code {
        0 => return None,
        -1 => "UNKNOWN_SERVER_ERROR",
        1 => "OFFSET_OUT_OF_RANGE",
        2 => "CORRUPT_MESSAGE",
        3 => "UNKNOWN_TOPIC_OR_PARTITION",
        5 => "LEADER_NOT_AVAILABLE",
        6 => "NOT_LEADER_OR_FOLLOWER",
        7 => "REQUEST_TIMED_OUT",
        8 => "BROKER_NOT_AVAILABLE",
        9 => "REPLICA_NOT_AVAILABLE",
        10 => "MESSAGE_TOO_LARGE",
        13 => "NETWORK_EXCEPTION",
        14 => "COORDINATOR_LOAD_IN_PROGRESS",
        15 => "COORDINATOR_NOT_AVAILABLE",
        16 => "NOT_COORDINATOR",
        17 => "INVALID_TOPIC_EXCEPTION",
        18 => "RECORD_LIST_TOO_LARGE",
        19 => "NOT_ENOUGH_REPLICAS",
        20 => "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
        22 => "ILLEGAL_GENERATION",
        24 => "INVALID_GROUP_ID",
        25 => "UNKNOWN_MEMBER_ID",
        27 => "REBALANCE_IN_PROGRESS",
        29 => "TOPIC_AUTHORIZATION_FAILED",
        30 => "GROUP_AUTHORIZATION_FAILED",
        31 => "CLUSTER_AUTHORIZATION_FAILED",
        32 => "INVALID_TIMESTAMP",
        35 => "UNSUPPORTED_VERSION",
        45 => "OUT_OF_ORDER_SEQUENCE_NUMBER",
        46 => "DUPLICATE_SEQUENCE_NUMBER",
        47 => "INVALID_PRODUCER_EPOCH",
        48 => "INVALID_TXN_STATE",
        51 => "CONCURRENT_TRANSACTIONS",
        56 => "KAFKA_STORAGE_ERROR",
        58 => "SASL_AUTHENTICATION_FAILED",
        59 => "UNKNOWN_PRODUCER_ID",
        74 => "FENCED_LEADER_EPOCH",
        82 => "FENCED_INSTANCE_ID",
        87 => "INVALID_RECORD",
        89 => "THROTTLING_QUOTA_EXCEEDED",
        90 => "PRODUCER_FENCED",
        100 => "UNKNOWN_TOPIC_ID",
        _ => crate::conventions::OTHER_ERROR,
    })
}

#[cfg(test)]
mod tests {
    use super::LastWins;
    use crate::TraceContext;

    #[test]
    fn the_last_header_counts_as_bytes() {
        let old = b"00-11111111111111111111111111111111-1111111111111111-01".to_vec();
        let new = b"00-22222222222222222222222222222222-2222222222222222-01".to_vec();
        let headers = [("traceparent", old), ("other", vec![0xff]), ("traceparent", new)];
        let context =
            TraceContext::extract(&LastWins(&headers[..])).map(|context| context.span_id().to_string());
        assert_eq!(context.as_deref(), Some("2222222222222222"));
    }

    #[test]
    fn errors_have_the_protocols_names() {
        assert_eq!(super::error(0), None);
        assert_eq!(super::error(3), Some("UNKNOWN_TOPIC_OR_PARTITION"));
        assert_eq!(super::error(-199), Some("_OTHER"));
    }

    #[test]
    fn bytes_that_are_no_text_are_no_context() {
        let headers = [("traceparent", vec![0xff; 55])];
        assert_eq!(TraceContext::extract(&LastWins(&headers[..])), None);
    }
}
