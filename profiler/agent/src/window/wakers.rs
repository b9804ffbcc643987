//! Who made a span wait: its waker, who made that one wait meanwhile, and so on.
//!
//! C waits for a lock that B holds, and B for one that A holds: C's wait says B, which is true and of little use. So each
//! link is followed to the waits of its waker's thread within the same time. A link that explains little of the waits
//! before it is not a cause, and ends the chain.
//!
//! Everything here is a pure function of the window's wake-ups.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use super::fold::ThreadKey;
use crate::capture::{ActiveSpan, StackHash};

/// Wake-ups kept per window: 10 MB at most.
const MAX_WAKE_UPS: usize = 1 << 16;
/// Links of a chain.
const MAX_LINKS: usize = 8;
/// A link must explain at least this part of the waits that the first one ended: one in so many.
const LEAST_PART: u64 = 10;

/// One wait within a span, and who ended it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WakeUp {
    /// Who waited.
    pub(super) thread: ThreadKey,
    /// What for.
    pub(super) span: ActiveSpan,
    /// From when on, in nanoseconds.
    pub(super) begin: u64,
    /// Up to when.
    pub(super) end: u64,
    /// Who ended it.
    pub(super) waker: Waker,
    /// Where that one was.
    pub(super) stack: Option<StackHash>,
    /// What it is called.
    pub(super) name: String,
}

/// Who ends waits; what is equal is one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Waker {
    /// A timer or a device.
    Interrupt,
    /// A thread, working on something.
    Thread(ThreadKey, Option<ActiveSpan>),
}

/// A link of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) waker: Waker,
    /// Where it was at most of the time that it ended.
    pub(super) stack: Option<StackHash>,
    pub(super) name: String,
    /// The waits that it ended, as far as they fall into those of the link before.
    pub(super) nanoseconds: u64,
}

/// The wake-ups of a window. When there are too many, the shorter half goes.
#[derive(Debug, Default)]
pub struct WakeUps {
    kept: Vec<WakeUp>,
    /// How many went.
    pub(crate) dropped: u64,
}

impl WakeUps {
    pub(super) fn add(&mut self, wake_up: WakeUp) {
        if self.kept.len() >= MAX_WAKE_UPS {
            let half = MAX_WAKE_UPS / 2;
            self.kept.select_nth_unstable_by_key(half, |wake_up| Reverse(wake_up.length()));
            self.dropped += (self.kept.len() - half) as u64;
            self.kept.truncate(half);
        }
        self.kept.push(wake_up);
    }

    pub(super) fn clear(&mut self) {
        *self = WakeUps::default();
    }
}

impl WakeUp {
    fn length(&self) -> u64 {
        self.end.saturating_sub(self.begin)
    }
}

/// A part of a wait.
#[derive(Clone, Copy)]
struct Part<'a> {
    wake_up: &'a WakeUp,
    begin: u64,
    end: u64,
}

/// A window's wake-ups by who waited.
pub(super) struct Chains<'a> {
    by_span: HashMap<ActiveSpan, Vec<&'a WakeUp>>,
    by_thread: HashMap<ThreadKey, Vec<&'a WakeUp>>,
}

impl<'a> Chains<'a> {
    pub(super) fn new(wake_ups: &'a WakeUps) -> Chains<'a> {
        let mut chains = Chains { by_span: HashMap::new(), by_thread: HashMap::new() };
        let mut sorted: Vec<&WakeUp> = wake_ups.kept.iter().collect();
        sorted.sort_by_key(|wake_up| (wake_up.begin, wake_up.end));
        for wake_up in sorted {
            chains.by_span.entry(wake_up.span).or_default().push(wake_up);
            chains.by_thread.entry(wake_up.thread).or_default().push(wake_up);
        }
        chains
    }

    /// The chain of a span, its own waker first; empty where none of its waits was told of.
    pub(super) fn of(&self, span: ActiveSpan) -> Vec<Link> {
        let waits = self.by_span.get(&span).map_or(&[][..], Vec::as_slice);
        let mut met: HashSet<ThreadKey> = waits.iter().map(|wait| wait.thread).collect();
        let mut parts: Vec<Part<'_>> =
            waits.iter().map(|wait| Part { wake_up: wait, begin: wait.begin, end: wait.end }).collect();
        let mut chain: Vec<Link> = Vec::new();
        while chain.len() < MAX_LINKS
            && let Some((link, ended)) = heaviest(&parts)
        {
            let first = chain.first().map_or(link.nanoseconds, |first| first.nanoseconds);
            if link.nanoseconds < first.div_ceil(LEAST_PART) {
                break;
            }
            let thread = match link.waker {
                Waker::Thread(thread, _) if met.contains(&thread) => break,
                Waker::Thread(thread, _) => Some(thread),
                Waker::Interrupt => None,
            };
            chain.push(link);
            let Some(thread) = thread else { break };
            met.insert(thread);
            parts = self.waits_within(thread, &ended);
        }
        chain
    }

    /// The waits of a thread as far as they fall into these stretches, which are in order and apart.
    fn waits_within(&self, thread: ThreadKey, stretches: &[(u64, u64)]) -> Vec<Part<'a>> {
        let waits = self.by_thread.get(&thread).map_or(&[][..], Vec::as_slice);
        let mut parts = Vec::new();
        for &(begin, end) in stretches {
            // A thread's waits don't overlap, so their ends are in order, too.
            let from = waits.partition_point(|wait| wait.end <= begin);
            let within = waits[from..].iter().take_while(|wait| wait.begin < end);
            parts.extend(within.map(|wake_up| Part {
                wake_up,
                begin: wake_up.begin.max(begin),
                end: wake_up.end.min(end),
            }));
        }
        parts
    }
}

/// The waker that ended most of these waits, and the stretches of time that they cover.
fn heaviest(parts: &[Part<'_>]) -> Option<(Link, Vec<(u64, u64)>)> {
    let mut sums: HashMap<Waker, u64> = HashMap::new();
    for part in parts {
        *sums.entry(part.wake_up.waker).or_default() += part.end.saturating_sub(part.begin);
    }
    let (waker, nanoseconds) =
        sums.into_iter().filter(|(_, sum)| *sum > 0).max_by_key(|(waker, sum)| (*sum, Reverse(*waker)))?;
    let ended: Vec<Part<'_>> = parts.iter().copied().filter(|part| part.wake_up.waker == waker).collect();
    let mut stacks: HashMap<Option<StackHash>, u64> = HashMap::new();
    for part in &ended {
        *stacks.entry(part.wake_up.stack).or_default() += part.end - part.begin;
    }
    let stack = stacks.into_iter().max_by_key(|(stack, sum)| (*sum, Reverse(*stack)));
    let name = ended.last().map(|part| part.wake_up.name.clone()).unwrap_or_default();
    let link = Link { waker, stack: stack.and_then(|(stack, _)| stack), name, nanoseconds };
    Some((link, joined(ended.iter().map(|part| (part.begin, part.end)).collect())))
}

/// The same time as stretches in order that don't touch: a span may wait on several threads at once.
fn joined(mut stretches: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    stretches.sort_unstable();
    let mut apart: Vec<(u64, u64)> = Vec::with_capacity(stretches.len());
    for (begin, end) in stretches {
        match apart.last_mut() {
            Some(last) if begin <= last.1 => last.1 = last.1.max(end),
            _ => apart.push((begin, end)),
        }
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(number: u32) -> ThreadKey {
        ThreadKey { process: 1, thread: number }
    }

    fn span(number: u8) -> ActiveSpan {
        ActiveSpan { trace_id: [number; 16], span_id: [number; 8] }
    }

    /// Thread n works on span n.
    fn woken(who: u8, begin: u64, end: u64, by: Option<u8>) -> WakeUp {
        WakeUp {
            thread: thread(who.into()),
            span: span(who),
            begin,
            end,
            waker: by.map_or(Waker::Interrupt, |by| Waker::Thread(thread(by.into()), Some(span(by)))),
            stack: by.map(|by| StackHash(by.into())),
            name: by.map(|by| format!("thread-{by}")).unwrap_or_default(),
        }
    }

    /// The names of a span's chain with their times.
    fn chain(wake_ups: &[WakeUp], of: u8) -> Vec<(String, u64)> {
        let mut all = WakeUps::default();
        wake_ups.iter().for_each(|wake_up| all.add(wake_up.clone()));
        let chain = Chains::new(&all).of(span(of));
        chain.into_iter().map(|link| (link.name, link.nanoseconds)).collect()
    }

    fn link(number: u8, nanoseconds: u64) -> (String, u64) {
        (format!("thread-{number}"), nanoseconds)
    }

    #[test]
    fn a_convoy_is_followed_to_who_holds_the_first_lock() {
        let convoy = [woken(2, 0, 100, Some(1)), woken(3, 10, 110, Some(2))];
        assert_eq!(chain(&convoy, 3), [link(2, 100), link(1, 90)]);
        assert_eq!(chain(&convoy, 2), [link(1, 100)]);
        assert_eq!(chain(&convoy, 1), []);
    }

    #[test]
    fn an_interrupt_ends_a_chain() {
        let sleeper = [woken(1, 0, 80, None), woken(2, 10, 100, Some(1))];
        assert_eq!(chain(&sleeper, 2), [link(1, 90), (String::new(), 70)]);
    }

    #[test]
    fn waits_at_another_time_and_short_ones_explain_nothing() {
        let before = [woken(2, 0, 10, Some(1)), woken(3, 10, 110, Some(2))];
        assert_eq!(chain(&before, 3), [link(2, 100)]);
        let short = [woken(2, 50, 59, Some(1)), woken(3, 10, 110, Some(2))];
        assert_eq!(chain(&short, 3), [link(2, 100)]);
    }

    #[test]
    fn the_waker_of_most_time_is_told_not_of_most_waits() {
        let waits = [woken(3, 0, 10, Some(1)), woken(3, 20, 30, Some(1)), woken(3, 40, 100, Some(2))];
        assert_eq!(chain(&waits, 3), [link(2, 60)]);
    }

    #[test]
    fn a_circle_ends_where_it_closes() {
        let circle = [woken(1, 0, 50, Some(2)), woken(2, 0, 100, Some(1)), woken(1, 50, 100, Some(2))];
        assert_eq!(chain(&circle, 2), [link(1, 100)]);
    }

    #[test]
    fn a_chain_has_eight_links() {
        let waits: Vec<WakeUp> = (1..20).map(|who| woken(who, 0, 100, Some(who + 1))).collect();
        assert_eq!(chain(&waits, 1).len(), MAX_LINKS);
    }

    #[test]
    fn when_there_is_no_room_the_short_ones_go() {
        let mut all = WakeUps::default();
        for number in 0..=MAX_WAKE_UPS as u64 {
            all.add(woken(1, 0, number, None));
        }
        assert_eq!(all.dropped, MAX_WAKE_UPS as u64 / 2);
        assert!(all.kept.iter().all(|wake_up| wake_up.end >= MAX_WAKE_UPS as u64 / 2));
    }
}
