//! What a test does where a broker can't be had.

use std::borrow::Borrow;

/// Something is missing on this machine without which a broker or a client cannot run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; get it by `{command}`")]
pub struct NotHere {
    what: String,
    command: String,
}

impl NotHere {
    pub(crate) fn new(what: impl Into<String>, command: impl Into<String>) -> Self {
        Self { what: what.into(), command: command.into() }
    }

    /// What is missing, in words.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The command that gets it.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.command
    }
}

/// Why a broker or a client didn't start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// It is not on this machine: a reason to leave a test out.
    #[error(transparent)]
    NotHere(#[from] NotHere),
    /// It is, and failed: a reason to look.
    #[error("{program} did not start: {reason}")]
    Failed {
        /// Which one, with its version.
        program: String,
        /// What it said last.
        reason: String,
    },
}

/// Why a running broker didn't make a topic or a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{request}` was refused: {reason}")]
pub struct Refused {
    pub(crate) request: String,
    pub(crate) reason: String,
}

/// The broker, or `None` where this machine lacks what it needs, which is said by the test's name.
///
/// # Panics
/// Where the environment says `CI`, as no test may be missing there; and where the broker is here and failed.
pub fn require<T, E: Borrow<StartError>>(test: &str, broker: Result<T, E>) -> Option<T> {
    let error = match broker {
        Ok(broker) => return Some(broker),
        Err(error) => error,
    };
    let StartError::NotHere(missing) = error.borrow() else { panic!("{test}: {}", error.borrow()) };
    assert!(std::env::var_os("CI").is_none(), "{test} cannot run: {missing}");
    eprintln!("NOT RUN: {test}: {missing}");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_one_sentence_with_a_command() {
        let missing = NotHere::new("no `mosquitto` here", "sudo apt-get install -y mosquitto");
        assert_eq!(missing.to_string(), "no `mosquitto` here; get it by `sudo apt-get install -y mosquitto`");
    }

    #[test]
    #[should_panic(expected = "kafka 1 did not start: out of luck")]
    fn a_broker_that_failed_is_no_reason_to_leave_a_test_out() {
        let failed = StartError::Failed { program: "kafka 1".to_owned(), reason: "out of luck".to_owned() };
        require::<(), _>("test", Err(failed));
    }
}
