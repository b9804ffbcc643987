//! `spanprof attach`: capture in windows until told to stop, and ship each.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use spanprof_exporter::Profile;
use spanprof_exporter::directory::{DirectoryError, WindowDirectory};
use spanprof_exporter::pyroscope::{Credentials, PyroscopeConfig, PyroscopeSink};

use super::Outcome;
use super::complaints::Complaints;
use super::exit::{Exit, Failure};
use super::progress::ProgressLine;
use super::record::{install_interrupt, require_match};
use super::selection::{CaptureArguments, Selection};
use super::session::{Ended, Go, Session};
use super::shipping::{FLUSH_LIMIT, RETRY_LIMIT, Shipment, Shipper, Sink};
use super::units::{count, counted, parse_seconds};
use crate::recorder::Recorder;
use crate::summary::{Summary, loss};
use crate::targets::{ProcFs, Watch};

/// Profile running processes until stopped, and push to Pyroscope or a directory
///
/// Captures in windows and ships each while the next one is captured; a server that is slow or away never
/// holds up the capture. Ctrl-C or SIGTERM ends it: what was captured is sent, for at most 22 seconds; a second
/// one leaves at once.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct AttachArguments {
    #[command(flatten)]
    selection: Selection,
    /// Wait for a first process where none matches --name or --cgroup yet
    #[arg(long)]
    wait: bool,
    /// Push each window to the Pyroscope server at this address
    ///
    /// Signs in with PYROSCOPE_BASIC_AUTH_USER and PYROSCOPE_BASIC_AUTH_PASSWORD, or with
    /// PYROSCOPE_AUTH_TOKEN, where the environment holds them.
    #[arg(long, value_name = "URL")]
    pyroscope: Option<String>,
    /// Write each window as a pprof file into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How large the windows in --dir may grow together; the oldest go first
    #[arg(long, value_name = "MB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..))]
    dir_limit: u64,
    /// How long a window is
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    window: Duration,
    /// Put this tag on everything that is pushed
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag)]
    tags: Vec<(String, String)>,
    /// The tenant (X-Scope-OrgID) on a server with several
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    #[command(flatten)]
    capture: CaptureArguments,
}

const EXAMPLES: &str = "\
Examples:
  spanprof attach --name '^orders-' --pyroscope http://localhost:4040 --tag region=eu
      Profile all processes whose names begin with orders-, also those that start later.
  spanprof attach --cgroup system.slice/orders.service --dir /var/lib/spanprof --dir-limit 500
      Keep the newest 500 MB of windows of a systemd service.
  PYROSCOPE_BASIC_AUTH_USER=1234 PYROSCOPE_BASIC_AUTH_PASSWORD=… \\
      spanprof attach --pid 4242 --pyroscope https://profiles.example.org
      Push to a server that asks for a password.";

fn parse_tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".into()),
    }
}

pub(super) fn run(arguments: &AttachArguments) -> Outcome {
    check_usage(arguments)?;
    let selector = arguments.selection.selector()?;
    let may_wait = arguments.wait && selector.can_match_later();
    if !may_wait {
        require_match(&arguments.selection, &selector)?;
    }
    let mut shippers = shippers(arguments)?;
    let interrupt = install_interrupt()?;
    arguments.capture.check_machine()?;

    let mut line = ProgressLine::new();
    let options = match may_wait {
        true => arguments.capture.options(),
        false => arguments.capture.options_for(&selector),
    };
    let recorder = Recorder::start(&options)?;
    let watch = Watch::new(ProcFs::host(), selector);
    let mut session = match may_wait {
        true => Session::waiting(recorder, watch),
        false => Session::begin(recorder, watch, &mut line)?,
    };
    line.begin(&format!(
        "attached to {}; Ctrl-C ends it",
        counted(session.targets() as u64, "process", "processes")
    ));
    let mut course = Course::default();
    loop {
        let edge = Instant::now() + arguments.window;
        let windows = course.windows;
        let ended = session.run(Some(edge), interrupt, &mut line, |progress, line| {
            for shipper in &mut shippers {
                course.tell(shipper.problems(), line);
            }
            line.update(&format!(
                "attached · {} · {} · {}",
                counted(progress.live_targets as u64, "process", "processes"),
                counted(windows, "window", "windows"),
                counted(progress.samples, "sample", "samples"),
            ));
            Go::On
        })?;
        let window = session.close_window();
        course.take(&window.summary, &mut line);
        if !window.profile.is_empty() {
            let profile = Arc::new(window.profile);
            for shipper in &mut shippers {
                if let Err(words) = shipper.offer(&profile) {
                    course.tell(vec![("no room", words)], &mut line);
                }
            }
        }
        match ended {
            Ended::Time | Ended::Asked => {}
            Ended::Interrupted => break,
            Ended::TargetsGone => {
                line.print("every target ended");
                break;
            }
        }
    }
    // The kernel's side is taken away before the wait for the server.
    drop(session);
    finish(&mut shippers, course, &mut line);
    Ok(Exit::Done)
}

fn check_usage(arguments: &AttachArguments) -> Result<(), Failure> {
    if arguments.selection.is_empty() {
        return Err(Failure::new(Exit::Usage, "nothing to attach to: no process is selected")
            .help("select with --pid, --name or --cgroup; see `spanprof attach --help`"));
    }
    if arguments.pyroscope.is_none() && arguments.dir.is_none() {
        return Err(Failure::new(Exit::Usage, "nowhere to send profiles to")
            .help("give --pyroscope URL or --dir DIR, or both; see `spanprof attach --help`"));
    }
    Ok(())
}

fn shippers(arguments: &AttachArguments) -> Result<Vec<Shipper>, Failure> {
    let mut shippers = Vec::new();
    let thread_failure =
        |error: std::io::Error| Failure::new(Exit::Failed, format!("cannot start a thread: {error}"));
    if let Some(directory) = &arguments.dir {
        let limit = arguments.dir_limit.saturating_mul(1_000_000);
        let windows = WindowDirectory::new(directory, limit)
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        let name = directory.display().to_string();
        shippers.push(Shipper::start(name, windows).map_err(thread_failure)?);
    }
    if let Some(url) = &arguments.pyroscope {
        let config = PyroscopeConfig {
            tenant: arguments.tenant.clone(),
            credentials: credentials(|name| std::env::var(name).ok()),
            tags: arguments.tags.clone(),
            retry_budget: RETRY_LIMIT,
            ..PyroscopeConfig::new(url)
        };
        let push = Push::new(config)?;
        shippers.push(Shipper::start(url.clone(), push).map_err(thread_failure)?);
    }
    Ok(shippers)
}

/// The environment's credentials, under the names that Pyroscope's own clients use.
fn credentials(variable: impl Fn(&str) -> Option<String>) -> Credentials {
    let variable = |name| variable(name).filter(|value| !value.is_empty());
    if let Some(token) = variable("PYROSCOPE_AUTH_TOKEN") {
        return Credentials::Bearer { token };
    }
    match (variable("PYROSCOPE_BASIC_AUTH_USER"), variable("PYROSCOPE_BASIC_AUTH_PASSWORD")) {
        (Some(user), password) => Credentials::Basic { user, password: password.unwrap_or_default() },
        (None, _) => Credentials::None,
    }
}

/// Pushes to a server on a runtime of its own: one thread, no more than a push needs.
struct Push {
    sink: PyroscopeSink,
    runtime: tokio::runtime::Runtime,
}

impl Push {
    fn new(config: PyroscopeConfig) -> Result<Push, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot start the network: {error}")))?;
        let sink =
            PyroscopeSink::new(config).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        Ok(Push { sink, runtime })
    }
}

impl Sink for Push {
    fn ship(&mut self, profile: &Profile) -> Shipment {
        let report = self.runtime.block_on(self.sink.push(profile));
        let why = report.first_error.unwrap_or_else(|| "no reason was given".into());
        let dropped = &report.dropped;
        let mut problems = Vec::new();
        for (kind, number, words) in [
            ("rejected", dropped.rejected, "the server refused"),
            ("misconfigured", dropped.misconfigured, "the server's address or the credentials are wrong for"),
            ("rate limited", dropped.rate_limited, "the server's rate limit dropped"),
            ("unreachable", dropped.unreachable, "the server was not there for"),
            ("timed out", dropped.timed_out, "the server did not answer in time for"),
            ("too large", dropped.too_large, "samples were larger than the server takes in"),
        ] {
            if number > 0 {
                let profiles = counted(number, "profile", "profiles");
                problems.push((kind, format!("{words} {profiles}: {why}")));
            }
        }
        if report.bad_ids > 0 {
            problems.push(("bad ids", format!("{} malformed span ids were left off", count(report.bad_ids))));
        }
        if report.capped_values > 0 {
            let samples = count(report.capped_values);
            problems.push((
                "capped values",
                format!("a label has too many values: {samples} samples were sent with `other`"),
            ));
        }
        Shipment { arrived: dropped.total() == 0, problems }
    }
}

impl Sink for WindowDirectory {
    fn ship(&mut self, profile: &Profile) -> Shipment {
        match self.write(profile) {
            Ok(_) => Shipment { arrived: true, problems: Vec::new() },
            Err(error) => {
                let kind = match error {
                    DirectoryError::DiskFull { .. } => "disk full",
                    DirectoryError::WindowTooLarge { .. } => "window too large",
                    _ => "directory",
                };
                Shipment { arrived: false, problems: vec![(kind, error.to_string())] }
            }
        }
    }
}

/// What happened over all windows.
#[derive(Default)]
struct Course {
    windows: u64,
    samples: u64,
    seconds: f64,
    losses: std::collections::BTreeMap<String, u64>,
    complaints: Complaints,
}

impl Course {
    fn take(&mut self, summary: &Summary, line: &mut ProgressLine) {
        self.windows += 1;
        self.samples += summary.samples;
        self.seconds += summary.seconds;
        for (cause, number) in &summary.losses {
            *self.losses.entry(cause.clone()).or_default() += number;
        }
        let lost = summary.losses.get(loss::SAMPLES_LOST).copied().unwrap_or(0);
        if lost > 0 {
            let words = format!("{} {}", count(lost), loss::in_words(loss::SAMPLES_LOST));
            self.tell(vec![("samples lost", words)], line);
        }
    }

    fn tell(&mut self, problems: Vec<(&'static str, String)>, line: &mut ProgressLine) {
        for (kind, words) in problems {
            if let Some(text) = self.complaints.line(kind, &words, Instant::now()) {
                line.print(&text);
            }
        }
    }
}

fn finish(shippers: &mut [Shipper], mut course: Course, line: &mut ProgressLine) {
    line.update("sending what was captured; Ctrl-C leaves at once");
    let deadline = Instant::now() + FLUSH_LIMIT;
    let mut words = Vec::new();
    for shipper in shippers {
        let (tally, problems) = shipper.finish(deadline);
        course.tell(problems, line);
        let mut text = format!("{}: {} arrived", shipper.name, counted(tally.arrived, "window", "windows"));
        if tally.lost() > 0 {
            text.push_str(&format!(
                ", {} lost ({} refused or given up, {} without room in the queue, {} not sent when time was up)",
                count(tally.lost()),
                count(tally.failed),
                count(tally.no_room),
                count(tally.left_behind),
            ));
        }
        words.push(text);
    }
    line.clear();
    eprintln!(
        "captured {:.0} s in {} with {}",
        course.seconds,
        counted(course.windows, "window", "windows"),
        counted(course.samples, "sample", "samples")
    );
    for text in words {
        eprintln!("{text}");
    }
    let losses = Summary { losses: course.losses, ..Summary::default() };
    eprintln!("{}", super::words::losses(&losses));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_pairs() {
        assert_eq!(parse_tag("region=eu=1"), Ok(("region".into(), "eu=1".into())));
        for bad in ["", "region", "=eu", "region="] {
            assert!(parse_tag(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn credentials_come_from_the_environment() {
        let from = |pairs: &'static [(&str, &str)]| {
            credentials(|name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(from(&[]), Credentials::None);
        assert_eq!(from(&[("PYROSCOPE_AUTH_TOKEN", "")]), Credentials::None);
        assert_eq!(from(&[("PYROSCOPE_AUTH_TOKEN", "t")]), Credentials::Bearer { token: "t".into() });
        let basic = [("PYROSCOPE_BASIC_AUTH_USER", "7"), ("PYROSCOPE_BASIC_AUTH_PASSWORD", "p")];
        let basic: &'static [(&str, &str)] = Box::leak(Box::new(basic));
        assert_eq!(from(basic), Credentials::Basic { user: "7".into(), password: "p".into() });
    }

    #[test]
    fn a_directory_sink_tells_what_it_could_not_write() {
        let directory = tempfile::tempdir().unwrap();
        let mut sink = WindowDirectory::new(directory.path(), 1).unwrap();
        let shipment = sink.ship(&Profile::default());
        assert!(!shipment.arrived);
        assert_eq!(shipment.problems[0].0, "window too large");
    }
}
