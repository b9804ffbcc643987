//! What becomes of a request, however it came: read, handed on, and remembered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::body::Bytes;
use spanprof_exporter::otlp::packed;

use super::fields::Malformed;
use super::profile_id::with_profile_ids;
use super::request::spans;
use super::spool::Spool;
use crate::spans::{Keeping, SpanLosses};

/// Why a request is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It will never be taken.
    #[error("not an ExportTraceServiceRequest: {0}")]
    Malformed(#[from] Malformed),
    /// Later it will: what it is handed on to does not keep up.
    #[error("the collector that spans are passed on to does not keep up; try again later")]
    Busy,
}

/// What came since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IntakeCounts {
    /// Requests taken.
    pub requests: u64,
    /// Spans in them.
    pub spans: u64,
    /// Requests that could not be read.
    pub malformed: u64,
    /// Requests sent away for want of room, to come again.
    pub busy: u64,
}

/// Takes requests.
#[derive(Debug)]
pub struct Intake {
    keeping: Arc<Mutex<Keeping>>,
    spool: Option<Arc<Spool>>,
    gives_profile_ids: bool,
    requests: AtomicU64,
    spans: AtomicU64,
    malformed: AtomicU64,
    busy: AtomicU64,
}

impl Intake {
    /// Remembers spans in `keeping` and, where there is a spool, hands every request on.
    pub fn new(keeping: Arc<Mutex<Keeping>>, spool: Option<Arc<Spool>>) -> Intake {
        let zero = || AtomicU64::new(0);
        let (requests, spans, malformed, busy) = (zero(), zero(), zero(), zero());
        Intake { keeping, spool, gives_profile_ids: false, requests, spans, malformed, busy }
    }

    /// Spans that are handed on get the attribute by which Grafana finds their profiles: see [`with_profile_ids`].
    #[must_use]
    pub fn giving_profile_ids(self, gives: bool) -> Intake {
        Intake { gives_profile_ids: gives, ..self }
    }

    /// Takes one request, whole or not at all.
    ///
    /// # Errors
    /// When it can't be read, or there is no room to hand it on.
    pub fn take(&self, request: &Bytes) -> Result<(), Refusal> {
        // Read twice, as sixty thousand spans of a stranger are 120 kB here, and 15 MB side by side.
        let number = spans(request, drop).inspect_err(|_| {
            self.malformed.fetch_add(1, Ordering::Relaxed);
        })?;
        if let Some(spool) = &self.spool {
            if spool.is_full() {
                return Err(self.sent_away());
            }
            let handed_on = match self.gives_profile_ids {
                true => packed(&with_profile_ids(request)?),
                false => packed(request),
            };
            if !spool.push(handed_on) {
                return Err(self.sent_away());
            }
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.spans.fetch_add(number as u64, Ordering::Relaxed);
        let now = Instant::now();
        let mut keeping = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        spans(request, |span| keeping.finish(span, now))?;
        Ok(())
    }

    /// Counts a request that must come again.
    pub(super) fn sent_away(&self) -> Refusal {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Refusal::Busy
    }

    /// What of the spans that came is not remembered.
    pub fn losses(&self) -> SpanLosses {
        self.keeping.lock().unwrap_or_else(PoisonError::into_inner).index().losses()
    }

    /// What came so far.
    pub fn counts(&self) -> IntakeCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        IntakeCounts {
            requests: of(&self.requests),
            spans: of(&self.spans),
            malformed: of(&self.malformed),
            busy: of(&self.busy),
        }
    }
}
