//! Finished spans that a recording takes in meanwhile, whichever way they come.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use super::complaints::Complaints;
use super::exit::Failure;
use super::finished_spans::{FinishedSpans, SpanIntake};
use super::progress::ProgressLine;
use super::receiving::{LAST_SPANS, Receiving};
use crate::recorder::Recorder;

/// Where a recording gets finished spans from.
#[derive(Debug, Args)]
pub(super) struct IntakeArguments {
    /// Take finished spans from processes that embed spanprof, on this unix socket
    ///
    /// They say how long each message took, from begin to end. SPANPROF_LOCAL_AGENT names the socket to the processes.
    /// Only those of the same user and of root are let in.
    #[arg(long, value_name = "PATH")]
    receive: Option<PathBuf>,
    #[command(flatten)]
    finished_spans: FinishedSpans,
}

/// What takes finished spans for a recording.
pub(super) struct Intakes {
    receiving: Option<Receiving>,
    spans: Option<SpanIntake>,
    complaints: Complaints,
}

impl Intakes {
    /// Listens where that is asked for.
    ///
    /// # Errors
    /// See [`Receiving::start`] and [`FinishedSpans::start`].
    pub(super) fn start(
        arguments: &IntakeArguments,
        recorder: &mut Recorder,
        line: &mut ProgressLine,
    ) -> Result<Intakes, Failure> {
        let receive = |path: &PathBuf| Receiving::start(path, false, Some(recorder.keeping()));
        let receiving = arguments.receive.as_ref().map(receive).transpose()?;
        let spans = arguments.finished_spans.start(recorder.keeping())?;
        if let Some(receiving) = &receiving {
            recorder.wait_for_last_spans(LAST_SPANS);
            line.print(&format!("taking finished spans on {}", receiving.path().display()));
        }
        if let Some(spans) = &spans {
            line.print(&format!("taking finished spans by OTLP on {}", spans.address()));
        }
        Ok(Intakes { receiving, spans, complaints: Complaints::default() })
    }

    /// Says what went wrong since the last call.
    pub(super) fn tell(&mut self, line: &mut ProgressLine) {
        let received = self.receiving.as_mut().map(Receiving::problems);
        let by_otlp = self.spans.as_mut().map(SpanIntake::problems);
        for (kind, words) in received.into_iter().chain(by_otlp).flatten() {
            if let Some(text) = self.complaints.line(kind, &words, Instant::now()) {
                line.print(&text);
            }
        }
    }

    /// Ends, and says what was told.
    pub(super) fn finish(mut self, line: &mut ProgressLine) {
        self.tell(line);
        if let Some(receiving) = self.receiving {
            receiving.finish_spans(line);
        }
        if let Some(spans) = self.spans {
            spans.finish(line);
        }
    }
}
