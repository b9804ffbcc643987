//! One run: what it is told, how it is started and measured, what it tells.

use std::fmt;
use std::hint::black_box;
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use spanprof_messaging::{Instrumentation, System};

use crate::Failure;
use crate::arguments::Client;
use crate::sidecar::Sidecar;
use crate::variant::Variant;

/// Nothing comes for so long: then something is lost.
pub(crate) const SILENCE: Duration = Duration::from_secs(60);

/// What a run is told.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    pub(crate) client: Client,
    pub(crate) variant: Variant,
    pub(crate) broker: String,
    pub(crate) topic: String,
    pub(crate) group: String,
    pub(crate) messages: u32,
    /// How much a handler computes: see [`work`].
    pub(crate) turns: u64,
}

/// What a run tells.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// From the first message to the last.
    pub(crate) nanoseconds: u64,
    /// Meanwhile, of the whole process.
    pub(crate) cpu_nanoseconds: u64,
    pub(crate) messages: u64,
    /// Messages that never came.
    pub(crate) lost: u64,
    /// Messages that came more than once.
    pub(crate) doubled: u64,
    /// Messages in another's trace, or unknown ones.
    pub(crate) astray: u64,
}

impl Report {
    pub(crate) fn per_second(&self) -> f64 {
        self.messages as f64 * 1e9 / self.nanoseconds as f64
    }

    pub(crate) fn cpu_microseconds_each(&self) -> f64 {
        self.cpu_nanoseconds as f64 / 1e3 / self.messages as f64
    }

    pub(crate) fn print(&self) -> Result<(), Failure> {
        println!("{}", serde_json::to_string(self)?);
        Ok(())
    }

    /// An error where a message is not once in its own trace.
    pub(crate) fn require_whole(&self, course: &Course) -> Result<(), Failure> {
        match self {
            Self { lost: 0, doubled: 0, astray: 0, .. } => Ok(()),
            _ => Err(format!("the run '{}' of {} is not whole: {self}", course.group, course.topic).into()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lost, doubled, astray, .. } = self;
        write!(
            out,
            "{:8.0} messages/s, {:6.1} µs of CPU each; ",
            self.per_second(),
            self.cpu_microseconds_each()
        )?;
        write!(out, "{lost} lost, {doubled} doubled, {astray} astray")
    }
}

/// What a handler computes, a nanosecond or so a turn; the same in each variant, whatever interrupts it.
pub(crate) fn work(turns: u64) -> u64 {
    (0..turns)
        .fold(turns | 1, |state, _| black_box(state.wrapping_mul(6_364_136_223_846_793_005).rotate_left(17)))
}

/// How many turns take so long on this machine: of ten tries, the quickest.
pub(crate) fn turns_in(time: Duration) -> u64 {
    const TURNS: u64 = 100_000;
    let try_once = || {
        let begin = Instant::now();
        black_box(work(TURNS));
        begin.elapsed()
    };
    let quickest = (0..10).map(|_| try_once()).min().unwrap_or_default();
    (time.as_nanos() as f64 * TURNS as f64 / quickest.as_nanos().max(1) as f64) as u64
}

/// What a run has of spanprof, as long as it lives.
pub(crate) struct Observed {
    pub(crate) instrumentation: Option<Instrumentation>,
    _publishing: Option<spanprof::Agent>,
    _provider: SdkTracerProvider,
}

impl Observed {
    /// Starts it, then waits until the agent looks on, where it is to.
    pub(crate) fn start(course: &Course, system: System) -> Result<Self, Failure> {
        let provider = SdkTracerProvider::builder().with_span_processor(Dropped).build();
        let instrumentation = Instrumentation::new(system).with_tracer_provider(&provider);
        let instrumentation = match course.variant.publishes() {
            true => instrumentation.with_attributes(spanprof::with_attributes),
            false => instrumentation,
        };
        let publishing = match course.variant.publishes() {
            true => Some(spanprof::Agent::builder().service_name("throughput").start()?),
            false => None,
        };
        println!("ready");
        let mut go = String::new();
        io::stdin().lock().read_line(&mut go)?;
        Ok(Self {
            instrumentation: course.variant.has_spans().then_some(instrumentation),
            _publishing: publishing,
            _provider: provider,
        })
    }
}

/// Spans end here. An exporter's cost is not what is measured.
#[derive(Debug)]
struct Dropped;

impl opentelemetry_sdk::trace::SpanProcessor for Dropped {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: opentelemetry_sdk::trace::SpanData) {
        black_box(span);
    }

    fn force_flush(&self) -> opentelemetry_sdk::error::OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> opentelemetry_sdk::error::OTelSdkResult {
        Ok(())
    }
}

/// Ends with the benchmark, however that ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a course in a process of its own, with the agent attached where it is to be.
pub(crate) fn measure(course: &Course, spanprof: &Path) -> Result<Report, Failure> {
    let mut child = Killed(
        Command::new(std::env::current_exe()?)
            .arg(course.client.name())
            .args(["--variant", course.variant.name()])
            .args(["--broker", &course.broker, "--topic", &course.topic, "--group", &course.group])
            .args(["--messages", &course.messages.to_string(), "--turns", &course.turns.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let mut said = BufReader::new(child.0.stdout.take().ok_or("no standard output")?);
    let mut ready = String::new();
    said.read_line(&mut ready)?;
    let sidecar = match course.variant {
        Variant::Attached => Some(Sidecar::attach(spanprof, child.0.id())?),
        _ => None,
    };
    child.0.stdin.take().ok_or("no standard input")?.write_all(b"go\n")?;
    let mut report = String::new();
    said.read_to_string(&mut report)?;
    let status = child.0.wait()?;
    if !status.success() {
        return Err(format!("the consumer '{}' failed: {status}", course.group).into());
    }
    if let Some(sidecar) = sidecar {
        sidecar.end()?;
    }
    // Clients may have printed something of their own.
    let report = report.lines().next_back().ok_or("the consumer said nothing")?;
    Ok(serde_json::from_str(report)?)
}
