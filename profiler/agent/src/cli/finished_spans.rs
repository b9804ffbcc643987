//! `--otlp-listen`: finished spans, which say what was slow or failed, and go on to where they went before.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args;
use spanprof_exporter::delivery::Credentials;
use spanprof_exporter::otlp::TraceForwarder;

use super::exit::{Exit, Failure};
use super::progress::ProgressLine;
use super::receiving::Problems;
use super::units::{count, counted};
use crate::metrics::SpanCounts;
use crate::spans::Keeping;
use crate::spans::otlp::{ForwardCounts, Forwarding, Intake, IntakeCounts, OtlpReceiver, Spool};

/// Requests that wait for the collector may take so many bytes, compressed: spans of 480 bytes with ten attributes, 512 to a
/// request, take 83 each, so that a minute of 3,300 a second waits.
const SPOOL: usize = 16 << 20;
/// A request is given up after so long.
const PATIENCE: Duration = Duration::from_secs(600);

/// Where finished spans come from and go to.
#[derive(Debug, Args)]
pub(super) struct FinishedSpans {
    /// Take finished spans by OTLP, HTTP and gRPC, on this address [without ADDR: 127.0.0.1:4318]
    ///
    /// Point the services' exporters here (OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318). Spans that failed, or took
    /// longer than usual from begin to end, then keep their ids, also where they spent their time in no thread.
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = "127.0.0.1:4318")]
    otlp_listen: Option<SocketAddr>,
    /// Pass every request on to the collector at this address, unchanged
    ///
    /// Such as http://localhost:4319. While it is away 16 MB wait, compressed: some 200,000 spans. Then senders are told to come
    /// again.
    #[arg(long, value_name = "URL", requires = "otlp_listen")]
    otlp_forward: Option<String>,
    /// Give each span that is passed on the attribute pyroscope.profile.id, where it has none
    ///
    /// Grafana then offers "Profiles for this span". Services with the `spanprof` crate's span processor do it themselves.
    #[arg(long, requires = "otlp_forward")]
    otlp_profile_ids: bool,
}

impl FinishedSpans {
    /// Listens where that is asked for.
    ///
    /// # Errors
    /// Wrong usage where the collector's address is none, failed where the own one is taken.
    pub(super) fn start(&self, keeping: Arc<Mutex<Keeping>>) -> Result<Option<SpanIntake>, Failure> {
        let Some(address) = self.otlp_listen else { return Ok(None) };
        let forwarder = |url: &String| {
            TraceForwarder::new(url, &Credentials::None, PATIENCE).map_err(|error| {
                Failure::new(Exit::Usage, format!("spans can't be passed on to {url}: {error}"))
            })
        };
        let forwarder = self.otlp_forward.as_ref().map(forwarder).transpose()?;
        let spool = forwarder.is_some().then(|| Arc::new(Spool::new(SPOOL)));
        let intake = Intake::new(keeping, spool.clone()).giving_profile_ids(self.otlp_profile_ids);
        let intake = Arc::new(intake);
        let receiver = OtlpReceiver::start(address, Arc::clone(&intake)).map_err(|error| {
            Failure::new(Exit::Failed, error.to_string())
                .help("another collector may be there: choose another port, and point the services to it")
        })?;
        let forwarding = spool.zip(forwarder).map(|(spool, forwarder)| Forwarding::start(spool, forwarder));
        let forwarding = forwarding
            .transpose()
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot start to pass spans on: {error}")))?;
        Ok(Some(SpanIntake { receiver, intake, forwarding, told: Told::default() }))
    }
}

/// A receiver, what it hands on to, and what was told of both.
#[derive(Debug)]
pub(super) struct SpanIntake {
    receiver: OtlpReceiver,
    intake: Arc<Intake>,
    forwarding: Option<Forwarding>,
    told: Told,
}

#[derive(Debug, Default)]
struct Told {
    intake: IntakeCounts,
    forward: ForwardCounts,
}

impl SpanIntake {
    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.receiver.address()
    }

    /// What came so far, for machines.
    pub(super) fn counts(&self) -> SpanCounts {
        SpanCounts { intake: self.intake.counts(), losses: self.intake.losses() }
    }

    /// What went wrong since the last call.
    pub(super) fn problems(&mut self) -> Problems {
        let now = self.intake.counts();
        let mut problems = Vec::new();
        let requests = |number| counted(number, "request", "requests");
        if now.malformed > self.told.intake.malformed {
            let number = requests(now.malformed - self.told.intake.malformed);
            problems
                .push(("spans malformed", format!("{number} with spans could not be read and was refused")));
        }
        if now.busy > self.told.intake.busy {
            let number = requests(now.busy - self.told.intake.busy);
            problems.push((
                "spans busy",
                format!("{number} with spans sent away for want of room, to come again"),
            ));
        }
        self.told.intake = now;
        if let Some(forwarding) = &self.forwarding {
            let now = forwarding.counts();
            if now.given_up > self.told.forward.given_up {
                let number = requests(now.given_up - self.told.forward.given_up);
                problems.push((
                    "spans given up",
                    format!("{number} with spans refused by the collector for good"),
                ));
            }
            self.told.forward = now;
        }
        problems
    }

    /// Ends, and says what it did.
    pub(super) fn finish(mut self, line: &mut ProgressLine) {
        drop(self.receiver);
        let counts = self.intake.counts();
        let mut words =
            format!("spans: {} in {}", count(counts.spans), counted(counts.requests, "request", "requests"));
        if let Some(forwarding) = self.forwarding.take() {
            let ForwardCounts { forwarded, given_up, waiting } = forwarding.finish();
            words += &format!("; {} passed on", count(forwarded));
            if given_up + waiting > 0 {
                words += &format!(", {} given up, {} left behind", count(given_up), count(waiting));
            }
        }
        line.print(&words);
    }
}
