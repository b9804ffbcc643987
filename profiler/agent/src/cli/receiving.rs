//! `--receive`: profiles and finished spans that processes with the embedded half hand over.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use spanprof_exporter::local::{LocalError, LocalReceiver, ReceiverCounts, Wanted};

use super::course::Course;
use super::exit::{Exit, Failure};
use super::progress::ProgressLine;
use super::units::counted;
use crate::spans::Keeping;
use crate::spans::otlp::Intake;

/// Profiles handed on before the loop looks elsewhere: senders that never pause must not keep it. As many as the receiver
/// holds, so that the end leaves none behind.
const MOST_AT_ONCE: usize = 64;

/// A window that closes waits so long for the spans that ended in it last: the embedded half tells them five times a second.
pub(super) const LAST_SPANS: Duration = Duration::from_millis(500);

/// A receiver and what was told of it.
#[derive(Debug)]
pub(super) struct Receiving {
    receiver: LocalReceiver,
    /// Where there is a capture that finished spans are for.
    spans: Option<Arc<Intake>>,
    told: ReceiverCounts,
}

/// Problems by kind, in words.
pub(super) type Problems = Vec<(&'static str, String)>;

impl Receiving {
    /// Listens for profiles where somebody ships them, and for finished spans where a capture decides by them.
    ///
    /// # Errors
    /// Wrong usage where the path is at fault, not allowed where the user may not write there, else failed.
    pub(super) fn start(
        path: &Path,
        ships: bool,
        keeping: Option<Arc<Mutex<Keeping>>>,
    ) -> Result<Receiving, Failure> {
        // Never passed on to a collector: the service's own exporter sends them where it likes.
        let spans = keeping.map(|keeping| Arc::new(Intake::new(keeping, None)));
        let take = spans.clone().map(|intake| {
            Box::new(move |request: Vec<u8>| intake.take(&request.into()).is_ok())
                as spanprof_exporter::local::TakeSpans
        });
        let wanted = Wanted { profiles: ships, spans: take };
        let receiver = LocalReceiver::bind_for(path, wanted).map_err(|error| {
            let what = if ships { "profiles" } else { "finished spans" };
            let sentence = format!("cannot receive {what}: {error}");
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
        Ok(Receiving { receiver, spans, told: ReceiverCounts::default() })
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
        course.tell(self.problems(), line);
    }

    /// What was received, for the moving line.
    pub(super) fn in_words(&self) -> String {
        format!("{} received", counted(self.receiver.counts().taken, "profile", "profiles"))
    }

    /// Ends the listening and hands on what had come by then: it was answered as taken.
    pub(super) fn finish(mut self, course: &mut Course, line: &mut ProgressLine) {
        self.receiver.close();
        self.take(Duration::ZERO, course, line);
        self.tell_spans(line);
    }

    /// Ends the listening, where no profiles are taken.
    pub(super) fn finish_spans(mut self, line: &mut ProgressLine) {
        self.receiver.close();
        self.tell_spans(line);
    }

    fn tell_spans(&self, line: &mut ProgressLine) {
        let Some(spans) = &self.spans else { return };
        let words = counted(spans.counts().spans, "finished span", "finished spans");
        line.print(&format!("{words} told on {}", self.receiver.path().display()));
    }

    /// What went wrong since the last call.
    pub(super) fn problems(&mut self) -> Problems {
        let counts = self.receiver.counts();
        let told = std::mem::replace(&mut self.told, counts);
        let problems = [
            (
                "malformed",
                counts.malformed - told.malformed,
                "a process sent what is no profile, and no spans either",
            ),
            (
                "no room received",
                counts.no_room - told.no_room,
                "processes send faster than profiles are taken",
            ),
            ("unwanted", counts.unwanted - told.unwanted, UNWANTED[usize::from(self.spans.is_some())]),
            ("strangers", counts.strangers - told.strangers, "a process of another user was turned away"),
            ("too many", counts.too_many - told.too_many, "more processes connected than are let in"),
        ];
        let due = problems.into_iter().filter(|(_, new, _)| *new > 0);
        let path = self.receiver.path().display();
        due.map(|(kind, _, words)| (kind, format!("{path}: {words}"))).collect()
    }
}

/// Without a capture, and with one.
const UNWANTED: [&str; 2] = [
    "a process tells finished spans, which help where it is captured, too: select it with --pid, --name or --cgroup",
    "a process profiles itself and sends that here, where nothing ships it; SPANPROF_SELF_PROFILE=false ends it",
];
