//! Where samples come from: one backend per way the kernel offers, all yielding the same events.
//!
//! A backend knows processes, threads, addresses and time. It knows no names, files or servers: what an
//! address means and which span matters is decided later, in `window`. Backends form a ladder; today it
//! has one rung, [`bpf`].

pub mod bpf;

use std::fmt;
use std::net::SocketAddr;

pub use crate::active_span::ActiveSpan;

/// A process id as the kernel's initial namespace has it (the kernel's `tgid`).
pub type ProcessId = u32;
/// A thread id as the kernel's initial namespace has it.
pub type ThreadId = u32;

/// Identifies a stack within one capture. The backend sends each distinct stack once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackHash(pub u64);

/// Why a walk over a user stack ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WalkEnd {
    /// At the thread's first function: the stack is complete.
    Root,
    /// An address lies in no known mapping.
    NoMapping,
    /// The object has no rule for an address.
    NoRule,
    /// The stack's memory could not be read.
    Fault,
    /// Deeper than the walker goes.
    TooDeep,
    /// The rules led nowhere.
    Stuck,
    /// Not walked: the thread blocked again too soon; only its leaf is known.
    Budget,
}

impl WalkEnd {
    /// All ends, in the order in which they are reported.
    pub const ALL: [WalkEnd; 7] = [
        WalkEnd::Root,
        WalkEnd::NoMapping,
        WalkEnd::NoRule,
        WalkEnd::Fault,
        WalkEnd::TooDeep,
        WalkEnd::Stuck,
        WalkEnd::Budget,
    ];

    /// The name used in `summary.json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            WalkEnd::Root => "complete",
            WalkEnd::NoMapping => "no_mapping",
            WalkEnd::NoRule => "no_unwind_rule",
            WalkEnd::Fault => "stack_unreadable",
            WalkEnd::TooDeep => "too_deep",
            WalkEnd::Stuck => "stuck",
            WalkEnd::Budget => "leaf_only",
        }
    }
}

impl fmt::Display for WalkEnd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What a backend saw. Times are nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A distinct stack, sent before or soon after the first event that names it.
    Stack {
        /// Whose stack.
        process: ProcessId,
        /// Its identity.
        stack: StackHash,
        /// User addresses, leaf first; callers are already moved into their call instruction.
        user: Vec<u64>,
        /// Kernel addresses, leaf first.
        kernel: Vec<u64>,
        /// Why the user part ended.
        end: WalkEnd,
        /// The service at the other end of the socket that is waited for.
        peer: Option<SocketAddr>,
    },
    /// A thread was running when a CPU's clock ticked.
    Sample {
        /// Its process.
        process: ProcessId,
        /// The thread.
        thread: ThreadId,
        /// Where it was.
        stack: StackHash,
        /// What it worked on.
        span: Option<ActiveSpan>,
        /// When.
        time: u64,
    },
    /// A thread was off the CPU; exact sums since the last such event.
    Waited {
        /// Its process.
        process: ProcessId,
        /// The thread.
        thread: ThreadId,
        /// Where it left the CPU; `None` where that was before the capture.
        stack: Option<StackHash>,
        /// What it worked on.
        span: Option<ActiveSpan>,
        /// Blocked: switch-out to wake-up.
        off_cpu: u64,
        /// Runnable: wake-up or preemption to running.
        run_queue: u64,
        /// How many times.
        count: u64,
    },
    /// A long wait within a span ended, and who ended it. Its time is in [`Event::Waited`].
    Woken {
        /// The blocked thread's process.
        process: ProcessId,
        /// The blocked thread.
        thread: ThreadId,
        /// What it worked on.
        span: ActiveSpan,
        /// Where it was blocked.
        stack: Option<StackHash>,
        /// When it left the CPU.
        begin: u64,
        /// When it was woken.
        end: u64,
        /// Who did it.
        waker: Waker,
    },
    /// A thread was there; the exact sum of what it ran since the last such event, maybe 0.
    Ran {
        /// Its process.
        process: ProcessId,
        /// The thread.
        thread: ThreadId,
        /// For how long.
        cpu: u64,
        /// What the thread is called (`comm`), where known.
        name: String,
        /// From when on `cpu` counts.
        since: u64,
        /// Up to when `cpu` counts.
        until: u64,
    },
    /// The attributes of a span's thread context record, raw (OTEP 4947, `attrs-data`).
    SpanAttributes {
        /// Its process.
        process: ProcessId,
        /// The span.
        span: ActiveSpan,
        /// Key index, length and bytes, back to back.
        attributes: Vec<u8>,
    },
    /// A target forked; the child is a target too.
    Forked {
        /// The parent.
        parent: ProcessId,
        /// The child.
        child: ProcessId,
    },
    /// A target replaced its program; its mappings are unknown until they are set again.
    Executed {
        /// The process.
        process: ProcessId,
    },
    /// A thread of a target ended.
    ThreadEnded {
        /// Its process.
        process: ProcessId,
        /// The thread.
        thread: ThreadId,
        /// Whether it was the process's last.
        last: bool,
    },
}

/// Who ended a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waker {
    /// A timer or a device.
    Interrupt,
    /// A thread, of a target or not.
    Thread {
        /// Its process.
        process: ProcessId,
        /// The thread.
        thread: ThreadId,
        /// What the thread is called (`comm`).
        name: String,
        /// What it worked on; `None` also where it is no target.
        span: Option<ActiveSpan>,
        /// Where it was; `None` where it is no target.
        stack: Option<StackHash>,
    },
}

/// How a process publishes what its threads work on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextSlot {
    /// It does not.
    Absent,
    /// The pointer lies at a fixed offset from the thread pointer.
    Static {
        /// In bytes; negative on x86-64.
        offset: i64,
        /// Whether spanprof's sequence word follows the pointer.
        sequence: bool,
    },
    /// The pointer lies in a module's dynamically allocated block.
    Dynamic {
        /// Where the module's entry lies in the thread's vector (DTV), in bytes.
        vector_offset: u64,
        /// The offset within the module's block.
        offset: i64,
    },
}

/// Losses and work, counted by the backend since it started. Names are those of `summary.json`.
pub type Counters = Vec<(&'static str, u64)>;
