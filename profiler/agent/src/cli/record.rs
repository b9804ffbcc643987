//! `spanprof record`: one capture, written to files.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use super::Outcome;
use super::exit::{Exit, Failure};
use super::intakes::{IntakeArguments, Intakes};
use super::interrupt::Interrupt;
use super::output::write_recording;
use super::progress::ProgressLine;
use super::selection::{CaptureArguments, Selection};
use super::session::{Ended, Go, Session};
use super::units::{count, counted, parse_seconds};
use super::words::closing;
use crate::recorder::{Progress, Recorder, Window};
use crate::summary::SpanTime;
use crate::targets::{LaunchError, Launched, ProcFs, Selector, Watch};

const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// Spans listed in `summary.json`; the profile holds all that kept their ids.
const SUMMARY_SPANS: usize = 100;

/// Record running processes, or a command, into files
///
/// Writes profile.pb.gz (pprof: cpu, off_cpu, run_queue in nanoseconds), cpu.svg, off_cpu.svg, report.html
/// (opens offline) and summary.json (what was seen and lost). Ctrl-C ends the recording early and keeps
/// what was captured; a second one leaves at once.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct RecordArguments {
    #[command(flatten)]
    selection: Selection,
    /// Start this command and record it until it ends
    ///
    /// It is held before its first instruction until the capture is ready. Its exit status becomes ours.
    #[arg(last = true, value_name = "CMD", conflicts_with = "Selection")]
    command: Vec<OsString>,
    /// How long to record [default: 10; with CMD until it ends]
    #[arg(long, value_name = "N", value_parser = parse_seconds)]
    seconds: Option<Duration>,
    #[command(flatten)]
    intakes: IntakeArguments,
    #[command(flatten)]
    capture: CaptureArguments,
    /// Where the files are written
    #[arg(long, value_name = "DIR", default_value = "./spanprof-out")]
    out: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  spanprof record --pid 4242
      Ten seconds of one process into ./spanprof-out.
  spanprof record --name '^orders-' --seconds 60 --hz 499 --out before
      A minute of all processes whose names begin with orders-, sampled 499 times a second.
  spanprof record --cgroup system.slice/orders.service
      Ten seconds of a systemd service with all its processes.
  spanprof record -- ./consumer --topic orders
      A program from its first instruction to its end.
  SPANPROF_LOCAL_AGENT=/run/user/1000/spanprof.sock \\
      spanprof record --receive /run/user/1000/spanprof.sock -- ./consumer --topic orders
      The same; the program embeds spanprof and tells how long each of its messages took.";

pub(super) fn run(arguments: &RecordArguments) -> Outcome {
    if arguments.command.is_empty() && arguments.selection.is_empty() {
        return Err(Failure::new(
            Exit::Usage,
            "nothing to record: no process is selected and no command given",
        )
        .help(
            "select with --pid, --name or --cgroup, or give a command after --; see `spanprof record --help`",
        ));
    }
    let interrupt = install_interrupt()?;
    match arguments.command.is_empty() {
        true => record_selected(arguments, interrupt),
        false => record_command(arguments, interrupt),
    }
}

/// Takes over the signals.
///
/// # Errors
/// When the system refuses.
pub(super) fn install_interrupt() -> Result<Interrupt, Failure> {
    Interrupt::install()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot take over the signals: {error}")))
}

/// Refuses a selector that matches nothing now, with the reasons where there are some.
///
/// # Errors
/// Nothing matched, or not allowed.
pub(super) fn require_match(selection: &Selection, selector: &Selector) -> Result<(), Failure> {
    let mut found = selector.find(&ProcFs::host());
    if !found.processes.is_empty() {
        return Ok(());
    }
    Err(match found.refused.pop() {
        Some(refused) => refused.into(),
        None => Failure::new(Exit::NothingMatched, format!("no process matches {}", selection.in_words()))
            .help("list processes with `ps -e`; a process never matches while it is spanprof itself"),
    })
}

fn record_selected(arguments: &RecordArguments, interrupt: Interrupt) -> Outcome {
    let selector = arguments.selection.selector()?;
    require_match(&arguments.selection, &selector)?;
    arguments.capture.check_machine()?;

    let mut line = ProgressLine::new();
    let mut recorder = Recorder::start(&arguments.capture.options_for(&selector))?;
    let mut intakes = Intakes::start(&arguments.intakes, &mut recorder, &mut line)?;
    let watch = Watch::new(ProcFs::host(), selector);
    let mut session = Session::begin(recorder, watch, &mut line)?;
    let duration = arguments.seconds.unwrap_or(DEFAULT_DURATION);
    let processes = counted(session.targets() as u64, "process", "processes");
    line.begin(&format!("recording {processes} for {} s", duration.as_secs_f64()));
    let begin = Instant::now();
    let ended = session.run(Some(begin + duration), interrupt, &mut line, |progress, line| {
        intakes.tell(line);
        line.update(&in_progress(begin.elapsed(), Some(duration), progress));
        Go::On
    })?;
    tell_end(ended, begin.elapsed(), &mut line);
    let window = session.close_window();
    intakes.finish(&mut line);
    write_and_tell(&arguments.out, window, &mut line)?;
    Ok(Exit::Done)
}

fn record_command(arguments: &RecordArguments, interrupt: Interrupt) -> Outcome {
    arguments.capture.check_machine()?;
    let mut line = ProgressLine::new();
    let mut launched = Launched::hold(&arguments.command).map_err(launch_failure)?;
    let mut recorder = Recorder::start(&arguments.capture.options())?;
    let mut intakes = Intakes::start(&arguments.intakes, &mut recorder, &mut line)?;
    let watch = Watch::new(ProcFs::host(), Selector::new().pid(launched.pid()));
    let mut session = Session::begin(recorder, watch, &mut line)?;
    launched.release().map_err(launch_failure)?;

    let begin = Instant::now();
    let deadline = arguments.seconds.map(|duration| begin + duration);
    let ended = session.run(deadline, interrupt, &mut line, |progress, line| {
        intakes.tell(line);
        line.update(&in_progress(begin.elapsed(), arguments.seconds, progress));
        match launched.poll() {
            Some(_) => Go::Stop,
            None => Go::On,
        }
    })?;
    if ended == Ended::Interrupted {
        // From a terminal the command got the same signal; if only we were told, it must be, too.
        launched.signal(libc::SIGINT);
    }
    let window = session.close_window();
    // The kernel's side is taken away before the wait for the command.
    drop(session);
    intakes.finish(&mut line);
    write_and_tell(&arguments.out, window, &mut line)?;
    if launched.poll().is_none() {
        line.print("the recording is written; waiting for the command to end (Ctrl-C ends the wait)");
    }
    // Interrupted waits come back empty: a signal that came is the command's business until the second.
    let reason = loop {
        if let Some(reason) = launched.wait() {
            break reason;
        }
        if ended != Ended::Interrupted && interrupt.requested() {
            launched.signal(libc::SIGINT);
            return Ok(Exit::Done);
        }
    };
    Ok(Exit::OfCommand(reason.shell_status()))
}

fn launch_failure(error: LaunchError) -> Failure {
    let exit = match error {
        LaunchError::NotACommand => Exit::Usage,
        LaunchError::Fork { .. } | LaunchError::Exec { .. } => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

/// Writes the files of a recording and says what was seen, lost and written.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn write_and_tell(out: &Path, mut window: Window, line: &mut ProgressLine) -> Result<(), Failure> {
    line.update("writing the files");
    window.summary.spans = SpanTime::slowest(&window.profile, SUMMARY_SPANS);
    let written = write_recording(out, &window);
    line.clear();
    // The words come first: when the disk is full, they are all that is left of the recording.
    eprint!("{}", closing(&window.summary));
    eprintln!("wrote {} into {}", written?.join(", "), out.display());
    Ok(())
}

fn tell_end(ended: Ended, after: Duration, line: &mut ProgressLine) {
    match ended {
        Ended::Time | Ended::Asked => {}
        Ended::Interrupted => line.print("interrupted: writing what was captured"),
        Ended::TargetsGone => {
            line.print(&format!("every target ended after {:.1} s", after.as_secs_f64()));
        }
    }
}

/// The moving line.
pub(super) fn in_progress(elapsed: Duration, whole: Option<Duration>, progress: &Progress) -> String {
    let mut text = match whole {
        Some(whole) => {
            format!("recording {:.0} of {} s", elapsed.as_secs_f64(), whole.as_secs_f64())
        }
        None => format!("recording, {:.0} s", elapsed.as_secs_f64()),
    };
    text.push_str(&format!(
        " · {} · {}",
        counted(progress.live_targets as u64, "process", "processes"),
        counted(progress.samples, "sample", "samples"),
    ));
    if progress.lost > 0 {
        text.push_str(&format!(" · {} lost", count(progress.lost)));
    }
    text
}
