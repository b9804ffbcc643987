//! The conversation with a launcher: `READY` once, then an answer per line.

use std::io::Write;
use std::process::{ChildStdin, Command};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::process::{Lines, NoLine, Process, RunDirectory};
use crate::{Refused, StartError};

/// How long a broker may take until it is ready; a machine that is busy with builds needs a tenth of it.
const START_PATIENCE: Duration = Duration::from_secs(180);

/// How long it may take to make a topic or a group.
const ANSWER_PATIENCE: Duration = Duration::from_secs(90);

/// How often a broker is started anew because somebody took one of its ports first.
const ATTEMPTS: usize = 5;

/// What a JVM writes where a port is taken.
const PORT_TAKEN: &str = "Address already in use";

/// A broker whose launcher answers.
#[derive(Debug)]
pub(crate) struct Talk {
    process: Process,
    conversation: Mutex<(ChildStdin, Lines)>,
}

/// Why one attempt to start a broker failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// Somebody else was faster.
    PortTaken,
    /// As said.
    Failed(String),
}

impl From<std::io::Error> for Attempt {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Starts a broker, and again where it met somebody at one of its ports.
pub(crate) fn start<T>(
    broker: &str,
    mut attempt: impl FnMut(usize) -> Result<T, Attempt>,
) -> Result<T, StartError> {
    let mut reason = String::new();
    for number in 0..ATTEMPTS {
        match attempt(number) {
            Ok(started) => return Ok(started),
            Err(Attempt::PortTaken) => reason = format!("one of its ports was taken, {ATTEMPTS} times"),
            Err(Attempt::Failed(why)) => {
                reason = why;
                break;
            }
        }
    }
    Err(StartError::Failed { broker: broker.to_owned(), reason })
}

impl Talk {
    /// Starts a launcher and waits until it is ready.
    pub(crate) fn start(directory: RunDirectory, command: Command) -> Result<Self, Attempt> {
        let (process, input, lines) = Process::start(directory, command)?;
        await_line(&process, &lines, |line| line == "READY")?;
        Ok(Self { process, conversation: Mutex::new((input, lines)) })
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Says one line and waits for the answer.
    pub(crate) fn ask(&self, request: &str) -> Result<(), Refused> {
        let refused = |reason: &str| Refused { request: request.to_owned(), reason: reason.to_owned() };
        if request.contains(['\n', '\r']) {
            return Err(refused("a line break in a name"));
        }
        let mut conversation = self.conversation.lock().unwrap_or_else(PoisonError::into_inner);
        let (input, lines) = &mut *conversation;
        writeln!(input, "{request}").map_err(|error| refused(&format!("the broker is gone: {error}")))?;
        match lines.next_until(Instant::now() + ANSWER_PATIENCE) {
            Ok(answer) if answer == "ok" => Ok(()),
            Ok(answer) => Err(refused(answer.trim_start_matches("error "))),
            Err(NoLine::Ended) => Err(refused("the broker is gone")),
            Err(NoLine::Late) => Err(refused(&format!("no answer in {} s", ANSWER_PATIENCE.as_secs()))),
        }
    }
}

/// Waits for the line by which a broker says that it is ready.
pub(crate) fn await_line(
    process: &Process,
    lines: &Lines,
    is_it: impl Fn(&str) -> bool,
) -> Result<(), Attempt> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        match lines.next_until(deadline) {
            Ok(line) if is_it(&line) => return Ok(()),
            Ok(_) => {}
            Err(NoLine::Late) => {
                let seconds = START_PATIENCE.as_secs();
                return Err(Attempt::Failed(format!(
                    "not ready after {seconds} s; {}",
                    process.last_words()
                )));
            }
            Err(NoLine::Ended) => {
                let words = process.last_words();
                let taken = words.contains(PORT_TAKEN);
                return Err(if taken { Attempt::PortTaken } else { Attempt::Failed(words) });
            }
        }
    }
}
