//! What happens in the demo and why: the causes of slow messages, their rotation and their lengths.

use serde::{Deserialize, Serialize};

/// The topic on which orders travel.
pub const TOPIC: &str = "orders";

/// The group of consumers that shares them, on brokers that have groups.
pub const GROUP: &str = "fulfilment";

/// One message in so many is slow.
pub const SLOW_EVERY: u64 = 10;

/// How long slow messages take, in turn, in milliseconds. Six lengths over five causes: all pairs occur.
pub const SLOW_MILLISECONDS: [u64; 6] = [150, 220, 290, 360, 430, 500];

/// A message that took at least so many milliseconds can only be a slow one.
pub const SLOW_FROM_MILLISECONDS: u64 = 100;

/// Why a message is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Its payload is expensive to verify: CPU.
    Parsing,
    /// Another thread holds the lock of the warehouse that it orders from.
    Lock,
    /// The payment service is slow to answer: a blocking read of a socket.
    Socket,
    /// The customer may not be notified before some time has passed: a sleep.
    Sleep,
    /// Its journal is written to disk and synchronised again and again.
    FileIo,
}

/// Where the time of messages with one cause goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chapter {
    /// The cause.
    pub cause: Cause,
    /// The function under which the time must be found, as the end of its full name.
    pub function: &'static str,
    /// The sample type that must hold most of the time, by the name that profiles give it: `cpu` or `off_cpu`.
    pub sample_type: &'static str,
    /// The cause in words.
    pub words: &'static str,
}

/// The five causes in the order in which they rotate.
pub fn story() -> [Chapter; 5] {
    Cause::ALL.map(|cause| {
        let (function, sample_type, words) = match cause {
            Cause::Parsing => ("orders::parse_payload", "cpu", "burning CPU in parsing"),
            Cause::Lock => ("inventory::reserve_stock", "off_cpu", "waiting for a contended lock"),
            Cause::Socket => ("payments::ask_payment_service", "off_cpu", "waiting for a slow socket"),
            Cause::Sleep => ("notify::throttle", "off_cpu", "sleeping"),
            // Where the disk is memory, synchronising costs nothing and the same loop is CPU time in the kernel.
            Cause::FileIo => ("audit::write_journal", "off_cpu", "writing and syncing a file"),
        };
        Chapter { cause, function, sample_type, words }
    })
}

impl Cause {
    /// All causes in the order in which they rotate.
    pub const ALL: [Self; 5] = [Self::Parsing, Self::Lock, Self::Socket, Self::Sleep, Self::FileIo];

    /// What the story tells of this cause.
    pub fn chapter(self) -> Chapter {
        story()[self as usize]
    }
}

/// Why and for how long message `number` is slow: its cause and milliseconds; `None` for the fast ones.
pub fn trouble_of(number: u64) -> Option<(Cause, u64)> {
    if number % SLOW_EVERY != SLOW_EVERY - 1 {
        return None;
    }
    let turn = (number / SLOW_EVERY) as usize;
    Some((Cause::ALL[turn % Cause::ALL.len()], SLOW_MILLISECONDS[turn % SLOW_MILLISECONDS.len()]))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn one_message_in_ten_is_slow_and_all_pairs_occur() {
        let slow: Vec<_> = (0..300).filter_map(trouble_of).collect();
        assert_eq!(slow.len(), 30);
        assert_eq!(slow.iter().collect::<HashSet<_>>().len(), 30);
    }

    #[test]
    fn a_cause_finds_its_own_chapter() {
        for cause in Cause::ALL {
            assert_eq!(cause.chapter().cause, cause);
        }
    }

    #[test]
    fn every_slow_length_counts_as_slow() {
        assert!(SLOW_MILLISECONDS.iter().all(|length| *length >= SLOW_FROM_MILLISECONDS));
    }
}
