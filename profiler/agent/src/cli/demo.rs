//! `spanprof demo`: a broker, a producer and a consumer of our own, profiled from outside.
//!
//! Behind the cargo feature `demo`, so that a production build carries no broker; the official brokers are behind one
//! feature each, as their clients are heavy. Without them the subcommand and its options are there and say how to get
//! what is missing.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::exit::{Exit, Failure};
use super::units::parse_seconds;

/// Profile a demo: a broker, a producer and a consumer with slow messages of known causes
///
/// Starts the three as processes of their own, records producer and consumer from outside, and prints the
/// slow messages with where their time went; the two tell how long each of their spans took. Writes the same
/// files as `record`. Where the system does not allow that, the two profile themselves from inside, which
/// needs no privilege.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct DemoArguments {
    /// How long to record
    #[arg(long, value_name = "N", default_value = "10", value_parser = parse_seconds)]
    seconds: Duration,
    /// Which broker carries the messages
    #[arg(long, value_enum, default_value_t = Broker::Embedded)]
    broker: Broker,
    /// Where the files are written
    #[arg(long, value_name = "DIR", default_value = "./spanprof-out")]
    out: PathBuf,
    /// Open the page when done
    #[arg(long)]
    open: bool,
}

const EXAMPLES: &str = "\
Examples:
  spanprof demo --open
      Ten seconds on a broker that comes with the demo; then the page in a browser.
  spanprof demo --broker rocketmq
      The same on the official RocketMQ. Needs a Java development kit, 17 or newer, and Maven,
      which gets 100 MB of jars the first time; on Debian and Ubuntu:
      sudo apt-get install -y --no-install-recommends openjdk-17-jdk-headless maven
  spanprof demo --broker kafka --seconds 30 --out on-kafka
      Half a minute on the official Kafka, into ./on-kafka.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Broker {
    /// An MQTT 5 broker that comes with the demo
    Embedded,
    /// The official RocketMQ, over gRPC; needs Java
    #[value(name = "rocketmq")]
    RocketMq,
    /// The official Kafka; needs Java
    Kafka,
}

impl Broker {
    /// Why a build without the feature that brings it cannot have it.
    #[cfg_attr(all(feature = "demo-rocketmq", feature = "demo-kafka"), expect(dead_code))]
    fn not_built(self) -> Failure {
        let (what, feature) = match self {
            Self::Embedded => ("has no demo: it was built without its broker", "demo"),
            Self::RocketMq => ("has no demo on RocketMQ: it was built without its client", "demo-rocketmq"),
            Self::Kafka => ("has no demo on Kafka: it was built without its client", "demo-kafka"),
        };
        Failure::new(Exit::Failed, format!("this build {what}"))
            .help(format!("build it with: cargo build --release -p spanprof-agent --features {feature}"))
    }
}

#[cfg(not(feature = "demo"))]
pub(super) fn run(arguments: &DemoArguments) -> super::Outcome {
    Err(arguments.broker.not_built())
}

#[cfg(feature = "demo")]
mod from_inside;

#[cfg(feature = "demo")]
pub(super) use with_broker::{RoleArguments, run, run_role};

#[cfg(feature = "demo")]
mod with_broker {
    use std::collections::HashMap;
    use std::io::{BufRead, BufReader, Read};
    use std::path::Path;
    use std::time::Instant;

    use spanprof_demo::cast::{Cast, Programs, Script};
    use spanprof_demo::role::Role;
    use spanprof_demo::story::SLOW_FROM_MILLISECONDS;
    use spanprof_demo::transport::Transport;
    use spanprof_demo::{DemoError, Handled};
    use spanprof_exporter::Profile;
    use spanprof_exporter::analysis::{self, Accounted};

    use super::super::exit::{Exit, Failure};
    use super::super::interrupt::Interrupt;
    use super::super::progress::ProgressLine;
    use super::super::receiving::{LAST_SPANS, Receiving};
    use super::super::record::{in_progress, install_interrupt, write_and_tell};
    use super::super::selection::CaptureArguments;
    use super::super::session::{Ended, Go, Session};
    use super::super::show::wait_cell;
    use super::super::table::Table;
    use super::super::units::{counted, nanoseconds};
    use super::super::{Outcome, browser, stdout};
    use super::{Broker, DemoArguments, from_inside};
    use crate::recorder::{Recorder, Window};
    use crate::targets::{ProcFs, Selector, Watch};

    /// The processes end by themselves after so many seconds more than the recording takes.
    const SPARE_SECONDS: u64 = 60;
    /// Messages per second: enough slow ones in ten seconds to see every cause twice.
    const RATE: u32 = 20;
    /// The most lines of the table.
    const ROWS: usize = 20;
    /// The largest truth file that is read.
    const MAX_TRUTH: u64 = 64 << 20;

    /// One of the demo's processes; started by the demo itself
    #[derive(Debug, clap::Args)]
    pub(crate) struct RoleArguments {
        #[command(subcommand)]
        role: Role,
    }

    pub(crate) fn run_role(arguments: &RoleArguments) -> std::process::ExitCode {
        // SAFETY: asks for a signal when our parent ends; plain numbers go in.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        arguments.role.run()
    }

    pub(crate) fn run(arguments: &DemoArguments) -> Outcome {
        let transport = transport(arguments.broker)?;
        transport.prepare().map_err(|error| demo_failure(error, transport))?;
        let interrupt = install_interrupt()?;
        let capture = CaptureArguments::default();
        let mut line = ProgressLine::new();
        let work = tempfile::tempdir().map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot make a temporary directory: {error}"))
        })?;
        let mut script = script(arguments, transport, work.path())?;
        let refusal = refusal(&capture);
        if let Some(refusal) = &refusal {
            line.print(&format!(
                "recording from outside is not possible ({}); the demo's services profile themselves instead",
                refusal.sentence()
            ));
            script.profiles = Some(work.path().join("profiles"));
            script.finished_spans = None;
        }
        if transport == Transport::Mqtt {
            line.update("starting broker, consumer and producer");
        } else {
            // It takes seconds.
            line.begin(&format!("starting {}, consumer and producer", transport.broker()));
        }
        let failure = |error| demo_failure(error, transport);
        let cast = Cast::start(&script).map_err(failure)?;
        let window = match refusal.zip(script.profiles) {
            None => {
                let socket = script.finished_spans.as_deref();
                let window = record(arguments, &capture, &cast, socket, interrupt, &mut line)?;
                if !interrupt.requested() {
                    line.update("ending the demo's processes");
                    cast.end().map_err(failure)?;
                }
                window
            }
            Some((refusal, profiles)) => {
                from_inside::wait(arguments.seconds, interrupt, &mut line);
                line.update("ending the demo's processes");
                cast.end().map_err(failure)?;
                from_inside::read(&profiles, refusal.sentence())?
            }
        };
        let slow = slow_spans(&window.profile, &truths(script.truth.as_deref()));
        write_and_tell(&arguments.out, window, &mut line)?;
        stdout::write(&format!("\n{slow}"))?;
        let page = arguments.out.join("report.html");
        if arguments.open {
            browser::open(page.as_os_str(), &mut line);
        }
        Ok(Exit::Done)
    }

    /// Why producer and consumer can't be recorded from outside: seen by trying, as a filter may forbid what the
    /// system's settings allow.
    fn refusal(capture: &CaptureArguments) -> Option<Failure> {
        let tried = capture
            .check_machine()
            .and_then(|()| Recorder::start(&capture.options()).map(drop).map_err(Failure::from));
        tried.err()
    }

    fn demo_failure(error: DemoError, transport: Transport) -> Failure {
        match error {
            DemoError::Missing { what, command } => {
                Failure::new(Exit::Failed, format!("cannot start {}: {what}", transport.broker()))
                    .help(format!("get it by: {command}"))
            }
            error => Failure::new(Exit::Failed, format!("the demo failed: {error}")),
        }
    }

    fn transport(broker: Broker) -> Result<Transport, Failure> {
        match broker {
            Broker::Embedded => Ok(Transport::Mqtt),
            #[cfg(feature = "demo-rocketmq")]
            Broker::RocketMq => Ok(Transport::RocketMq),
            #[cfg(feature = "demo-kafka")]
            Broker::Kafka => Ok(Transport::Kafka),
            #[cfg(not(all(feature = "demo-rocketmq", feature = "demo-kafka")))]
            absent => Err(absent.not_built()),
        }
    }

    fn script(arguments: &DemoArguments, transport: Transport, work: &Path) -> Result<Script, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot find our own program: {error}")))?;
        Ok(Script {
            programs: Programs::One { program, prefix: vec!["__demo".into()] },
            transport,
            rate: RATE,
            messages: None,
            seconds: arguments.seconds.as_secs() + SPARE_SECONDS,
            truth: Some(work.join("truth.jsonl")),
            profiles: None,
            finished_spans: Some(work.join("spans.sock")),
        })
    }

    fn record(
        arguments: &DemoArguments,
        capture: &CaptureArguments,
        cast: &Cast,
        socket: Option<&Path>,
        interrupt: Interrupt,
        line: &mut ProgressLine,
    ) -> Result<Window, Failure> {
        let selector = cast.services().into_iter().fold(Selector::new(), Selector::pid);
        let mut recorder = Recorder::start(&capture.options_for(&selector))?;
        let mut receiving =
            socket.map(|socket| Receiving::start(socket, false, Some(recorder.keeping()))).transpose()?;
        recorder.wait_for_last_spans(LAST_SPANS);
        let mut session = Session::begin(recorder, Watch::new(ProcFs::host(), selector), line)?;
        line.begin(&format!("recording producer and consumer for {} s", arguments.seconds.as_secs_f64()));
        let begin = Instant::now();
        let ended = session.run(Some(begin + arguments.seconds), interrupt, line, |progress, line| {
            line.update(&in_progress(begin.elapsed(), Some(arguments.seconds), progress));
            Go::On
        })?;
        if ended == Ended::TargetsGone {
            line.print("warning: producer and consumer ended early");
        }
        let window = session.close_window();
        for (_, problem) in receiving.as_mut().map(Receiving::problems).unwrap_or_default() {
            line.print(&format!("warning: {problem}"));
        }
        Ok(window)
    }

    /// What the consumer itself knows of its messages, by span id. Empty where it cannot be read.
    fn truths(path: Option<&Path>) -> HashMap<String, Handled> {
        let Some(Ok(file)) = path.map(std::fs::File::open) else { return HashMap::new() };
        BufReader::new(file.take(MAX_TRUTH))
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| serde_json::from_str::<Handled>(&line).ok())
            .map(|handled| (handled.span_id.clone(), handled))
            .collect()
    }

    /// The slow messages, one line each: what the profile says, and what the demo knows.
    fn slow_spans(profile: &Profile, truths: &HashMap<String, Handled>) -> String {
        let threshold = SLOW_FROM_MILLISECONDS * 1_000_000;
        let spans = analysis::spans(profile);
        let slow: Vec<_> = spans.iter().take_while(|span| span.total_ns() >= threshold).take(ROWS).collect();
        if slow.is_empty() {
            return "no slow message was seen; record for longer\n".into();
        }
        let accounted = analysis::accounted(profile);
        let is_told = accounted.spans > 0;
        let times = ["SLOW MESSAGE", ">CPU", ">OFF_CPU", ">RUN_QUEUE", "THE DEMO SAYS"];
        let told: &[&str] = if is_told { &["|WALL", "|KNOWN"] } else { &[] };
        let mut table = Table::new(&[&times, told, &["|WAIT", "|MAIN CAUSE"]].concat());
        for span in slow {
            let truth = truths.get(&span.span_id).and_then(|handled| handled.cause);
            let mut cells = vec![
                span.span_id.clone(),
                nanoseconds(span.cpu_ns),
                nanoseconds(span.off_cpu_ns),
                nanoseconds(span.run_queue_ns),
                truth.map_or("-", |cause| cause.chapter().words).to_owned(),
            ];
            if is_told {
                cells.push(span.wall_ns.map_or("-".to_owned(), nanoseconds));
                cells.push(span.coverage().map_or("-".to_owned(), percent));
            }
            cells.push(wait_cell(span.main_wait));
            cells.push(format!("{:.0} % {}", span.main_share * 100.0, span.main_cause));
            table.row(cells);
        }
        table.render_within(stdout::width()) + &accounted_for(accounted)
    }

    /// Whether the demo's own words about times can be believed, in one line.
    fn accounted_for(accounted: Accounted) -> String {
        let Some(share) = accounted.share() else { return String::new() };
        let spans = counted(accounted.spans as u64, "span", "spans");
        let before = match accounted.before_ns {
            0 => String::new(),
            before => format!("before the recording began: {} more\n", nanoseconds(before)),
        };
        format!("\naccounted for: {} of the wall time of {spans}\n{before}", percent(share))
    }

    fn percent(share: f64) -> String {
        match share {
            0.9995.. => "100 %".to_owned(),
            share => format!("{:.1} %", share * 100.0),
        }
    }
}
