//! Pushing profiles to a Pyroscope server.
//!
//! A profile per kind of time goes out, not one with several types: `process_cpu`, `off_cpu`, `run_queue`,
//! `suspended` and `ready`, each under the name that Grafana and other producers use, where there is one. One series per request, because the server answers a mixed
//! request with a single error and keeps the good parts, so that a retry would double them. Profiles are
//! split below the server's limits, ids are checked (the server drops bad ones in silence) and labels are
//! kept few (the server makes a series of each).
//!
//! What is retried is only what can pass later and was surely not stored; a request that timed out may have
//! been stored, so it is dropped and counted. OTLP was refused for this path: there the server gives
//! run-queue time another name, and loses the service where attributes are sent by reference.

mod config;
mod delivery;
mod message;
mod series;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;

pub use config::{ConfigError, Credentials, PyroscopeConfig};
pub use delivery::DropCause;

#[cfg(feature = "stand-in")]
pub(crate) use message::{PushRequest, RawProfileSeries};

use crate::profile::Profile;
use delivery::{Delivered, Delivery};
use series::{LabelMemory, Plan, PreparedProfile};

/// Sends profiles to one server. Cheap to keep, meant to be used for the whole run: it holds connections and
/// remembers which label values it has let through.
#[derive(Debug)]
pub struct PyroscopeSink {
    delivery: Arc<Delivery>,
    config: Arc<PyroscopeConfig>,
    memory: Mutex<LabelMemory>,
}

/// What one push did. All numbers are of this push alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushReport {
    /// Profiles (one kind of time of one service, or a part of one) that the server stored.
    pub pushed: u64,
    /// Samples in them.
    pub samples: u64,
    /// Bytes sent in their bodies, compressed.
    pub bytes: u64,
    /// Profiles that were not stored, per cause.
    pub dropped: Dropped,
    /// Attempts beyond the first.
    pub retried: u64,
    /// Trace and span ids that were not 32 and 16 hex characters, or were all zeros: left off their samples.
    pub bad_ids: u64,
    /// Label values over the cap, sent as `other`: how many samples.
    pub capped_values: u64,
    /// The first refusal in words, for the log.
    pub first_error: Option<String>,
}

/// Profiles that were not stored, per cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// The server refused the content (400, malformed).
    pub rejected: u64,
    /// The server, address or credentials are wrong (401, 403, 404, 405, 415, 501, redirects).
    pub misconfigured: u64,
    /// The server kept asking for patience (429) until the budget was used up.
    pub rate_limited: u64,
    /// The server was not there, or not ready, until the budget was used up.
    pub unreachable: u64,
    /// No answer in time: the server may have stored it.
    pub timed_out: u64,
    /// One sample alone is larger than the server takes.
    pub too_large: u64,
}

impl Dropped {
    /// All causes together.
    pub const fn total(&self) -> u64 {
        self.rejected
            + self.misconfigured
            + self.rate_limited
            + self.unreachable
            + self.timed_out
            + self.too_large
    }

    fn add(&mut self, cause: DropCause) {
        match cause {
            DropCause::Rejected => self.rejected += 1,
            DropCause::Misconfigured => self.misconfigured += 1,
            DropCause::RateLimited => self.rate_limited += 1,
            DropCause::Unreachable => self.unreachable += 1,
            DropCause::TimedOut => self.timed_out += 1,
        }
    }
}

impl PyroscopeSink {
    /// A sink for the server that the configuration names. Nothing is sent yet.
    ///
    /// Errors: [`ConfigError`], which says what to change.
    pub fn new(config: PyroscopeConfig) -> Result<PyroscopeSink, ConfigError> {
        config.check()?;
        let delivery = Arc::new(Delivery::new(&config)?);
        Ok(PyroscopeSink { delivery, config: Arc::new(config), memory: Mutex::default() })
    }

    /// Sends one window and waits until each part of it was stored or given up: at most the retry budget and
    /// one request's timeout.
    ///
    /// Never fails: what was not stored is in the report. Encoding happens on the calling task (about 10 ms
    /// per MB), so that a runtime with one thread stalls for that long. Dropping the future gives up what
    /// was not yet sent.
    pub async fn push(&self, profile: &Profile) -> PushReport {
        let mut report = PushReport::default();
        let deadline = tokio::time::Instant::now() + self.config.retry_budget;
        let mut plan = {
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            Plan::new(profile, &self.config, &mut memory)
        };
        report.bad_ids = plan.bad_ids();
        report.capped_values = plan.capped_values();
        let mut under_way = JoinSet::new();
        while let Some(prepared) = plan.next_profile() {
            if under_way.len() >= self.config.concurrent_requests.max(1) {
                conclude(&mut report, under_way.join_next().await);
            }
            let delivery = Arc::clone(&self.delivery);
            under_way.spawn(async move { send(&delivery, prepared, deadline).await });
        }
        while let Some(done) = under_way.join_next().await {
            conclude(&mut report, Some(done));
        }
        report.dropped.too_large = plan.too_large();
        report
    }
}

async fn send(
    delivery: &Delivery,
    prepared: PreparedProfile,
    deadline: tokio::time::Instant,
) -> (Delivered, u64, u64) {
    let bytes = prepared.body.len() as u64;
    (delivery.send(prepared.body, deadline).await, prepared.samples, bytes)
}

type Sent = Result<(Delivered, u64, u64), tokio::task::JoinError>;

fn conclude(report: &mut PushReport, sent: Option<Sent>) {
    match sent {
        Some(Ok((delivered, samples, bytes))) => {
            report.retried += delivered.retried;
            match delivered.failure {
                None => {
                    report.pushed += 1;
                    report.samples += samples;
                    report.bytes += bytes;
                }
                Some(failure) => {
                    report.dropped.add(failure.cause);
                    report.first_error.get_or_insert(failure.words);
                }
            }
        }
        // The runtime is shutting down: the request was given up.
        Some(Err(_)) => report.dropped.add(DropCause::Unreachable),
        None => {}
    }
}
