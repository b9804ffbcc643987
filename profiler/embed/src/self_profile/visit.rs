//! A look at a thread that is blocked, from another thread and without a signal.
//!
//! The kernel tells of a blocked thread which system call it is in, its stack pointer and instruction
//! (`/proc/self/task/TID/syscall`), and of any thread how often it was given a CPU. If that number is the same before and
//! after everything else was read, the thread did not run meanwhile, and what was read is what it is waiting in. The thread
//! notices nothing: no call of it returns early, and nothing wakes it.
//!
//! Works without privileges on one's own threads, also in a process that gives up being readable later, as the files stay
//! open. Signals were refused as the usual way: `poll`, `nanosleep`, `recv` with a time limit and a dozen other calls
//! fail with `EINTR` in spite of `SA_RESTART`, and each visit wakes the thread.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use spanprof_context::reading::{self, SLOT_COPY_SIZE};

use super::clock::{self, ThreadId};
use super::descriptors::KeptOpen;
use super::handler::copy_memory;
use super::schedstat::{ScheduleStatistics, Scheduled};

/// The most that is copied of a blocked thread's stack; deeper ones are cut, and say so.
const STACK_BYTES: usize = 48 << 10;

/// What is kept open to look at one thread.
#[derive(Debug)]
pub(super) struct Visitor {
    call: File,
    statistics: ScheduleStatistics,
    kept_open: Option<KeptOpen>,
}

/// What a look found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The thread is on a CPU, or waits for one.
    Running,
    /// It ran meanwhile.
    Moved,
    /// It has ended.
    Gone,
    /// It is blocked; the copy holds the slot's bytes, then the stack's.
    Blocked {
        /// A moment at which it was.
        at: u64,
        /// Where it goes on.
        instruction: u64,
        stack: u64,
        /// Where its slot lies, and how much of the copy is the slot's.
        slot: usize,
        slot_length: usize,
    },
}

/// Whether threads of this process can be looked at: the errors of trying.
pub(super) fn probe() -> io::Result<()> {
    // SAFETY: has no arguments.
    let own = unsafe { libc::gettid() };
    let visitor = Visitor::open(own)?;
    let mut text = [0; 256];
    visitor.call.read_at(&mut text, 0)?;
    match visitor.scheduled() {
        Some(_) => Ok(()),
        None => Err(io::Error::other("the kernel keeps no schedstat")),
    }
}

impl Visitor {
    /// Opens what there is of a thread.
    pub(super) fn open(thread: ThreadId) -> io::Result<Visitor> {
        let call = File::open(format!("/proc/self/task/{thread}/syscall"))?;
        Ok(Visitor { call, statistics: ScheduleStatistics::of(thread)?, kept_open: KeptOpen::ask(2) })
    }

    /// Whether there are few enough that this one may be kept for the next look. Opening anew costs some 20 microseconds.
    pub(super) fn may_stay(&self) -> bool {
        self.kept_open.is_some()
    }

    /// How often the thread was given a CPU, and how long it waited for one; `None` once it has ended.
    pub(super) fn scheduled(&self) -> Option<Scheduled> {
        self.statistics.read()
    }

    /// Stack pointer and instruction of a thread that is blocked; `None` of one that runs.
    fn waits_at(&self) -> io::Result<Option<(u64, u64)>> {
        let mut text = [0; 256];
        let length = self.call.read_at(&mut text, 0)?;
        Ok(text.get(..length).and_then(parse))
    }

    /// Looks. `copy` is overwritten.
    pub(super) fn look(&self, thread_pointer: usize, copy: &mut Vec<u8>) -> Look {
        // Most threads that have a span run: that is seen by this read alone, and what it tells of others is read again.
        match self.waits_at() {
            Ok(None) => return Look::Running,
            Ok(Some(_)) => {}
            Err(_) => return Look::Gone,
        }
        let Some(before) = self.scheduled() else { return Look::Gone };
        let (stack, instruction) = match self.waits_at() {
            Ok(Some(waits_at)) => waits_at,
            Ok(None) => return Look::Running,
            Err(_) => return Look::Gone,
        };

        let slot = reading::static_offset().map(|offset| thread_pointer.wrapping_add_signed(offset));
        copy.resize(SLOT_COPY_SIZE + STACK_BYTES, 0);
        let slot_length = slot.map_or(0, |slot| copy_memory(slot as u64, &mut copy[..SLOT_COPY_SIZE]));
        let stack_length = copy_memory(stack, &mut copy[slot_length..slot_length + STACK_BYTES]);
        copy.truncate(slot_length + stack_length);
        // Between the two looks at the thread's runs: whoever looks may lose its CPU afterwards.
        let at = clock::now();
        match self.scheduled() {
            Some(after) if after.runs == before.runs => {
                Look::Blocked { at, instruction, stack, slot: slot.unwrap_or(0), slot_length }
            }
            Some(_) => Look::Moved,
            None => Look::Gone,
        }
    }
}

/// Stack pointer and instruction: the last two words of the kernel's line; `None` for a thread that runs.
fn parse(line: &[u8]) -> Option<(u64, u64)> {
    let line = std::str::from_utf8(line).ok()?.trim_end();
    let mut words = line.rsplit(' ');
    let hexadecimal = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    let instruction = hexadecimal(words.next()?)?;
    Some((hexadecimal(words.next()?)?, instruction))
}

#[cfg(test)]
mod truth;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_lines_are_understood() {
        let call = b"202 0x7f 0x80 0x0 0x0 0x0 0x0 0x7ffd0000 0x55aa\n";
        assert_eq!(parse(call), Some((0x7ffd_0000, 0x55aa)));
        assert_eq!(parse(b"-1 0x7ffd0000 0x55aa\n"), Some((0x7ffd_0000, 0x55aa)));
        for text in [&b"running\n"[..], b"", b"0x1", b"1 2 3", b"\xff\xff"] {
            assert_eq!(parse(text), None);
        }
    }

    #[test]
    fn this_machine_lets_a_process_look_at_its_own_threads() {
        probe().expect("the kernel tells of one's own threads");
    }
}
