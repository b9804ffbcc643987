//! What was seen in one window of time, before anything has a name: everything that is needed to attribute it later.
//!
//! Bounded whatever the service does: a sample or stack more than there is room for is counted and dropped.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use spanprof_context::{SpanContext, SpanId, TraceId};

use super::clock::ThreadId;
use super::episode::Episode;
use super::losses::Losses;

/// Samples and visits per window: a minute of 64 busy CPUs at 99 Hz. 64 bytes each.
const MAX_OBSERVATIONS: usize = 256 << 10;
/// Distinct stacks per window.
const MAX_STACKS: usize = 32 << 10;
/// Stretches of spans with exact times, and threads' spans with short ones, per window; 200 bytes each.
const MAX_EPISODES: usize = 16 << 10;
const MAX_BRIEF: usize = 1 << 10;
/// Spans whose attributes are kept, per window.
const MAX_ATTRIBUTES: usize = 16 << 10;

/// A stack of this window, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct StackNumber(u32);

/// Return addresses, already moved into the calls, leaf first; and why there are no more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stack {
    pub(super) addresses: Arc<[u64]>,
    pub(super) end: StackEnd,
}

/// Why a stack ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum StackEnd {
    /// It is whole.
    Root,
    /// Code that no loaded file holds, or that has no unwind rule.
    NoRule,
    /// More of the stack than is copied, or memory that isn't readable.
    NotCopied,
    /// The walk got nowhere.
    Stuck,
    /// More frames than are kept.
    Depth,
    /// A rule needs a register that a visit from outside can't know.
    NoFramePointer,
}

/// One look at a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Observation {
    pub(super) thread: ThreadId,
    /// Monotonic clock, nanoseconds.
    pub(super) at: u64,
    /// `None` where there was no room for another stack.
    pub(super) stack: Option<StackNumber>,
    pub(super) span: Option<SpanContext>,
    /// For a sample, periods of CPU time; for a visit, the mean time between two, in nanoseconds.
    pub(super) weight: u64,
}

/// How a thread spent the window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ThreadTimes {
    pub(super) name: String,
    /// CPU time within the window, nanoseconds.
    pub(super) cpu: u64,
}

/// A wait of a task that no thread had, from the await points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Suspended {
    pub(super) span: Option<SpanContext>,
    pub(super) stack: Option<StackNumber>,
    pub(super) suspended: u64,
    pub(super) ready: u64,
    pub(super) count: u64,
}

/// Everything that was seen from one moment to another.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Nanoseconds since 1970.
    pub(super) begin_unix: u64,
    /// Nanoseconds.
    pub(super) length: u64,
    /// CPU time between two samples of a thread, nanoseconds.
    pub(super) period: u64,
    /// On the CPU.
    pub(super) samples: Vec<Observation>,
    /// Blocked.
    pub(super) visits: Vec<Observation>,
    /// Stretches of threads under one span.
    episodes: Vec<(ThreadId, Episode)>,
    /// Short stretches together, per thread and span.
    brief: HashMap<(ThreadId, TraceId, SpanId), Episode>,
    pub(super) suspended: Vec<Suspended>,
    pub(super) threads: HashMap<ThreadId, ThreadTimes>,
    /// CPU time of the process that no thread above accounts for, without spanprof's own. Nanoseconds.
    pub(super) cpu_elsewhere: u64,
    /// CPU time of spanprof's own threads, nanoseconds.
    pub(super) cpu_own: u64,
    pub(super) losses: Losses,
    stacks: Vec<Stack>,
    stack_numbers: HashMap<Stack, StackNumber>,
    attributes: HashMap<SpanContext, Box<[u8]>>,
}

impl Window {
    /// An empty window that begins now.
    pub(super) fn begin(begin_unix: u64, period: u64) -> Window {
        Window { begin_unix, period, ..Window::default() }
    }

    /// Adds a sample of a thread on the CPU.
    pub(super) fn sample(&mut self, sample: Observation) {
        if self.samples.len() < MAX_OBSERVATIONS {
            self.samples.push(sample);
        } else {
            self.losses.samples += sample.weight;
        }
    }

    /// Adds a visit of a blocked thread.
    pub(super) fn visit(&mut self, visit: Observation) {
        if self.visits.len() < MAX_OBSERVATIONS {
            self.visits.push(visit);
        } else {
            self.losses.visits += 1;
        }
    }

    /// Adds exact times of a span. What has no room, samples alone speak for.
    pub(super) fn episode(&mut self, thread: ThreadId, episode: Episode) {
        let span = episode.span.context;
        if episode.is_one() {
            if self.episodes.len() == MAX_EPISODES {
                self.losses.episodes += 1;
                return;
            }
            self.episodes.push((thread, episode));
        } else {
            let has_room = self.brief.len() < MAX_BRIEF;
            match self.brief.entry((thread, span.trace_id, span.span_id)) {
                Entry::Occupied(mut sum) => sum.get_mut().add(&episode),
                Entry::Vacant(place) if has_room => {
                    place.insert(episode);
                }
                Entry::Vacant(_) => {
                    self.losses.episodes += 1;
                    return;
                }
            }
        }
        self.attributes(span, episode.span.attributes());
    }

    /// All exact times.
    pub(super) fn episodes(&self) -> impl Iterator<Item = (ThreadId, &Episode)> {
        let brief = self.brief.iter().map(|((thread, ..), episode)| (*thread, episode));
        self.episodes.iter().map(|(thread, episode)| (*thread, episode)).chain(brief)
    }

    /// Adds waits of tasks.
    pub(super) fn suspended(&mut self, wait: Suspended) {
        if self.suspended.len() < MAX_OBSERVATIONS {
            self.suspended.push(wait);
        } else {
            self.losses.suspensions += wait.count;
        }
    }

    /// Stores a stack once.
    pub(super) fn stack(&mut self, addresses: &[u64], end: StackEnd) -> Option<StackNumber> {
        let stack = Stack { addresses: addresses.into(), end };
        if let Some(number) = self.stack_numbers.get(&stack) {
            return Some(*number);
        }
        if self.stacks.len() == MAX_STACKS {
            self.losses.stacks += 1;
            return None;
        }
        let number = StackNumber(self.stacks.len() as u32);
        self.stacks.push(stack.clone());
        self.stack_numbers.insert(stack, number);
        Some(number)
    }

    /// Remembers a span's attributes, as they stand in a record.
    pub(super) fn attributes(&mut self, span: SpanContext, attributes: &[u8]) {
        if attributes.is_empty() || self.attributes.contains_key(&span) {
            return;
        }
        if self.attributes.len() < MAX_ATTRIBUTES {
            self.attributes.insert(span, attributes.into());
        } else {
            self.losses.attributes += 1;
        }
    }

    /// A stack by its number.
    pub(super) fn stack_of(&self, number: StackNumber) -> &Stack {
        &self.stacks[number.0 as usize]
    }

    /// A span's attributes, as they stand in a record; empty where none were seen.
    pub(super) fn attributes_of(&self, span: &SpanContext) -> &[u8] {
        self.attributes.get(span).map_or(&[], |attributes| attributes)
    }
}
