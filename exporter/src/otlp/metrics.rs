//! Metrics on their way to a collector: requests that somebody else made.

use std::time::Duration;

use super::traces::Forwarded;
use crate::delivery::{Carrier, ConfigError, Credentials, Delivery, Endpoint, Patience};
use crate::pprof::gzip;

/// Where metrics are posted, below the server's address.
const PATH: &str = "/v1/metrics";

/// Sends `ExportMetricsServiceRequest`s to one collector, over HTTP. Meant to be used for the whole run.
#[derive(Debug)]
pub struct MetricsSender {
    delivery: Delivery,
    patience: Duration,
}

impl MetricsSender {
    /// A sender to the collector at `url`, such as `http://localhost:4318`; the path is added where there is none. A request
    /// is tried for `patience` before it is given up. Nothing is sent yet.
    ///
    /// Errors: [`ConfigError`], which says what to change.
    pub fn new(
        url: &str,
        credentials: &Credentials,
        patience: Duration,
    ) -> Result<MetricsSender, ConfigError> {
        let delivery = Delivery::new(&Endpoint {
            url,
            path: PATH,
            carrier: Carrier::Post { content_type: "application/x-protobuf" },
            tenant: None,
            credentials,
            request_timeout: Duration::from_secs(5),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(2),
        })?;
        Ok(MetricsSender { delivery, patience })
    }

    /// Sends one request until it was taken, refused for good, or patience has ended.
    ///
    /// Never fails: what became of it is in the answer.
    pub async fn send(&self, request: &[u8]) -> Forwarded {
        self.delivery.send(gzip(request).into(), Patience::new(self.patience, None)).await.into()
    }
}
