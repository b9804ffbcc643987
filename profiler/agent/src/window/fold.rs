//! Sums events of the open window by who, where and what for.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use crate::capture::{self, ActiveSpan, Event, ProcessId, StackHash, ThreadId, WalkEnd};

use super::programs::{Place, Programs};
use super::wakers::{WakeUp, WakeUps, Waker};

/// Distinct sums kept per window; beyond it, spans of new ones are given up and counted.
const MAX_SUMS: usize = 1 << 20;
/// Spans whose attributes are kept per window.
const MAX_SPANS: usize = 1 << 18;
/// A span that was seen for so long may go on in the next window, in nanoseconds; a sample counts as much.
const LONG: u64 = 1_000_000;
/// Of so many of them the attributes are kept until then, the longest first.
const MAX_LONG_SPANS: usize = 1 << 14;

/// One thread of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadKey {
    /// Its process.
    pub process: ProcessId,
    /// Its id.
    pub thread: ThreadId,
}

/// Who was where, working on what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FoldKey {
    /// Who.
    pub thread: ThreadKey,
    /// Where; `None` where the thread left the CPU before the capture.
    pub stack: Option<StackHash>,
    /// What for.
    pub span: Option<ActiveSpan>,
}

/// What was seen under one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// On-CPU samples.
    pub samples: u64,
    /// Blocked, in nanoseconds.
    pub off_cpu: u64,
    /// Runnable, in nanoseconds.
    pub run_queue: u64,
    /// How many blocks.
    pub blocks: u64,
}

/// A thread's exact CPU time, its name and since when it is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ThreadSums {
    /// Running, in nanoseconds.
    pub cpu: u64,
    /// What it is called.
    pub name: String,
    /// From when on it is accounted for in this window (CLOCK_MONOTONIC).
    pub since: u64,
    /// Up to when.
    pub until: u64,
}

/// A stack whose addresses have been placed; names come later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedStack {
    /// User frames, leaf first.
    pub user: Vec<Place>,
    /// Kernel addresses, leaf first.
    pub kernel: Vec<u64>,
    /// Why the user part ended.
    pub end: WalkEnd,
    /// The service at the other end of the socket that is waited for.
    pub peer: Option<SocketAddr>,
    last_used: u64,
}

/// The sums of the open window, and the stacks and spans that they name.
#[derive(Debug, Default)]
pub struct Fold {
    /// By who, where and what for.
    pub sums: HashMap<FoldKey, Sums>,
    /// By thread.
    pub threads: HashMap<ThreadKey, ThreadSums>,
    /// By identity.
    pub stacks: HashMap<StackHash, PlacedStack>,
    /// The raw attributes of spans, by span, with the process whose key map they use.
    pub attributes: HashMap<ActiveSpan, (ProcessId, Vec<u8>)>,
    /// Who ended long waits within spans.
    pub wake_ups: WakeUps,
    /// Sums whose span was given up for want of room.
    pub spans_folded: u64,
    /// On-CPU samples in this window.
    pub samples: u64,
    window: u64,
}

impl Fold {
    /// Adds one event. Events about the life of processes are the caller's.
    pub fn add(&mut self, event: Event, programs: &Programs) {
        match event {
            Event::Stack { process, stack, user, kernel, end, peer } => {
                let user = user.into_iter().map(|address| programs.place(process, address)).collect();
                self.stacks.insert(stack, PlacedStack { user, kernel, end, peer, last_used: self.window });
            }
            Event::Sample { process, thread, stack, span, .. } => {
                self.samples += 1;
                let thread = ThreadKey { process, thread };
                self.sum(FoldKey { thread, stack: Some(stack), span }).samples += 1;
            }
            Event::Waited { process, thread, stack, span, off_cpu, run_queue, count } => {
                let thread = ThreadKey { process, thread };
                let sums = self.sum(FoldKey { thread, stack, span });
                sums.off_cpu += off_cpu;
                sums.run_queue += run_queue;
                sums.blocks += count;
            }
            Event::Woken { process, thread, span, begin, end, waker, .. } => {
                let (waker, name, stack) = match waker {
                    capture::Waker::Interrupt => (Waker::Interrupt, String::new(), None),
                    capture::Waker::Thread { process, thread, name, span, stack } => {
                        (Waker::Thread(ThreadKey { process, thread }, span), name, stack)
                    }
                };
                let thread = ThreadKey { process, thread };
                self.wake_ups.add(WakeUp { thread, span, begin, end, waker, stack, name });
            }
            Event::Ran { process, thread, cpu, name, since, until } => {
                let sums = self
                    .threads
                    .entry(ThreadKey { process, thread })
                    .or_insert_with(|| ThreadSums { since, ..ThreadSums::default() });
                sums.cpu += cpu;
                sums.until = until;
                if !name.is_empty() {
                    sums.name = name;
                }
            }
            Event::SpanAttributes { process, span, attributes } => {
                if self.attributes.len() < MAX_SPANS {
                    self.attributes.insert(span, (process, attributes));
                }
            }
            Event::Forked { .. } | Event::Executed { .. } | Event::ThreadEnded { .. } => {}
        }
    }

    fn sum(&mut self, mut key: FoldKey) -> &mut Sums {
        if self.sums.len() >= MAX_SUMS && key.span.is_some() && !self.sums.contains_key(&key) {
            key.span = None;
            self.spans_folded += 1;
        }
        self.sums.entry(key).or_default()
    }

    /// A span that goes on is seen again, and its attributes are sent once. Which ones go on nobody tells; who was seen for long
    /// may, and of who was seen shortly little is lost.
    fn keep_attributes_of_long_spans(&mut self) {
        let mut seen: HashMap<ActiveSpan, u64> = HashMap::new();
        for (key, sums) in &self.sums {
            if let Some(span) = key.span.filter(|span| self.attributes.contains_key(span)) {
                *seen.entry(span).or_default() += sums.off_cpu + sums.run_queue + sums.samples * LONG;
            }
        }
        let mut long: Vec<(u64, ActiveSpan)> =
            seen.into_iter().filter(|(_, time)| *time >= LONG).map(|(span, time)| (time, span)).collect();
        long.sort_unstable_by_key(|(time, span)| (Reverse(*time), *span));
        long.truncate(MAX_LONG_SPANS);
        let long: HashSet<ActiveSpan> = long.into_iter().map(|(_, span)| span).collect();
        self.attributes.retain(|span, _| long.contains(span));
    }

    /// Begins the next window. Stacks that neither this nor the last window used are forgotten; the
    /// backend must be told to send them again.
    pub fn next_window(&mut self) {
        for key in self.sums.keys() {
            if let Some(stack) = key.stack.and_then(|stack| self.stacks.get_mut(&stack)) {
                stack.last_used = self.window;
            }
        }
        let window = self.window;
        self.stacks.retain(|_, stack| stack.last_used + 1 >= window);
        self.keep_attributes_of_long_spans();
        self.sums.clear();
        self.threads.clear();
        self.wake_ups.clear();
        self.spans_folded = 0;
        self.samples = 0;
        self.window += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waited(number: u8, off_cpu: u64) -> [Event; 2] {
        let span = ActiveSpan { trace_id: [1; 16], span_id: [number; 8] };
        let (process, thread) = (1, 2);
        let attributes = Event::SpanAttributes { process, span, attributes: vec![number] };
        let span = Some(span);
        [attributes, Event::Waited { process, thread, stack: None, span, off_cpu, run_queue: 0, count: 1 }]
    }

    #[test]
    fn a_span_that_goes_on_keeps_its_attributes() {
        let (mut fold, programs) = (Fold::default(), Programs::default());
        for event in [waited(1, LONG), waited(2, LONG - 1)].into_iter().flatten() {
            fold.add(event, &programs);
        }
        fold.next_window();
        assert_eq!(fold.attributes.values().map(|(_, bytes)| bytes[0]).collect::<Vec<_>>(), [1]);
        // Seen no more, it has ended.
        fold.next_window();
        assert!(fold.attributes.is_empty());
    }
}
