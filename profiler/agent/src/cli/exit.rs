//! How the program ends: exit codes that scripts rely on, and failures that say what to do next.

use std::fmt;
use std::process::ExitCode;

use crate::probe::GRANT;
use crate::recorder::RecorderError;
use crate::targets::ProcessError;

/// Why the program ends. The numbers are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: what was asked for was done.
    Done,
    /// 1: it failed.
    Failed,
    /// 2: the command line was wrong.
    Usage,
    /// 3: no process matched the selector.
    NothingMatched,
    /// 4: the system does not allow it.
    NotAllowed,
    /// Of a command that was launched: its own status.
    OfCommand(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NothingMatched => 3,
            Exit::NotAllowed => 4,
            Exit::OfCommand(status) => status,
        })
    }
}

/// A failure as a person reads it: one sentence with the cause, and the next step where one is known.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The code to end with.
    pub(crate) exit: Exit,
    sentence: String,
    help: Option<String>,
}

impl Failure {
    /// A failure with its cause.
    pub(crate) fn new(exit: Exit, sentence: impl Into<String>) -> Failure {
        Failure { exit, sentence: sentence.into(), help: None }
    }

    /// The cause alone.
    #[cfg(feature = "demo")]
    pub(crate) fn sentence(&self) -> &str {
        &self.sentence
    }

    /// Adds the next step.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Failure {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "error: {}", self.sentence)?;
        match &self.help {
            Some(help) => write!(formatter, "\nhelp: {help}"),
            None => Ok(()),
        }
    }
}

impl From<ProcessError> for Failure {
    fn from(error: ProcessError) -> Failure {
        let sentence = error.to_string();
        match error {
            ProcessError::NoSuchProcess { .. } => Failure::new(Exit::NothingMatched, sentence)
                .help("list processes with `ps -e`, or select by name: --name REGEX"),
            ProcessError::KernelThread { .. } => Failure::new(Exit::NothingMatched, sentence),
            ProcessError::NotPermitted { .. } => Failure::new(Exit::NotAllowed, sentence).help(GRANT),
            ProcessError::Io { .. } => Failure::new(Exit::Failed, sentence),
        }
    }
}

impl From<RecorderError> for Failure {
    fn from(error: RecorderError) -> Failure {
        let sentence = error.to_string();
        match error {
            RecorderError::Target(error) => error.into(),
            RecorderError::NotPermitted { .. } => Failure::new(Exit::NotAllowed, sentence).help(GRANT),
            RecorderError::Unsupported { .. } => Failure::new(Exit::Failed, sentence)
                .help("`spanprof doctor` shows what this machine allows and why"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_code() {
        let code = |error: ProcessError| Failure::from(error).exit;
        assert_eq!(code(ProcessError::NoSuchProcess { pid: 7 }), Exit::NothingMatched);
        assert_eq!(code(ProcessError::KernelThread { pid: 2 }), Exit::NothingMatched);
        assert_eq!(code(ProcessError::NotPermitted { pid: 7, what: "maps" }), Exit::NotAllowed);
        let refused = RecorderError::NotPermitted { what: "load BPF programs".into(), capability: "CAP_BPF" };
        let failure = Failure::from(refused);
        assert_eq!(failure.exit, Exit::NotAllowed);
        let text = failure.to_string();
        assert!(text.contains("CAP_BPF") && text.contains("setcap"), "{text}");
        let inner = RecorderError::Target(ProcessError::NoSuchProcess { pid: 7 });
        assert_eq!(Failure::from(inner).exit, Exit::NothingMatched);
    }
}
