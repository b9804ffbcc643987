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
    fn bytes_that_are_no_text_are_no_context() {
        let headers = [("traceparent", vec![0xff; 55])];
        assert_eq!(TraceContext::extract(&LastWins(&headers[..])), None);
    }
}
