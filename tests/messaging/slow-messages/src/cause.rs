//! Which messages are made slow, by what, and for how long.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What makes a message slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Cause {
    /// Its handler computes.
    Cpu,
    /// It waits for a lock that another thread holds.
    Lock,
    /// It waits for the answer of another service.
    Socket,
    /// It sleeps.
    Sleep,
    /// It waits for a disk.
    File,
    /// It could run, on a core that another thread has.
    RunQueue,
    /// It sleeps at the head of its batch, and all behind it wait.
    HeadOfLine,
}

/// One in so many messages is made slow.
const EVERY: u32 = 100;

/// From the shortest that a message is made slow for, in milliseconds, to the longest.
const SHORTEST: u32 = 20;
const LONGEST: u32 = 60;

impl Cause {
    /// Each, in the order in which they take turns.
    pub const ALL: [Self; 7] =
        [Self::Cpu, Self::Lock, Self::Socket, Self::Sleep, Self::File, Self::RunQueue, Self::HeadOfLine];

    /// No message is made slow for a shorter time.
    pub const LEAST: Duration = Duration::from_millis(SHORTEST as u64);

    /// What makes a message slow and for how long, by the message's number; `None` for ninety-nine in a hundred.
    #[must_use]
    pub fn of(number: u32) -> Option<(Self, Duration)> {
        if number % EVERY != EVERY / 2 {
            return None;
        }
        let turn = number / EVERY;
        // A step that meets every length, before any comes again.
        let milliseconds = SHORTEST + turn * 29 % (LONGEST - SHORTEST + 1);
        let cause = Self::ALL[turn as usize % Self::ALL.len()];
        Some((cause, Duration::from_millis(u64::from(milliseconds))))
    }

    /// In a table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Lock => "lock",
            Self::Socket => "downstream socket",
            Self::Sleep => "sleep",
            Self::File => "file",
            Self::RunQueue => "run queue",
            Self::HeadOfLine => "head of line",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn one_in_a_hundred_is_slow_and_causes_take_turns() {
        let mut of_cause: HashMap<Cause, u32> = HashMap::new();
        for (cause, time) in (0..70_000).filter_map(Cause::of) {
            *of_cause.entry(cause).or_default() += 1;
            assert!((Cause::LEAST..=Duration::from_millis(60)).contains(&time), "{time:?}");
        }
        assert!(Cause::ALL.iter().all(|cause| of_cause[cause] == 100), "{of_cause:?}");
    }
}
