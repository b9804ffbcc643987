//! What became of what was sent, in numbers.

use super::{Delivered, Failure};

/// What one push did. All numbers are of this push alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushReport {
    /// Profiles (one kind of time of one service, or a part of one) that the server took.
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
    /// A disk did not take it, or a local agent.
    pub unwritten: u64,
}

impl Dropped {
    /// Adds another's numbers.
    pub(crate) fn merge(&mut self, other: &Dropped) {
        self.rejected += other.rejected;
        self.misconfigured += other.misconfigured;
        self.rate_limited += other.rate_limited;
        self.unreachable += other.unreachable;
        self.timed_out += other.timed_out;
        self.too_large += other.too_large;
        self.unwritten += other.unwritten;
    }

    /// All causes together.
    pub const fn total(&self) -> u64 {
        self.rejected
            + self.misconfigured
            + self.rate_limited
            + self.unreachable
            + self.timed_out
            + self.too_large
            + self.unwritten
    }

    /// Counts one more.
    pub(crate) fn add(&mut self, cause: DropCause) {
        match cause {
            DropCause::Rejected => self.rejected += 1,
            DropCause::Misconfigured => self.misconfigured += 1,
            DropCause::RateLimited => self.rate_limited += 1,
            DropCause::Unreachable => self.unreachable += 1,
            DropCause::TimedOut => self.timed_out += 1,
            DropCause::Unwritten => self.unwritten += 1,
        }
    }
}

impl PushReport {
    /// Counts what was not even begun when time was up.
    pub(crate) fn left_behind(&mut self, profiles: u64) {
        self.dropped.unreachable += profiles;
        self.first_error.get_or_insert_with(|| "time was up before it could be sent".to_owned());
    }

    pub(crate) fn failed(&mut self, failure: Failure) {
        self.dropped.add(failure.cause);
        self.first_error.get_or_insert(failure.words);
    }
}

/// Why a profile was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropCause {
    /// The server refused the content.
    Rejected,
    /// The address or the credentials are wrong.
    Misconfigured,
    /// Too many bytes per second, for longer than the budget.
    RateLimited,
    /// Not there or not ready, for longer than the budget.
    Unreachable,
    /// No answer in time; it may have been stored.
    TimedOut,
    /// A disk or a local agent did not take it.
    Unwritten,
}

/// What one request carried and what became of it.
pub(crate) struct Sent {
    pub(crate) delivered: Delivered,
    pub(crate) samples: u64,
    pub(crate) bytes: u64,
}

/// Counts one finished request.
pub(crate) fn conclude(report: &mut PushReport, sent: Option<Result<Sent, tokio::task::JoinError>>) {
    match sent {
        Some(Ok(sent)) => {
            report.retried += sent.delivered.retried;
            match sent.delivered.outcome {
                Ok(_) => {
                    report.pushed += 1;
                    report.samples += sent.samples;
                    report.bytes += sent.bytes;
                }
                Err(failure) => report.failed(failure),
            }
        }
        // The runtime is shutting down: the request was given up.
        Some(Err(_)) => report.dropped.add(DropCause::Unreachable),
        None => {}
    }
}
