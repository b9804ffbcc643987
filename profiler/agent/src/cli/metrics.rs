//! `attach --otlp-metrics`: the agent's numbers, sent to a collector while the capture goes on.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Args;
use spanprof_exporter::delivery::Credentials;
use spanprof_exporter::otlp::MetricsSender;

use super::course::Course;
use super::exit::{Exit, Failure};
use super::progress::ProgressLine;
use crate::metrics::{Metrics, otlp};

/// How often numbers are sent.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long one request is tried: the next one has the same numbers and more.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where metrics go.
#[derive(Debug, Args)]
pub(super) struct MetricsArguments {
    /// Send metrics by OTLP (HTTP) to the collector at this address, every 10 seconds
    ///
    /// How many messages each destination had and how long they took, as finished spans tell (--otlp-listen), and what the agent
    /// took, lost and costs. The page has the same for Prometheus at /metrics.
    #[arg(long, value_name = "URL")]
    otlp_metrics: Option<String>,
}

impl MetricsArguments {
    /// Sends where that is asked for.
    ///
    /// # Errors
    /// Wrong usage where the address is none, failed where the system refuses a thread.
    pub(super) fn start(&self, metrics: Arc<Metrics>) -> Result<Option<MetricsPush>, Failure> {
        let Some(url) = &self.otlp_metrics else { return Ok(None) };
        let sender = MetricsSender::new(url, &Credentials::None, PATIENCE)
            .map_err(|error| Failure::new(Exit::Usage, format!("metrics can't be sent to {url}: {error}")))?;
        let start = |error| Failure::new(Exit::Failed, format!("cannot start to send metrics: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(start)?;
        let (stop, stopped) = mpsc::channel();
        let (told, problems) = mpsc::channel();
        let send = move || {
            let request = otlp::request(&metrics.snapshot());
            if let Some((_, why)) = runtime.block_on(sender.send(&request)).given_up {
                // Nobody listens any more when the agent ends.
                let _ = told.send(why);
            }
        };
        let thread = std::thread::Builder::new().name("metrics".into()).spawn(move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                send();
            }
            send();
        });
        Ok(Some(MetricsPush { stop, thread: thread.map_err(start)?, problems }))
    }
}

/// The thread that sends.
#[derive(Debug)]
pub(super) struct MetricsPush {
    stop: Sender<()>,
    thread: JoinHandle<()>,
    problems: Receiver<String>,
}

impl MetricsPush {
    /// Says what went wrong since the last call.
    pub(super) fn tell(&self, course: &mut Course, line: &mut ProgressLine) {
        let problems = self.problems.try_iter();
        let problems = problems.map(|why| ("metrics", format!("metrics were not taken: {why}"))).collect();
        course.tell(problems, line);
    }

    /// Sends the last numbers, for ten seconds at most, and ends.
    pub(super) fn finish(self) {
        let MetricsPush { stop, thread, problems } = self;
        drop((stop, problems));
        let _ = thread.join();
    }
}
