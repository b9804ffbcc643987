//! The loop around a capture: who joins, when it ends, what is told meanwhile.
//!
//! It drives a [`Capture`], which the recorder is, so that its rules are tested without a kernel.

use std::time::{Duration, Instant};

use super::exit::{Exit, Failure};
use super::interrupt::Interrupt;
use super::progress::ProgressLine;
use crate::recorder::{Progress, Recorder, RecorderError, Window};
use crate::targets::{ProcessError, Watch};

/// How often it is looked for new processes.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long one wait for samples lasts: the delay with which an end is noticed.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// What the loop needs of a recorder.
pub(crate) trait Capture {
    /// See [`Recorder::add_target`].
    fn add_target(&mut self, pid: u32) -> Result<(), RecorderError>;
    /// See [`Recorder::restart_window`].
    fn restart_window(&mut self);
    /// See [`Recorder::poll`].
    fn poll(&mut self, timeout: Duration) -> Result<Progress, RecorderError>;
    /// See [`Recorder::close_window`].
    fn close_window(&mut self) -> Window;
}

impl Capture for Recorder {
    fn add_target(&mut self, pid: u32) -> Result<(), RecorderError> {
        Recorder::add_target(self, pid)
    }

    fn restart_window(&mut self) {
        Recorder::restart_window(self);
    }

    fn poll(&mut self, timeout: Duration) -> Result<Progress, RecorderError> {
        Recorder::poll(self, timeout)
    }

    fn close_window(&mut self) -> Window {
        Recorder::close_window(self)
    }
}

/// A capture with its targets.
#[derive(Debug)]
pub(crate) struct Session<C> {
    capture: C,
    watch: Watch,
    next_look: Instant,
    targets: usize,
}

/// Why a stretch of capture ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The time was up.
    Time,
    /// Somebody asked us to stop.
    Interrupted,
    /// No target lives and none can come.
    TargetsGone,
    /// What the caller waited for happened.
    Asked,
}

/// Whether a stretch goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Go {
    /// Yes.
    On,
    /// It ends now.
    Stop,
}

impl<C: Capture> Session<C> {
    /// Adds every process that matches now.
    ///
    /// # Errors
    /// When there is none, or none that may be profiled.
    pub(crate) fn begin(capture: C, watch: Watch, line: &mut ProgressLine) -> Result<Session<C>, Failure> {
        let mut session = Session::waiting(capture, watch);
        let refused = session.look(line)?;
        match refused {
            _ if session.targets > 0 => {
                // What the first targets did while the others were being added does not count.
                session.capture.restart_window();
                Ok(session)
            }
            Some(failure) => Err(failure),
            None => Err(Failure::new(Exit::NothingMatched, "every process that matched has ended already")),
        }
    }

    /// Begins without a target: those that match join when the loop runs.
    pub(crate) fn waiting(capture: C, watch: Watch) -> Session<C> {
        Session { capture, watch, next_look: Instant::now(), targets: 0 }
    }

    /// How many processes were added so far.
    pub(crate) fn targets(&self) -> usize {
        self.targets
    }

    /// Captures until the deadline, an interrupt, the end of all targets, or the caller's word. The
    /// caller is asked after each poll.
    ///
    /// # Errors
    /// When the capture broke.
    pub(crate) fn run(
        &mut self,
        deadline: Option<Instant>,
        interrupt: Interrupt,
        line: &mut ProgressLine,
        mut tick: impl FnMut(&Progress, &mut ProgressLine) -> Go,
    ) -> Result<Ended, Failure> {
        loop {
            let now = Instant::now();
            if interrupt.requested() {
                return Ok(Ended::Interrupted);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(now));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Ended::Time);
            }
            if self.watch.can_grow() && now >= self.next_look {
                self.look(line)?;
            }
            let progress = self.capture.poll(left.map_or(POLL_TIMEOUT, |left| left.min(POLL_TIMEOUT)))?;
            if tick(&progress, line) == Go::Stop {
                return Ok(Ended::Asked);
            }
            if progress.live_targets == 0 && !self.watch.can_grow() {
                return Ok(Ended::TargetsGone);
            }
        }
    }

    /// Ends the window and begins the next.
    pub(crate) fn close_window(&mut self) -> Window {
        self.capture.close_window()
    }

    /// Adds what joined. A process that cannot be profiled is told once (it is known from then on) and
    /// never ends the capture of the others; the last such failure is given back.
    fn look(&mut self, line: &mut ProgressLine) -> Result<Option<Failure>, Failure> {
        self.next_look = Instant::now() + LOOK_INTERVAL;
        let mut refused = None;
        for process in self.watch.look().joined {
            let readable = process.require_readable(self.watch.procfs()).map_err(RecorderError::from);
            match readable.and_then(|()| self.capture.add_target(process.pid())) {
                Ok(()) => self.targets += 1,
                Err(RecorderError::Target(ProcessError::NoSuchProcess { .. })) => {}
                Err(error @ (RecorderError::Target(_) | RecorderError::NotPermitted { .. })) => {
                    let failure = Failure::from(error);
                    if self.targets > 0 {
                        line.print(&format!("warning: {} is left out: {failure}", process.executable_name()));
                    }
                    refused = Some(failure);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(refused)
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use spanprof_exporter::Profile;

    use super::*;
    use crate::summary::Summary;
    use crate::targets::{ProcFs, Selector};

    /// Answers as scripted and remembers who was added.
    #[derive(Default)]
    struct Script {
        added: Vec<u32>,
        refuse: bool,
        polls: u64,
        alive_for: u64,
        breaks: bool,
    }

    impl Capture for Script {
        fn add_target(&mut self, pid: u32) -> Result<(), RecorderError> {
            if self.refuse {
                return Err(ProcessError::NotPermitted { pid, what: "maps" }.into());
            }
            self.added.push(pid);
            Ok(())
        }

        fn restart_window(&mut self) {
            self.polls = 0;
        }

        fn poll(&mut self, _timeout: Duration) -> Result<Progress, RecorderError> {
            if self.breaks {
                return Err(RecorderError::Unsupported { reason: "it broke".into() });
            }
            self.polls += 1;
            let live_targets = usize::from(self.polls < self.alive_for);
            Ok(Progress { samples: self.polls, live_targets, lost: 0 })
        }

        fn close_window(&mut self) -> Window {
            Window { profile: Profile::default(), summary: Summary::default() }
        }
    }

    struct Cat(Child);

    impl Cat {
        fn start() -> Cat {
            Cat(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
        }

        fn watch(&self) -> Watch {
            Watch::new(ProcFs::host(), Selector::new().pid(self.0.id()))
        }
    }

    impl Drop for Cat {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn interrupt() -> Interrupt {
        Interrupt::install().unwrap()
    }

    #[test]
    fn ends_when_its_targets_are_gone() {
        let cat = Cat::start();
        let mut line = ProgressLine::new();
        let script = Script { alive_for: 3, ..Script::default() };
        let mut session = Session::begin(script, cat.watch(), &mut line).unwrap();
        assert_eq!((session.targets(), &session.capture.added), (1, &vec![cat.0.id()]));
        let ended = session.run(None, interrupt(), &mut line, |_, _| Go::On).unwrap();
        assert_eq!((ended, session.capture.polls), (Ended::TargetsGone, 3));
    }

    #[test]
    fn ends_at_the_deadline_or_when_asked() {
        let cat = Cat::start();
        let mut line = ProgressLine::new();
        let script = Script { alive_for: u64::MAX, ..Script::default() };
        let mut session = Session::begin(script, cat.watch(), &mut line).unwrap();
        let ended = session.run(Some(Instant::now()), interrupt(), &mut line, |_, _| Go::On).unwrap();
        assert_eq!((ended, session.capture.polls), (Ended::Time, 0));
        let ended = session
            .run(None, interrupt(), &mut line, |progress, _| match progress.samples {
                5 => Go::Stop,
                _ => Go::On,
            })
            .unwrap();
        assert_eq!((ended, session.capture.polls), (Ended::Asked, 5));
    }

    #[test]
    fn a_refused_target_is_not_allowed_and_a_dead_one_matches_nothing() {
        let cat = Cat::start();
        let mut line = ProgressLine::new();
        let script = Script { refuse: true, ..Script::default() };
        let failure = Session::begin(script, cat.watch(), &mut line).map(|_| ()).unwrap_err();
        assert_eq!(failure.exit, Exit::NotAllowed);
        assert!(failure.to_string().contains("CAP_SYS_PTRACE"), "{failure}");

        let watch = cat.watch();
        drop(cat);
        let failure = Session::begin(Script::default(), watch, &mut line).map(|_| ()).unwrap_err();
        assert_eq!(failure.exit, Exit::NothingMatched);
    }

    #[test]
    fn a_capture_that_breaks_says_so() {
        let cat = Cat::start();
        let mut line = ProgressLine::new();
        let script = Script { breaks: true, ..Script::default() };
        let mut session = Session::begin(script, cat.watch(), &mut line).unwrap();
        let failure = session.run(None, interrupt(), &mut line, |_, _| Go::On).unwrap_err();
        assert!(failure.to_string().contains("it broke"), "{failure}");
    }
}
