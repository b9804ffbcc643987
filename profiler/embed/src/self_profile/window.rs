//! What was seen in one window of time, before anything has a name: everything that is needed to attribute it later.
//!
//! Bounded whatever the service does: a sample or stack more than there is room for is counted and dropped.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use foldhash::fast::RandomState;
use spanprof_context::{SpanContext, SpanId, TraceId};

use super::clock::ThreadId;
use super::episode::{Episode, Stretch};
use super::losses::Losses;

/// Samples and visits per window: a minute of 64 busy CPUs at 99 Hz. 64 bytes each.
const MAX_OBSERVATIONS: usize = 256 << 10;
/// Distinct stacks per window.
const MAX_STACKS: usize = 32 << 10;
/// Stretches of spans with exact times, of which the longer half stays when there is no room, and threads' spans with short ones,
/// per window; 72 bytes each.
const MAX_EPISODES: usize = 8 << 10;
const MAX_BRIEF: usize = 1 << 10;
/// Waits of tasks under their spans, per window; 96 bytes each. The rest add up by place and attributes …
const MAX_SUSPENDED: usize = 16 << 10;
/// … except those that are slow, of which there may be some more.
const MAX_SLOW_SUSPENDED: usize = 20 << 10;
/// A wait is slow that takes so many times the mean.
const SLOW: u64 = 4;
/// Sums by place and attributes.
const MAX_FOLDED: usize = 2 << 10;
/// Distinct attributes of waits whose span is not told.
const MAX_FOLDED_ATTRIBUTES: usize = 1 << 10;
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

/// Attributes of this window, by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct AttributesNumber(u32);

/// Waits of tasks that no thread had, from the await points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Suspended {
    pub(super) span: Option<SpanContext>,
    /// Of waits whose span is not told.
    pub(super) attributes: Option<AttributesNumber>,
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
    episodes: Vec<Stretch>,
    /// Short stretches together, per thread and span.
    brief: HashMap<(ThreadId, TraceId, SpanId), Stretch, RandomState>,
    suspended: Vec<Suspended>,
    folded: HashMap<(Option<StackNumber>, Option<AttributesNumber>), Suspended, RandomState>,
    /// Of all waits so far: how many, and how long, in nanoseconds.
    all_suspended: (u64, u64),
    pub(super) threads: HashMap<ThreadId, ThreadTimes>,
    /// CPU time of the process that no thread above accounts for, without spanprof's own. Nanoseconds.
    pub(super) cpu_elsewhere: u64,
    /// CPU time of spanprof's own threads, nanoseconds.
    pub(super) cpu_own: u64,
    pub(super) losses: Losses,
    stacks: Vec<Stack>,
    /// By why they end, then by addresses: so that a look-up needs no stack of its own.
    stack_numbers: HashMap<StackEnd, HashMap<Arc<[u64]>, StackNumber, RandomState>, RandomState>,
    attributes: HashMap<SpanContext, Box<[u8]>, RandomState>,
    folded_attributes: HashMap<Box<[u8]>, AttributesNumber, RandomState>,
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
        let stretch = Stretch::new(thread, &episode);
        if stretch.is_one() {
            if self.episodes.len() == MAX_EPISODES {
                self.forget_shorter_episodes();
            }
            self.episodes.push(stretch);
        } else {
            let has_room = self.brief.len() < MAX_BRIEF;
            match self.brief.entry((thread, span.trace_id, span.span_id)) {
                Entry::Occupied(mut sum) => sum.get_mut().add(&stretch),
                Entry::Vacant(place) if has_room => {
                    place.insert(stretch);
                }
                Entry::Vacant(_) => {
                    self.losses.episodes += 1;
                    return;
                }
            }
        }
        self.attributes(span, episode.span.attributes());
    }

    /// It is the slow spans that are looked for; the times of the others are told by samples.
    fn forget_shorter_episodes(&mut self) {
        let kept = MAX_EPISODES / 2;
        self.episodes.select_nth_unstable_by_key(kept, |episode| std::cmp::Reverse(episode.wall()));
        self.losses.episodes += (self.episodes.len() - kept) as u64;
        self.episodes.truncate(kept);
    }

    /// All exact times.
    pub(super) fn episodes(&self) -> impl Iterator<Item = &Stretch> {
        self.episodes.iter().chain(self.brief.values())
    }

    /// Adds waits of tasks under one span, or none, with that span's attributes. With too many spans, those of the slow
    /// waits are told, as with spans altogether; all time is.
    pub(super) fn suspended(&mut self, mut wait: Suspended, attributes: &[u8]) {
        let time = wait.suspended + wait.ready;
        self.all_suspended.0 += wait.count;
        self.all_suspended.1 += time;
        if let Some(span) = wait.span {
            let (count, all) = self.all_suspended;
            let is_slow = time.saturating_mul(count) >= all.saturating_mul(wait.count).saturating_mul(SLOW);
            if self.suspended.len() < if is_slow { MAX_SLOW_SUSPENDED } else { MAX_SUSPENDED } {
                self.attributes(span, attributes);
                self.suspended.push(wait);
                return;
            }
            self.losses.suspensions_folded += wait.count;
        }
        wait.span = None;
        wait.attributes = self.fold_attributes(attributes);
        let has_room = self.folded.len() < MAX_FOLDED;
        match self.folded.entry((wait.stack, wait.attributes)) {
            Entry::Occupied(mut sum) => {
                let sum = sum.get_mut();
                sum.suspended += wait.suspended;
                sum.ready += wait.ready;
                sum.count += wait.count;
            }
            Entry::Vacant(place) if has_room => {
                place.insert(wait);
            }
            Entry::Vacant(_) => self.losses.suspensions += wait.count,
        }
    }

    /// The number of attributes, stored once; `None` without any, or without room.
    fn fold_attributes(&mut self, attributes: &[u8]) -> Option<AttributesNumber> {
        if attributes.is_empty() {
            return None;
        }
        if let Some(number) = self.folded_attributes.get(attributes) {
            return Some(*number);
        }
        if self.folded_attributes.len() == MAX_FOLDED_ATTRIBUTES {
            self.losses.attributes += 1;
            return None;
        }
        let number = AttributesNumber(self.folded_attributes.len() as u32);
        self.folded_attributes.insert(attributes.into(), number);
        Some(number)
    }

    /// All waits of tasks.
    pub(super) fn waits(&self) -> impl Iterator<Item = &Suspended> {
        self.suspended.iter().chain(self.folded.values())
    }

    /// Attributes by their number, as they stand in a record.
    pub(super) fn folded_attributes(&self) -> HashMap<AttributesNumber, &[u8]> {
        self.folded_attributes.iter().map(|(attributes, number)| (*number, attributes.as_ref())).collect()
    }

    /// Stores a stack once.
    pub(super) fn stack(&mut self, addresses: &[u64], end: StackEnd) -> Option<StackNumber> {
        let numbers = self.stack_numbers.entry(end).or_default();
        if let Some(number) = numbers.get(addresses) {
            return Some(*number);
        }
        if self.stacks.len() == MAX_STACKS {
            self.losses.stacks += 1;
            return None;
        }
        let number = StackNumber(self.stacks.len() as u32);
        let addresses: Arc<[u64]> = addresses.into();
        numbers.insert(Arc::clone(&addresses), number);
        self.stacks.push(Stack { addresses, end });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_episodes_the_longest_stay() {
        let mut window = Window::default();
        let all = 3 * MAX_EPISODES as u64;
        // Long ones among short ones.
        for number in 0..all {
            let wall = if number % 8 == 0 { 1_000 + number } else { 10 };
            let span = super::super::episode::tests::active(1);
            let (cpu, run_queue) = ((0, wall), (0, 0));
            window.episode(7, Episode { span, begin: number, end: number + wall, wall, cpu, run_queue });
        }
        let long = window.episodes().filter(|episode| episode.wall() > 10).count() as u64;
        assert_eq!(long, all / 8);
        assert_eq!(window.episodes().count() as u64 + window.losses.episodes, all);
    }

    fn wait(span: u32, nanoseconds: u64) -> Suspended {
        let id = u64::from(span).to_ne_bytes();
        let span = (span != 0).then(|| SpanContext::new(TraceId([1; 16]), SpanId(id), 0));
        Suspended { span, attributes: None, stack: None, suspended: nanoseconds, ready: 1, count: 1 }
    }

    #[test]
    fn with_too_many_spans_slow_waits_keep_theirs_and_all_time_is_told() {
        let mut window = Window::default();
        let all = 2 * MAX_SUSPENDED as u32;
        let is_slow = |span: &u32| span.is_multiple_of(100);
        for span in 1..=all {
            window.suspended(wait(span, if is_slow(&span) { 1_000 } else { 10 }), b"orders");
        }
        let time: u64 = window.waits().map(|wait| wait.suspended + wait.ready).sum();
        let slow = (1..=all).filter(is_slow).count() as u64;
        assert_eq!(time, slow * 1_000 + (u64::from(all) - slow) * 10 + u64::from(all));
        let told = window.waits().filter(|wait| wait.span.is_some() && wait.suspended == 1_000).count();
        assert_eq!(told as u64, slow);
        let folded: Vec<_> = window.waits().filter(|wait| wait.span.is_none()).collect();
        let [folded] = folded[..] else { panic!("{folded:?}") };
        assert_eq!(folded.count, window.losses.suspensions_folded);
        assert_eq!(window.folded_attributes()[&folded.attributes.expect("orders")], b"orders");
        assert_eq!(window.losses.suspensions, 0);
    }

    #[test]
    fn more_places_than_there_is_room_for_are_counted() {
        let mut window = Window::default();
        let all = 2 * MAX_FOLDED as u32;
        for place in 0..all {
            window.suspended(Suspended { stack: Some(StackNumber(place)), ..wait(0, 10) }, b"");
        }
        assert_eq!(window.waits().count(), MAX_FOLDED);
        assert_eq!(window.losses.suspensions, MAX_FOLDED as u64);
    }
}
