//! NATS: message headers, from server 2.2 on.
//!
//! Headers `traceparent` and `tracestate`. A header may have several values, of which the **first** counts. Names are
//! compared exactly by servers and most clients, yet a Go program that goes through `http.Header` writes `Traceparent`; so
//! [`Headers`] also finds that. Core NATS without headers, and a server that was told not to use them, carry nothing.
//!
//! Maps of lists are carried by [`Headers`]; `async-nats`' `HeaderMap` by this:
//!
//! ```
//! # use std::collections::HashMap;
//! # #[derive(Default)] struct HeaderMap(HashMap<String, String>);
//! # impl HeaderMap {
//! #     fn get(&self, key: &str) -> Option<&String> { self.0.get(key) }
//! #     fn insert(&mut self, key: &str, value: &str) { self.0.insert(key.into(), value.into()); }
//! # }
//! # let mut header_map = HeaderMap::default();
//! # let context = spanprof_messaging::TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
//! use spanprof_messaging::carrier::{reading, writing};
//! let mut headers = writing(|key: &str, value: Option<&str>| header_map.insert(key, value.unwrap_or("")));
//! context.inject(&mut headers);
//! let headers = reading(|key| header_map.get(key).map(|value| value.as_str().as_bytes()));
//! # assert_eq!(spanprof_messaging::TraceContext::extract(&headers), Some(context));
//! ```

use std::collections::HashMap;

use crate::carrier::{Carrier, CarrierMut};

/// Headers as a map of lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Headers<T>(pub T);

impl Carrier for Headers<&HashMap<String, Vec<String>>> {
    fn value(&self, key: &str) -> Option<&[u8]> {
        first(self.0, key)
    }
}

impl Carrier for Headers<&mut HashMap<String, Vec<String>>> {
    fn value(&self, key: &str) -> Option<&[u8]> {
        first(self.0, key)
    }
}

impl CarrierMut for Headers<&mut HashMap<String, Vec<String>>> {
    fn set_value(&mut self, key: &str, value: &str) {
        self.remove_value(key);
        self.0.insert(key.to_owned(), vec![value.to_owned()]);
    }

    fn remove_value(&mut self, key: &str) {
        self.0.retain(|name, _| !name.eq_ignore_ascii_case(key));
    }
}

fn first<'a>(headers: &'a HashMap<String, Vec<String>>, key: &str) -> Option<&'a [u8]> {
    let in_capitals =
        || headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, values)| values);
    headers.get(key).or_else(in_capitals)?.first().map(String::as_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_counts_and_capitals_are_found() {
        let mut headers = HashMap::from([("Traceparent".to_owned(), vec!["a".to_owned(), "b".to_owned()])]);
        assert_eq!(Headers(&headers).value("traceparent"), Some(&b"a"[..]));
        Headers(&mut headers).set_value("traceparent", "c");
        assert_eq!(headers.len(), 1);
        assert_eq!(Headers(&mut headers).value("traceparent"), Some(&b"c"[..]));
        assert_eq!(Headers(&headers).value(""), None);
    }
}
