//! `spanprof attach`: capture in windows until told to stop, and ship each.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use spanprof_exporter::page::PageDetails;

use super::course::Course;
use super::destinations::Destinations;
use super::exit::{Exit, Failure};
use super::finished_spans::{FinishedSpans, SpanIntake};
use super::interrupt::Interrupt;
use super::links::LinkArguments;
use super::metrics::{MetricsArguments, MetricsPush};
use super::progress::ProgressLine;
use super::receiving::{LAST_SPANS, Receiving};
use super::record::{install_interrupt, require_match};
use super::selection::{CaptureArguments, Selection};
use super::session::{Ended, Go, Session};
use super::shipping::{QUEUE, QUEUE_OF_RECEIVED};
use super::units::{counted, parse_seconds};
use super::{Outcome, page};
use crate::metrics::Metrics;
use crate::page::Health;
use crate::recorder::Recorder;
use crate::spans::KeepingOptions;
use crate::targets::{ProcFs, Watch};

/// Profile running processes until stopped, and push to Pyroscope, keep in a directory, or show on a page
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
    /// Take profiles and finished spans from processes that embed spanprof, on this unix socket
    ///
    /// Profiles are sent on like one's own, so that services need neither the server's address nor its credentials; for that
    /// alone no privilege and no selection are needed. Finished spans say how long the messages of the selected processes
    /// took, as with --otlp-listen. Only processes of the same user and of root are let in.
    #[arg(long, value_name = "PATH")]
    receive: Option<PathBuf>,
    #[command(flatten)]
    finished_spans: FinishedSpans,
    #[command(flatten)]
    destinations: Destinations,
    #[command(flatten)]
    links: LinkArguments,
    #[command(flatten)]
    metrics: MetricsArguments,
    /// How long a window is
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    window: Duration,
    #[command(flatten)]
    capture: CaptureArguments,
    /// So many normal spans of each destination and operation keep their ids in a window, beside the slow and failed ones
    ///
    /// To compare slow ones with. What has no id folds with its like: by service, span name, destination, group and operation.
    #[arg(long, value_name = "N", default_value_t = KeepingOptions::default().normal)]
    keep_normal: usize,
}

const EXAMPLES: &str = "\
Examples:
  spanprof attach --name '^orders-' --pyroscope http://localhost:4040 --tag region=eu
      Profile all processes whose names begin with orders-, also those that start later.
  spanprof attach --cgroup system.slice/orders.service --dir /var/lib/spanprof --dir-limit 500
      Keep the newest 500 MB of windows of a systemd service, a week of them at most; `spanprof open` shows them.
  spanprof attach --name '^orders-' --page
      Look at http://127.0.0.1:4142/ what they do, without any server.
  PYROSCOPE_BASIC_AUTH_USER=1234 PYROSCOPE_BASIC_AUTH_PASSWORD=… \\
      spanprof attach --pid 4242 --pyroscope https://profiles.example.org
      Push to a server that asks for a password.
  spanprof attach --name '^orders-' --pyroscope http://localhost:4040 --otlp-listen --otlp-forward http://localhost:4319
      Keep the ids of spans that their tracer says were slow or failed; pass the spans on to the collector.
  spanprof attach --receive /run/user/1000/spanprof.sock --pyroscope http://localhost:4040
      Ship for services that profile themselves (SPANPROF_LOCAL_AGENT names the socket to them); no privilege is needed.";

pub(super) fn run(arguments: &AttachArguments) -> Outcome {
    check_usage(arguments)?;
    let capture = match arguments.selection.is_empty() {
        true => None,
        false => {
            let selector = arguments.selection.selector()?;
            let may_wait = arguments.wait && selector.can_match_later();
            if !may_wait {
                require_match(&arguments.selection, &selector)?;
            }
            Some((selector, may_wait))
        }
    };
    let queue = if arguments.receive.is_some() { QUEUE_OF_RECEIVED } else { QUEUE };
    let mut line = ProgressLine::new();
    let (shippers, archive) = arguments.destinations.shippers(queue)?;
    let links = arguments.links.templates(arguments.destinations.pyroscope())?;
    let (health, metrics) = (Arc::new(Health::of_this_agent()), Arc::new(Metrics::new()));
    // Ends with this function, when all is shipped.
    let _page = match arguments.destinations.page().zip(archive) {
        None => None,
        Some((address, archive)) => {
            let details = PageDetails { links, ..PageDetails::default() };
            let told = (Arc::clone(&health), Some(Arc::clone(&metrics)));
            Some(page::serve(address, archive, told, details, &mut line)?)
        }
    };
    let push = arguments.metrics.start(Arc::clone(&metrics))?;
    let mut course = Course::new(shippers, arguments.destinations.page().map(|_| health), metrics);
    let receive =
        |keeping| arguments.receive.as_deref().map(|path| Receiving::start(path, true, keeping)).transpose();
    let interrupt = install_interrupt()?;
    let Some((selector, may_wait)) = capture else {
        if let Some(receiving) = receive(None)? {
            receive_only(receiving, &mut course, push.as_ref(), interrupt, &mut line);
        }
        if let Some(push) = push {
            push.finish();
        }
        course.finish(&mut line);
        return Ok(Exit::Done);
    };
    arguments.capture.check_machine()?;
    let mut options = match may_wait {
        true => arguments.capture.options(),
        false => arguments.capture.options_for(&selector),
    };
    options.spans.normal = arguments.keep_normal;
    let mut recorder = Recorder::start(&options)?;
    let receiving = receive(Some(recorder.keeping()))?;
    if receiving.is_some() {
        recorder.wait_for_last_spans(LAST_SPANS);
    }
    let spans = arguments.finished_spans.start(recorder.keeping())?;
    if let Some(spans) = &spans {
        line.print(&format!("taking finished spans by OTLP on {}", spans.address()));
    }
    let watch = Watch::new(ProcFs::host(), selector);
    let session = match may_wait {
        true => Session::waiting(recorder, watch),
        false => Session::begin(recorder, watch, &mut line)?,
    };
    let intakes = Intakes { receiving, spans };
    capture_windows(arguments.window, session, intakes, &mut course, push.as_ref(), interrupt, &mut line)?;
    if let Some(push) = push {
        push.finish();
    }
    course.finish(&mut line);
    Ok(Exit::Done)
}

/// Ships what others hand over, until told to stop.
fn receive_only(
    mut receiving: Receiving,
    course: &mut Course,
    push: Option<&MetricsPush>,
    interrupt: Interrupt,
    line: &mut ProgressLine,
) {
    line.begin(&format!("receiving on {}; Ctrl-C ends it", receiving.path().display()));
    while !interrupt.requested() {
        receiving.take(POLL, course, line);
        course.tell_problems(line);
        if let Some(push) = push {
            push.tell(course, line);
        }
        line.update(&format!("receiving · {}", receiving.in_words()));
    }
    receiving.finish(course, line);
}

/// How long a wait for a profile lasts: the delay with which an interrupt is noticed.
const POLL: Duration = Duration::from_millis(100);

/// What others hand over meanwhile.
struct Intakes {
    receiving: Option<Receiving>,
    spans: Option<SpanIntake>,
}

fn capture_windows(
    length: Duration,
    mut session: Session<Recorder>,
    mut intakes: Intakes,
    course: &mut Course,
    push: Option<&MetricsPush>,
    interrupt: Interrupt,
    line: &mut ProgressLine,
) -> Result<(), Failure> {
    line.begin(&format!(
        "attached to {}; Ctrl-C ends it",
        counted(session.targets() as u64, "process", "processes")
    ));
    loop {
        let edge = Instant::now() + length;
        let ended = session.run(Some(edge), interrupt, line, |progress, line| {
            course.tell_problems(line);
            let mut text = format!(
                "attached · {} · {} · {}",
                counted(progress.live_targets as u64, "process", "processes"),
                counted(course.windows(), "window", "windows"),
                counted(progress.samples, "sample", "samples"),
            );
            if let Some(receiving) = &mut intakes.receiving {
                receiving.take(Duration::ZERO, course, line);
                text.push_str(&format!(" · {}", receiving.in_words()));
            }
            if let Some(spans) = &mut intakes.spans {
                course.tell(spans.problems(), line);
            }
            if let Some(push) = push {
                push.tell(course, line);
            }
            line.update(&text);
            Go::On
        })?;
        let window = session.close_window();
        course.take(&window.summary, line);
        if let Some(spans) = &intakes.spans {
            course.metrics().set_spans(spans.counts());
        }
        course.ship(window.profile, line);
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
    if let Some(receiving) = intakes.receiving {
        receiving.finish(course, line);
    }
    if let Some(spans) = intakes.spans {
        spans.finish(line);
    }
    Ok(())
}

fn check_usage(arguments: &AttachArguments) -> Result<(), Failure> {
    if arguments.selection.is_empty() && arguments.receive.is_none() {
        return Err(Failure::new(Exit::Usage, "nothing to attach to: no process is selected")
            .help("select with --pid, --name or --cgroup, or take profiles with --receive; see `spanprof attach --help`"));
    }
    arguments.destinations.require_some()
}
