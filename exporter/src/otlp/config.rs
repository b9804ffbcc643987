//! What an OTLP sink must be told.

use std::time::Duration;

use super::protocol::Protocol;
use crate::delivery::{ConfigError, Credentials};
use crate::profile::label;

/// How to reach a server that speaks OTLP profiles and what to send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpConfig {
    /// The server's address, such as `http://localhost:4318`; a path in it is kept as a prefix over HTTP.
    pub url: String,
    /// What is spoken with it.
    pub protocol: Protocol,
    /// Sent as `X-Scope-OrgID`, for a server with tenants.
    pub tenant: Option<String>,
    /// How to sign in, where the server or a proxy before it asks.
    pub credentials: Credentials,
    /// The sample labels, by their names, that become attributes of samples. Some servers make a series of each
    /// distinct combination of values.
    pub attributes: Vec<String>,
    /// The service of samples that name none, where the resource names none either.
    pub default_service: String,
    /// How long one push retries.
    pub retry_budget: Duration,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// The pause before the first retry; it doubles each time, with jitter.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// How many requests are under way at once.
    pub concurrent_requests: usize,
    /// The most samples in one profile; Pyroscope takes 16,000.
    pub samples_per_profile: usize,
    /// The most bytes in one request before compression; servers commonly take 4 MiB, Pyroscope 2 MB at once.
    pub bytes_per_request: usize,
}

impl OtlpConfig {
    /// The defaults for a server, and the protocol that its address tells ([`Protocol::of`]).
    pub fn new(url: impl Into<String>) -> OtlpConfig {
        let url = url.into();
        let attributes =
            [label::SPAN_NAME, label::DESTINATION, label::CONSUMER_GROUP, label::OPERATION, label::WAIT];
        OtlpConfig {
            protocol: Protocol::of(&url),
            url,
            tenant: None,
            credentials: Credentials::None,
            attributes: attributes.map(str::to_owned).to_vec(),
            default_service: "unknown_service".to_owned(),
            retry_budget: Duration::from_secs(30),
            request_timeout: Duration::from_secs(10),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(3),
            concurrent_requests: 6,
            samples_per_profile: 16_000,
            bytes_per_request: 1_900_000,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.samples_per_profile == 0 {
            return Err(ConfigError::Number { what: "samples per profile", must: "at least 1" });
        }
        if self.bytes_per_request < 1_000 {
            return Err(ConfigError::Number { what: "bytes per request", must: "at least 1,000" });
        }
        Ok(())
    }
}
