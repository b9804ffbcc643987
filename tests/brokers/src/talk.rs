//! The conversation with a launcher: `READY` once, then an answer per line.

use std::collections::VecDeque;
use std::io::Write;
use std::process::{ChildStdin, Command};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::process::{Lines, NoLine, Process, RunDirectory};
use crate::{Refused, StartError};

/// How long a broker may take until it is ready; the most that a busy machine needed was 35 s.
const START_PATIENCE: Duration = Duration::from_secs(240);

/// How long it may take to make a topic or a group.
const ANSWER_PATIENCE: Duration = Duration::from_secs(90);

/// How often a broker is started anew because somebody took one of its ports first.
const ATTEMPTS: usize = 4;

/// What brokers write where a port is taken.
const PORT_TAKEN: &str = "Address already in use";

/// How many of a broker's last lines go into an error.
const LAST_LINES: usize = 10;

/// A broker whose launcher answers.
#[derive(Debug)]
pub(crate) struct Talk {
    process: Process,
    conversation: Mutex<(ChildStdin, Lines)>,
}

/// Why one attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// Another one may succeed.
    Again(String),
    /// None will.
    Failed(String),
}

impl From<std::io::Error> for Attempt {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Starts a broker, and again where it met somebody at one of its ports.
pub(crate) fn start<T>(broker: &str, attempt: impl Fn(usize) -> Result<T, Attempt>) -> Result<T, StartError> {
    let mut reasons = Vec::new();
    for number in 0..ATTEMPTS {
        match attempt(number) {
            Ok(started) => return Ok(started),
            Err(Attempt::Again(reason)) => {
                eprintln!("{broker}: {reason}; it is started again");
                reasons.push(reason);
            }
            Err(Attempt::Failed(reason)) => {
                reasons.push(reason);
                break;
            }
        }
    }
    Err(StartError::Failed { program: broker.to_owned(), reason: reasons.join("; then: ") })
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
    let mut said = VecDeque::new();
    loop {
        match lines.next_until(deadline) {
            Ok(line) if is_it(&line) => return Ok(()),
            Ok(line) => {
                said.push_back(line);
                if said.len() > LAST_LINES {
                    said.pop_front();
                }
            }
            Err(NoLine::Ended) => {
                let words = said.into_iter().chain([process.last_words()]).collect::<Vec<_>>().join("\n");
                let taken = words.contains(PORT_TAKEN);
                return Err(match taken {
                    true => Attempt::Again("one of its ports was taken".to_owned()),
                    false => Attempt::Failed(words),
                });
            }
            Err(NoLine::Late) => {
                return Err(Attempt::Failed(format!("not ready after {} s", START_PATIENCE.as_secs())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_broker_that_met_somebody_is_started_again() {
        let started = start("some", |attempt| match attempt {
            2 => Ok(attempt),
            _ => Err(Attempt::Again("taken".to_owned())),
        });
        assert_eq!(started, Ok(2));
        let never = start::<()>("some", |_| Err(Attempt::Again("taken".to_owned())));
        assert_eq!(never.unwrap_err().to_string().matches("taken").count(), ATTEMPTS);
    }

    #[test]
    fn a_broken_one_is_not() {
        let attempts = Cell::new(0);
        let started = start::<()>("some", |_| {
            attempts.set(attempts.get() + 1);
            Err(Attempt::Failed("broken".to_owned()))
        });
        assert_eq!(started.expect_err("it is broken").to_string(), "some did not start: broken");
        assert_eq!(attempts.get(), 1);
    }

    #[test]
    fn what_ends_before_it_is_ready_leaves_its_last_words() {
        let ends = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            let directory = RunDirectory::new("test").expect("there is a place for it");
            Talk::start(directory, command).expect_err("it ends")
        };
        assert_eq!(ends("echo one; echo two >&2"), Attempt::Failed("one\ntwo".to_owned()));
        let taken = Attempt::Again("one of its ports was taken".to_owned());
        assert_eq!(ends("echo 'bind: Address already in use' >&2"), taken);
    }

    #[test]
    fn questions_are_answered_one_by_one() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo hello; echo READY; read -r x; echo ok; read -r x; echo \"error no $x\""]);
        let directory = RunDirectory::new("test").expect("there is a place for it");
        let talk = Talk::start(directory, command).expect("it is ready");
        talk.ask("first").expect("it says ok");
        assert_eq!(talk.ask("second").unwrap_err().to_string(), "`second` was refused: no second");
        let gone = talk.ask("third").unwrap_err().to_string();
        assert!(gone.contains("the broker is gone"), "{gone}");
    }
}
