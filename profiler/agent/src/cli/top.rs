//! `spanprof top`: destinations and slow messages as they are now, for people on a server.
//!
//! The capture is the same as that of `attach`, and so are the words: what is shown is asked of `exporter::analysis`. The
//! picture is a pure function of the last minute's windows and of what was chosen (`screen`), so that it is tested without a
//! terminal. Asking a running agent's page instead was refused: it would show what that one selected, and need it to run.

mod screen;
mod terminal;
mod view;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;

use self::screen::Cursor;
use self::terminal::{Key, Terminal};
use self::view::{History, View};
use super::Outcome;
use super::exit::{Exit, Failure};
use super::progress::ProgressLine;
use super::record::{install_interrupt, require_match};
use super::selection::{CaptureArguments, Selection};
use super::session::{Ended, Go, Session};
use super::stdout;
use super::units::parse_seconds;
use crate::recorder::Recorder;
use crate::targets::{ProcFs, Watch};

/// Watch destinations and slow messages in the terminal
///
/// Captures like `attach` and shows the last minute, anew every two seconds: where the time of each destination goes, and
/// the messages that took longest with what they waited for. Enter on a message shows where its time went.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct TopArguments {
    #[command(flatten)]
    selection: Selection,
    /// How often the picture changes
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = parse_seconds)]
    every: Duration,
    /// Print one picture as text after so many seconds, and end; needs no terminal
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    once: Option<Duration>,
    #[command(flatten)]
    capture: CaptureArguments,
}

const EXAMPLES: &str = "\
Examples:
  spanprof top --name '^orders-'
      Watch all processes whose names begin with orders-.
  spanprof top --pid 4242 --every 5
      Watch one process, calmly.
  spanprof top --name orders-consumer --once 10
      Ten seconds as text, for a script or a ticket.

Keys: Tab destinations or messages, arrows or j and k choose, Enter one message, Esc back,
      Space holds the picture still, q ends.";

/// How much is shown: long enough to hold a slow message, short enough to be now.
const SHOWN: Duration = Duration::from_secs(60);

pub(super) fn run(arguments: &TopArguments) -> Outcome {
    if arguments.selection.is_empty() {
        return Err(Failure::new(Exit::Usage, "nothing to watch: no process is selected")
            .help("select with --pid, --name or --cgroup; see `spanprof top --help`"));
    }
    if arguments.once.is_none() && !std::io::stdout().is_terminal() {
        return Err(Failure::new(Exit::Usage, "standard output is no terminal to draw on")
            .help("--once 10 prints one picture of ten seconds as text"));
    }
    let selector = arguments.selection.selector()?;
    require_match(&arguments.selection, &selector)?;
    arguments.capture.check_machine()?;
    let interrupt = install_interrupt()?;
    let recorder = Recorder::start(&arguments.capture.options_for(&selector))?;
    let mut line = ProgressLine::new();
    let mut session = Session::begin(recorder, Watch::new(ProcFs::host(), selector), &mut line)?;
    if let Some(length) = arguments.once {
        line.begin(&format!("watching for {} s", length.as_secs_f64()));
        session.run(Some(Instant::now() + length), interrupt, &mut line, |_, _| Go::On)?;
        let mut history = History::new(length);
        history.add(session.close_window());
        line.clear();
        stdout::write(&screen::as_text(&View::of(&history)))?;
        return Ok(Exit::Done);
    }
    let terminal = Terminal::start()
        .map_err(|error| Failure::new(Exit::Failed, format!("the terminal can't be drawn on: {error}")))?;
    watch(arguments.every, session, interrupt, terminal, &mut line)
}

fn watch(
    every: Duration,
    mut session: Session<Recorder>,
    interrupt: super::interrupt::Interrupt,
    mut terminal: Terminal,
    line: &mut ProgressLine,
) -> Outcome {
    let drawing =
        |error: std::io::Error| Failure::new(Exit::Failed, format!("the terminal is gone: {error}"));
    let mut history = History::new(SHOWN);
    let mut view = View::of(&history);
    let mut cursor = Cursor::default();
    let mut failed = None;
    loop {
        let edge = Instant::now() + every;
        terminal.draw(&view, &mut cursor).map_err(drawing)?;
        let ended = session.run(Some(edge), interrupt, line, |_, _| {
            let keys = terminal.keys();
            let changed = !keys.is_empty();
            for key in keys {
                if key == Key::End {
                    return Go::Stop;
                }
                cursor.press(key, &view);
            }
            if changed && let Err(error) = terminal.draw(&view, &mut cursor) {
                failed = Some(error);
                return Go::Stop;
            }
            Go::On
        })?;
        if let Some(error) = failed.take() {
            return Err(drawing(error));
        }
        match ended {
            Ended::Time => {}
            Ended::Asked | Ended::Interrupted => return Ok(Exit::Done),
            Ended::TargetsGone => {
                drop(terminal);
                line.print("every target ended");
                return Ok(Exit::Done);
            }
        }
        history.add(session.close_window());
        if !cursor.is_held() {
            view = View::of(&history);
        }
    }
}
