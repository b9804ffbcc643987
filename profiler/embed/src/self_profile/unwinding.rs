//! Unwinds copies of stacks by the tables of the code that is loaded.
//!
//! Only ever on the sampler's thread. A copy begins at the stack pointer; what lies outside of it is not known, and a walk
//! that would need it ends there and says so.
//!
//! A visit through `/proc` knows the stack pointer and the instruction, not rbp, from which many frames are counted. Where a
//! rule needs it, it follows from the stack pointer and the function's instructions
//! ([`Modules::frame_pointer_distance`]); where they don't tell, the stack ends there. A scan of the stack for
//! something that looks like a frame was refused: it is wrong too often to be shown as truth.

use spanprof_context::SpanContext;
use spanprof_context::reading::Snapshot;
use spanprof_symbolizer::walk::{self, Start, WalkEnd};

use super::buffers::Sample;
use super::clock::{self, ThreadId};
use super::modules::{LoadedModules, Modules};
use super::schedstat::ScheduleStatistics;
use super::visit::{Look, Visitor};
use super::window::StackEnd;

/// Frames per stack; deeper ones are cut, and say so.
const MAX_FRAMES: usize = 512;

/// Turns copies into addresses.
#[derive(Debug)]
pub(super) struct Unwinder {
    modules: Modules,
    frames: Vec<u64>,
    copy: Vec<u8>,
}

/// What a visit found.
#[derive(Debug)]
pub(super) enum Outcome<'a> {
    /// The thread is on a CPU, or waits for one.
    Running,
    /// It ran meanwhile, so that nothing of what was read need fit together.
    Moved,
    /// It has ended.
    Gone,
    /// The kernel refuses to tell.
    Denied,
    /// It is blocked.
    Blocked(Blocked<'a>),
}

/// A blocked thread.
#[derive(Debug)]
pub(super) struct Blocked<'a> {
    /// A moment at which it was blocked.
    pub(super) at: u64,
    /// What it publishes.
    pub(super) span: Option<SpanContext>,
    /// That span's attributes, as they stand in a record.
    pub(super) attributes: &'a [u8],
    pub(super) stack: Walked<'a>,
}

/// A stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walked<'a> {
    /// Leaf first; callers' addresses lie within their calls.
    pub(super) frames: &'a [u64],
    pub(super) end: StackEnd,
}

impl Unwinder {
    pub(super) fn new(modules: Modules) -> Unwinder {
        Unwinder { modules, frames: Vec::with_capacity(MAX_FRAMES), copy: Vec::new() }
    }

    /// Looks at what is loaded.
    pub(super) fn refresh(&mut self) {
        self.modules.refresh();
    }

    /// What was loaded since the last call.
    pub(super) fn take_modules(&mut self) -> LoadedModules {
        self.modules.take()
    }

    /// Unwinds what a signal handler copied.
    pub(super) fn unwind(&mut self, sample: &Sample) -> Walked<'_> {
        let registers = &sample.registers;
        let stack = Copied {
            begin: registers.stack,
            bytes: sample.stack.get(..sample.stack_length as usize).unwrap_or(&[]),
        };
        self.modules.refresh_for(registers.instruction);
        let start = Start { ip: registers.instruction, sp: registers.stack, bp: Some(registers.frame) };
        let end = walk(&self.modules, start, stack, &mut self.frames);
        Walked { frames: &self.frames, end }
    }

    /// Looks at a thread from here, without a signal. `visitor` keeps what was opened for it.
    pub(super) fn visit(
        &mut self,
        thread: ThreadId,
        visitor: &mut Option<Visitor>,
        thread_pointer: usize,
    ) -> Outcome<'_> {
        let opened = match visitor.take().map_or_else(|| Visitor::open(thread), Ok) {
            Ok(opened) => opened,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
                return Outcome::Gone;
            }
            Err(_) => return Outcome::Denied,
        };
        let look = opened.look(thread_pointer, &mut self.copy);
        if opened.may_stay() {
            *visitor = Some(opened);
        }
        match look {
            Look::Running => Outcome::Running,
            Look::Moved => Outcome::Moved,
            Look::Gone => Outcome::Gone,
            Look::Blocked { at, instruction, stack, slot, slot_length } => {
                self.modules.refresh_for(instruction);
                let (slot_bytes, stack_bytes) = self.copy.split_at(slot_length);
                let start = Start { ip: instruction, sp: stack, bp: None };
                let copied = Copied { begin: stack, bytes: stack_bytes };
                let end = walk(&self.modules, start, copied, &mut self.frames);
                let published = Snapshot::parse(slot_bytes, slot);
                Outcome::Blocked(Blocked {
                    at,
                    span: published.as_ref().map(|(snapshot, _)| snapshot.span),
                    attributes: published.map_or(&[], |(_, attributes)| attributes),
                    stack: Walked { frames: &self.frames, end },
                })
            }
        }
    }

    /// A thread's CPU time and time in the run queue, nanoseconds.
    pub(super) fn clocks_of(&self, thread: ThreadId, visitor: Option<&Visitor>) -> Option<(u64, u64)> {
        let cpu = clock::cpu_of(thread)?;
        let scheduled = match visitor {
            Some(visitor) => visitor.scheduled()?,
            None => ScheduleStatistics::of(thread).ok()?.read()?,
        };
        Some((cpu, scheduled.run_queue))
    }
}

/// A part of a stack, copied.
#[derive(Clone, Copy)]
struct Copied<'a> {
    begin: u64,
    bytes: &'a [u8],
}

impl Copied<'_> {
    fn word(&self, address: u64) -> Option<u64> {
        let offset = usize::try_from(address.checked_sub(self.begin)?).ok()?;
        let word = self.bytes.get(offset..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*word))
    }
}

/// Walks outwards into `frames`, whose old content is lost.
fn walk(modules: &Modules, start: Start, stack: Copied<'_>, frames: &mut Vec<u64>) -> StackEnd {
    frames.resize(MAX_FRAMES, 0);
    let (filled, end) = walk::walk_into(
        start,
        |address| modules.rule_at(address),
        |address| modules.frame_pointer_distance(address),
        |address| stack.word(address),
        frames,
    );
    frames.truncate(filled);
    match end {
        WalkEnd::Root => StackEnd::Root,
        WalkEnd::NoRule => StackEnd::NoRule,
        WalkEnd::Unreadable => StackEnd::NotCopied,
        WalkEnd::Stuck => StackEnd::Stuck,
        WalkEnd::Depth => StackEnd::Depth,
        WalkEnd::NoFramePointer => StackEnd::NoFramePointer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_tells_what_it_holds_and_no_more() {
        let bytes: Vec<u8> = (0..20).collect();
        let copied = Copied { begin: 1000, bytes: &bytes };
        assert_eq!(copied.word(1000), Some(0x0706_0504_0302_0100));
        assert_eq!(copied.word(1012), Some(u64::from_ne_bytes([12, 13, 14, 15, 16, 17, 18, 19])));
        for outside in [999, 1013, 1020, 0, u64::MAX] {
            assert_eq!(copied.word(outside), None);
        }
    }

    #[test]
    fn what_is_no_code_ends_a_stack_at_once() {
        let mut frames = Vec::new();
        let start = Start { ip: 0x10, sp: 0x1000, bp: None };
        let end = walk(&Modules::new(), start, Copied { begin: 0x1000, bytes: &[] }, &mut frames);
        assert_eq!((end, &frames[..]), (StackEnd::NoRule, &[0x10][..]));
    }
}
