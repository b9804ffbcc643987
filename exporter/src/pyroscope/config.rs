//! What a Pyroscope sink must be told, and what is wrong with it.

use std::time::Duration;

use crate::delivery::{ConfigError, Credentials};
use crate::profile::label;

/// How to reach a server and what to send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PyroscopeConfig {
    /// The server's address, such as `http://localhost:4040`; a path in it is kept as a prefix.
    pub url: String,
    /// Sent as `X-Scope-OrgID`, for a server with tenants.
    pub tenant: Option<String>,
    /// How to sign in, where the server or a proxy before it asks.
    pub credentials: Credentials,
    /// The sample labels (by their OpenTelemetry names) that become series, with dots as underscores. Each
    /// distinct combination of values is a series on the server.
    pub series_labels: Vec<String>,
    /// How many distinct values of one such label are let through over the sink's life; the rest is `other`.
    pub distinct_values: usize,
    /// Labels put on every series, such as `("region", "eu")`.
    pub tags: Vec<(String, String)>,
    /// The service of samples that name none.
    pub default_service: String,
    /// How long one push retries. A restart of the server takes 15 s; 20 s or more lose nothing by it.
    pub retry_budget: Duration,
    /// How long one request may take. Less than 10 s drops what a busy server stores.
    pub request_timeout: Duration,
    /// The pause before the first retry; it doubles each time, with jitter.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// How many requests are under way at once. A push blocks until the server has flushed, typically 0.5 s.
    pub concurrent_requests: usize,
    /// The most samples in one profile; the server takes 16,000.
    pub samples_per_profile: usize,
    /// The most bytes in one profile before compression; over 2 MB can never pass the server's burst limit.
    pub bytes_per_profile: usize,
}

/// The server allows 30 label names on a series; some are its own, some are ours.
const MOST_TAGS: usize = 20;
/// The server refuses a longer value.
pub(super) const LONGEST_VALUE: usize = 2048;

impl PyroscopeConfig {
    /// The defaults for a server.
    pub fn new(url: impl Into<String>) -> PyroscopeConfig {
        let series_labels =
            [label::SPAN_NAME, label::DESTINATION, label::CONSUMER_GROUP, label::OPERATION, label::WAIT];
        PyroscopeConfig {
            url: url.into(),
            tenant: None,
            credentials: Credentials::None,
            series_labels: series_labels.map(str::to_owned).to_vec(),
            distinct_values: 200,
            tags: Vec::new(),
            default_service: "unknown_service".to_owned(),
            retry_budget: Duration::from_secs(30),
            request_timeout: Duration::from_secs(10),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(3),
            concurrent_requests: 6,
            samples_per_profile: 16_000,
            bytes_per_profile: 1_900_000,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.tags.len() > MOST_TAGS {
            let name = self.tags[MOST_TAGS].0.clone();
            return Err(ConfigError::Tag { name, reason: "more than 20 tags were given" });
        }
        for (position, (name, value)) in self.tags.iter().enumerate() {
            let before = &self.tags[..position];
            let reason = if !is_label_name(name) {
                "a name has letters, digits and underscores, and begins with no digit"
            } else if matches!(name.as_str(), "service_name" | "span_id" | "trace_id" | "profile_id")
                || name.starts_with("__")
            {
                "the name has a meaning of its own"
            } else if value.is_empty() || value.len() > LONGEST_VALUE {
                "the value must have between 1 and 2048 bytes"
            } else if before.iter().any(|(other, _)| other == name) {
                "the name was given twice"
            } else {
                continue;
            };
            return Err(ConfigError::Tag { name: name.clone(), reason });
        }
        if self.samples_per_profile == 0 || self.samples_per_profile > 16_000 {
            return Err(ConfigError::Number { what: "samples per profile", must: "between 1 and 16,000" });
        }
        if self.bytes_per_profile < 1_000 || self.bytes_per_profile > 2_000_000 {
            return Err(ConfigError::Number {
                what: "bytes per profile",
                must: "between 1,000 and 2,000,000",
            });
        }
        Ok(())
    }
}

/// Whether the server shows a label of this name and selectors take it unquoted.
pub(super) fn is_label_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|other| other.is_ascii_alphanumeric() || other == '_')
}

/// A sample label's name as a series label: dots and all else that selectors don't take become underscores.
pub(super) fn series_name(name: &str) -> String {
    let mut series: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if !is_label_name(&series) {
        series.insert(0, '_');
    }
    series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_names_become_names_that_selectors_take() {
        assert_eq!(series_name("messaging.destination.name"), "messaging_destination_name");
        assert_eq!(series_name("9lives"), "_9lives");
        assert_eq!(series_name(""), "_");
        assert!(is_label_name(&series_name("größe")));
    }

    #[test]
    fn tags_that_the_server_would_refuse_or_misread_are_refused_here() {
        for (tags, expected) in [
            (vec![("region", "eu")], true),
            (vec![("a.b", "eu")], false),
            (vec![("service_name", "x")], false),
            (vec![("__name__", "x")], false),
            (vec![("region", "")], false),
            (vec![("region", "eu"), ("region", "us")], false),
        ] {
            let tags = tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let config = PyroscopeConfig { tags, ..PyroscopeConfig::new("http://localhost:4040") };
            assert_eq!(config.check().is_ok(), expected, "{:?}", config.tags);
        }
    }

    #[test]
    fn credentials_don_t_reach_logs() {
        let config = PyroscopeConfig {
            credentials: Credentials::Bearer { token: "s3cret".into() },
            ..PyroscopeConfig::new("http://localhost:4040")
        };
        assert!(!format!("{config:?}").contains("s3cret"));
    }
}
