//! Pushing profiles to a Pyroscope server.
//!
//! A profile per kind of time goes out, not one with several types: `process_cpu`, `off_cpu`, `run_queue`,
//! `suspended` and `ready`, each under the name that Grafana and other producers use, where there is one. One
//! series per request, because the server answers a mixed request with a single error and keeps the good parts,
//! so that a retry would double them. Profiles are split below the server's limits, ids are checked (the server
//! drops bad ones in silence) and labels are kept few (the server makes a series of each).
//!
//! What is retried is only what can pass later and was surely not stored; a request that timed out may have
//! been stored, so it is dropped and counted. OTLP was refused for this path: there the server gives
//! run-queue time another name, and loses the service where attributes are sent by reference.

mod config;
mod message;
mod series;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::task::JoinSet;

pub use crate::delivery::{ConfigError, Credentials, DropCause, Dropped, PushReport};
pub use config::PyroscopeConfig;

#[cfg(feature = "stand-in")]
pub(crate) use message::{PushRequest, RawProfileSeries};

use crate::delivery::{Carrier, Delivery, Endpoint, Patience, Sent, conclude};
use crate::profile::Profile;
use series::{LabelMemory, Plan, PreparedProfile};

/// Sends profiles to one server. Cheap to keep, meant to be used for the whole run: it holds connections and
/// remembers which label values it has let through.
#[derive(Debug)]
pub struct PyroscopeSink {
    delivery: Arc<Delivery>,
    config: Arc<PyroscopeConfig>,
    memory: Mutex<LabelMemory>,
}

impl PyroscopeSink {
    /// A sink for the server that the configuration names. Nothing is sent yet.
    ///
    /// Errors: [`ConfigError`], which says what to change.
    pub fn new(config: PyroscopeConfig) -> Result<PyroscopeSink, ConfigError> {
        config.check()?;
        let delivery = Delivery::new(&Endpoint {
            url: &config.url,
            path: "/push.v1.PusherService/Push",
            carrier: Carrier::Post { content_type: "application/proto" },
            tenant: config.tenant.as_deref(),
            credentials: &config.credentials,
            request_timeout: config.request_timeout,
            first_pause: config.first_pause,
            longest_pause: config.longest_pause,
        })?;
        let delivery = Arc::new(delivery);
        Ok(PyroscopeSink { delivery, config: Arc::new(config), memory: Mutex::default() })
    }

    /// Sends one window and waits until each part of it was stored or given up: at most the retry budget and
    /// one request's timeout.
    ///
    /// Never fails: what was not stored is in the report. Encoding happens on the calling task (about 10 ms
    /// per MB), so that a runtime with one thread stalls for that long. Dropping the future gives up what
    /// was not yet sent.
    pub async fn push(&self, profile: &Profile) -> PushReport {
        self.push_of(profile, &self.config.default_service, None).await
    }

    /// The same for samples that name no service of their own, and ended at a time whatever is under way then.
    pub(crate) async fn push_of(&self, profile: &Profile, service: &str, end: Option<Instant>) -> PushReport {
        let mut report = PushReport::default();
        let patience = Patience::new(self.config.retry_budget, end);
        let mut plan = {
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            Plan::new(profile, &self.config, service, &mut memory)
        };
        report.bad_ids = plan.bad_ids();
        report.capped_values = plan.capped_values();
        let mut under_way = JoinSet::new();
        loop {
            if patience.has_ended() {
                report.left_behind(plan.left());
                break;
            }
            let Some(prepared) = plan.next_profile() else { break };
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

async fn send(delivery: &Delivery, prepared: PreparedProfile, patience: Patience) -> Sent {
    let bytes = prepared.body.len() as u64;
    Sent { delivered: delivery.send(prepared.body.into(), patience).await, samples: prepared.samples, bytes }
}
