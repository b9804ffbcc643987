//! Sending profiles by OTLP, OpenTelemetry's own protocol, over HTTP or gRPC.
//!
//! The protocol's profiles are in development (`v1development`); what is sent follows version 1.10, which collectors and
//! servers of 2026 read. One profile per kind of time, a link per span, tables with their zero entries, attributes of the
//! resource in place. One profile per request: a server that takes a part of a request and answers with an error would
//! get that part twice by a retry.
//!
//! For Pyroscope its own interface is better (see [`crate::pyroscope`]): here run-queue time gets another id there, and
//! CPU time one that its own clients don't use.

mod config;
mod dictionary;
mod message;
mod metrics;
mod plan;
mod protocol;
mod traces;

use std::sync::Arc;
use std::time::Instant;

use prost::Message;
use tokio::task::JoinSet;

pub use crate::delivery::{ConfigError, Credentials, DropCause, Dropped, PushReport};
pub use config::OtlpConfig;
pub use metrics::MetricsSender;
pub use protocol::Protocol;
pub use traces::{Forwarded, TraceForwarder, packed};

use crate::delivery::{Carrier, Delivered, Delivery, Endpoint, Failure, Patience, Sent, conclude};
use crate::pprof::gzip;
use crate::profile::Profile;
use message::ExportProfilesServiceResponse;
use plan::{Plan, PreparedRequest};

/// Where profiles are posted over HTTP, below the server's address.
const HTTP_PATH: &str = "/v1development/profiles";
/// The call over gRPC.
#[cfg(feature = "grpc")]
const GRPC_PATH: &str = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";

/// Sends profiles to one server. Meant to be used for the whole run: it holds connections.
#[derive(Debug)]
pub struct OtlpSink {
    delivery: Arc<Delivery>,
    config: OtlpConfig,
}

impl OtlpSink {
    /// A sink for the server that the configuration names. Nothing is sent yet.
    ///
    /// Errors: [`ConfigError`], which says what to change.
    pub fn new(config: OtlpConfig) -> Result<OtlpSink, ConfigError> {
        config.check()?;
        let (path, carrier) = match config.protocol {
            Protocol::Http => (HTTP_PATH, Carrier::Post { content_type: "application/x-protobuf" }),
            #[cfg(feature = "grpc")]
            Protocol::Grpc => (GRPC_PATH, Carrier::Grpc),
            #[cfg(not(feature = "grpc"))]
            Protocol::Grpc => {
                let reason = "gRPC is not built in, only HTTP, whose port is 4318".to_owned();
                return Err(ConfigError::Url { url: config.url, reason });
            }
        };
        let delivery = Delivery::new(&Endpoint {
            url: &protocol::as_http(&config.url),
            path,
            carrier,
            tenant: config.tenant.as_deref(),
            credentials: &config.credentials,
            request_timeout: config.request_timeout,
            first_pause: config.first_pause,
            longest_pause: config.longest_pause,
        })?;
        Ok(OtlpSink { delivery: Arc::new(delivery), config })
    }

    /// Sends one window of a resource, given by its attributes (`service.name` and others), and waits until each part of
    /// it was taken or given up: at most the retry budget and one request's timeout.
    ///
    /// Never fails: what was not taken is in the report. Samples that name their own service go out under it. Dropping the
    /// future gives up what was not yet sent.
    pub async fn push(&self, profile: &Profile, resource: &[(String, String)]) -> PushReport {
        self.push_until(profile, resource, None).await
    }

    /// The same, ended at a time whatever is under way then.
    pub(crate) async fn push_until(
        &self,
        profile: &Profile,
        resource: &[(String, String)],
        end: Option<Instant>,
    ) -> PushReport {
        let patience = Patience::new(self.config.retry_budget, end);
        let mut plan = Plan::new(profile, &self.config, resource);
        let mut report = PushReport { bad_ids: plan.bad_ids(), ..PushReport::default() };
        let mut under_way = JoinSet::new();
        loop {
            if patience.has_ended() {
                report.left_behind(plan.left());
                break;
            }
            let Some(prepared) = plan.next_request() else { break };
            if under_way.len() >= self.config.concurrent_requests.max(1) {
                conclude(&mut report, under_way.join_next().await);
            }
            let delivery = Arc::clone(&self.delivery);
            under_way.spawn(async move { send(&delivery, prepared, patience).await });
        }
        while let Some(done) = under_way.join_next().await {
            conclude(&mut report, Some(done));
        }
        report.dropped.too_large = plan.too_large();
        report
    }
}

/// A profile as the requests that a sink with the default limits would send, not compressed: each is an
/// `ExportProfilesServiceRequest`.
pub fn encode(profile: &Profile, resource: &[(String, String)]) -> Vec<Vec<u8>> {
    let config = OtlpConfig::new("");
    let mut plan = Plan::new(profile, &config, resource);
    std::iter::from_fn(|| plan.next_request()).map(|prepared| prepared.body).collect()
}

async fn send(delivery: &Delivery, prepared: PreparedRequest, patience: Patience) -> Sent {
    let body = gzip(&prepared.body);
    let bytes = body.len() as u64;
    let mut delivered = delivery.send(body.into(), patience).await;
    if let Some(failure) = delivered.outcome.as_deref().ok().and_then(refusal) {
        delivered = Delivered { outcome: Err(failure), ..delivered };
    }
    Sent { delivered, samples: prepared.samples, bytes }
}

/// What a server refused in an answer that says success. An answer that can't be read refuses nothing.
fn refusal(answer: &[u8]) -> Option<Failure> {
    let partial = ExportProfilesServiceResponse::decode(answer).ok()?.partial_success?;
    if partial.rejected_profiles <= 0 {
        return None;
    }
    let words = match partial.error_message.trim() {
        "" => "the server refused the profile without a reason".to_owned(),
        reason => format!("the server refused the profile: {reason}"),
    };
    Some(Failure { cause: DropCause::Rejected, words })
}
