//! Traces on their way through: requests that somebody else made, sent on as they are.

use std::time::Duration;

use crate::delivery::{
    Carrier, ConfigError, Credentials, Delivered, Delivery, DropCause, Endpoint, Patience,
};
use crate::pprof::gzip;

/// A request as a forwarder sends it: compressed, and in no more memory than it needs.
pub fn packed(request: &[u8]) -> bytes::Bytes {
    gzip(request).into_boxed_slice().into()
}

/// Where traces are posted, below the server's address.
const PATH: &str = "/v1/traces";

/// Sends on `ExportTraceServiceRequest`s to one collector, over HTTP. Meant to be used for the whole run.
#[derive(Debug)]
pub struct TraceForwarder {
    delivery: Delivery,
    patience: Duration,
}

/// What became of one request that was sent on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// Attempts beyond the first.
    pub retried: u64,
    /// Why it was given up, and in words; nothing where it was taken.
    pub given_up: Option<(DropCause, String)>,
}

impl From<Delivered> for Forwarded {
    fn from(delivered: Delivered) -> Forwarded {
        Forwarded {
            retried: delivered.retried,
            given_up: delivered.outcome.err().map(|failure| (failure.cause, failure.words)),
        }
    }
}

impl TraceForwarder {
    /// A forwarder to the collector at `url`, such as `http://localhost:4318`; the path is added where there is none. A request
    /// is tried for `patience` before it is given up. Nothing is sent yet.
    ///
    /// Errors: [`ConfigError`], which says what to change.
    pub fn new(
        url: &str,
        credentials: &Credentials,
        patience: Duration,
    ) -> Result<TraceForwarder, ConfigError> {
        let delivery = Delivery::new(&Endpoint {
            url,
            path: PATH,
            carrier: Carrier::Post { content_type: "application/x-protobuf" },
            tenant: None,
            credentials,
            request_timeout: Duration::from_secs(10),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(5),
        })?;
        Ok(TraceForwarder { delivery, patience })
    }

    /// Sends on one request, [`packed`], until it was taken, refused for good, or patience has
    /// ended.
    ///
    /// Never fails: what became of it is in the answer. Whether the collector refused some of the spans is not looked at, for
    /// nobody here could mend them.
    pub async fn forward(&self, packed: bytes::Bytes) -> Forwarded {
        self.delivery.send(packed, Patience::new(self.patience, None)).await.into()
    }
}
