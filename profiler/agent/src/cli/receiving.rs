//! `attach --receive`: profiles that processes with the embedded half hand over.

use std::path::Path;
use std::time::Duration;

use spanprof_exporter::local::{LocalError, LocalReceiver, ReceiverCounts};

use super::course::Course;
use super::exit::{Exit, Failure};
use super::progress::ProgressLine;
use super::units::counted;

/// Profiles handed on before the loop looks elsewhere: senders that never pause must not keep it. As many as the receiver
/// holds, so that the end leaves none behind.
const MOST_AT_ONCE: usize = 64;

/// A receiver and what was told of it.
#[derive(Debug)]
pub(super) struct Receiving {
    receiver: LocalReceiver,
    told: ReceiverCounts,
}

impl Receiving {
    /// Listens.
    ///
    /// # Errors
    /// Wrong usage where the path is at fault, not allowed where the user may not write there, else failed.
    pub(super) fn start(path: &Path) -> Result<Receiving, Failure> {
        let receiver = LocalReceiver::bind(path).map_err(|error| {
            let sentence = format!("cannot receive profiles: {error}");
            match error {
                LocalError::BadPath { .. } | LocalError::NoSocket { .. } => {
                    Failure::new(Exit::Usage, sentence)
                }
                LocalError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                    Failure::new(Exit::NotAllowed, sentence).help(
                        "choose a path in a directory of your own, such as $XDG_RUNTIME_DIR/spanprof.sock",
                    )
                }
                _ => Failure::new(Exit::Failed, sentence),
            }
        })?;
        Ok(Receiving { receiver, told: ReceiverCounts::default() })
    }

    /// Where it listens.
    pub(super) fn path(&self) -> &Path {
        self.receiver.path()
    }

    /// Hands on what has come, waiting for so long at most for the first.
    pub(super) fn take(&mut self, wait: Duration, course: &mut Course, line: &mut ProgressLine) {
        let mut wait = wait;
        for _ in 0..MOST_AT_ONCE {
            let Some(received) = self.receiver.next(wait) else { break };
            course.ship_received(received.profile, line);
            wait = Duration::ZERO;
        }
        self.tell(course, line);
    }

    /// What was received, for the moving line.
    pub(super) fn in_words(&self) -> String {
        format!("{} received", counted(self.receiver.counts().taken, "profile", "profiles"))
    }

    /// Ends the listening and hands on what had come by then: it was answered as taken.
    pub(super) fn finish(mut self, course: &mut Course, line: &mut ProgressLine) {
        self.receiver.close();
        self.take(Duration::ZERO, course, line);
    }

    fn tell(&mut self, course: &mut Course, line: &mut ProgressLine) {
        let counts = self.receiver.counts();
        let told = std::mem::replace(&mut self.told, counts);
        let problems = [
            ("malformed", counts.malformed - told.malformed, "a process sent what is no profile"),
            (
                "no room received",
                counts.no_room - told.no_room,
                "processes send faster than profiles are taken",
            ),
            ("strangers", counts.strangers - told.strangers, "a process of another user was turned away"),
            ("too many", counts.too_many - told.too_many, "more processes connected than are let in"),
        ];
        let due = problems.into_iter().filter(|(_, new, _)| *new > 0);
        let path = self.receiver.path().display();
        course.tell(due.map(|(kind, _, words)| (kind, format!("{path}: {words}"))).collect(), line);
    }
}
