//! How long a thread has waited for a CPU, and how often it ran: `/proc/self/task/TID/schedstat`.
//!
//! Three numbers: nanoseconds on a CPU, nanoseconds in the run queue, times that it was given a CPU. The first lags
//! behind for a thread that runs, so the thread's CPU clock is used for it. One descriptor per thread stays open: opening costs
//! ten times a read, and may be forbidden later to a process that gives up being readable.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::clock::ThreadId;

/// A thread's statistics, open.
#[derive(Debug)]
pub(super) struct ScheduleStatistics(File);

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Scheduled {
    /// Nanoseconds in which the thread could have run and did not.
    pub(super) run_queue: u64,
    /// How often it was given a CPU.
    pub(super) runs: u64,
}

impl ScheduleStatistics {
    /// Those of the calling thread.
    pub(super) fn of_calling_thread() -> io::Result<Self> {
        File::open("/proc/thread-self/schedstat").map(Self)
    }

    /// Those of a thread of this process.
    pub(super) fn of(thread: ThreadId) -> io::Result<Self> {
        File::open(format!("/proc/self/task/{thread}/schedstat")).map(Self)
    }

    /// Reads; `None` once the thread has ended. Neither allocates nor locks.
    pub(super) fn read(&self) -> Option<Scheduled> {
        let mut text = [0; 96];
        let length = self.0.read_at(&mut text, 0).ok()?;
        parse(text.get(..length)?)
    }
}

fn parse(text: &[u8]) -> Option<Scheduled> {
    let mut numbers =
        text.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty()).map(number);
    let _on_cpu = numbers.next()??;
    Some(Scheduled { run_queue: numbers.next()??, runs: numbers.next()?? })
}

fn number(word: &[u8]) -> Option<u64> {
    word.iter().try_fold(0u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_line_is_understood_and_no_other() {
        assert_eq!(parse(b"12 34 56\n"), Some(Scheduled { run_queue: 34, runs: 56 }));
        for text in ["", "1 2", "1 2 x", "1 -2 3", "99999999999999999999 1 1"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_thread_that_runs_has_run() {
        let read = ScheduleStatistics::of_calling_thread().unwrap().read().unwrap();
        assert!(read.runs > 0);
        let gone = std::thread::spawn(|| {
            // SAFETY: has no arguments.
            ScheduleStatistics::of(unsafe { libc::gettid() }).unwrap()
        });
        assert_eq!(gone.join().unwrap().read(), None);
    }
}
