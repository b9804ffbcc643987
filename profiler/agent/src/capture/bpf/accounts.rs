//! Turns the kernel's ever-growing sums into what is new since the last look.
//!
//! The kernel side only ever adds; the agent remembers what it has reported and takes differences, so
//! that a window's edge loses nothing. Blocks that are still under way at the edge are reported as far as
//! they have come, and that part is taken off when they end. Sums that were reset at each window were
//! refused: whatever happens between reading and resetting would be lost.
//!
//! Everything here is a pure function of what was read.

use std::collections::HashMap;

use super::layout::{ENTRIES, Entry, FOLDED, Thread};
use crate::capture::{ActiveSpan, Event, ProcessId, StackHash, ThreadId};

const POSITIONS: usize = ENTRIES + FOLDED;

/// What has been reported of every thread.
#[derive(Default)]
pub(super) struct Accounts {
    threads: HashMap<ThreadId, Reported>,
}

struct Reported {
    cpu: u64,
    /// When the thread was last read.
    until: u64,
    /// Per position, the two latest generations: an evicted one may be heard of after its successor.
    shadows: [[Shadow; 2]; POSITIONS],
    pending: Option<Pending>,
}

impl Default for Reported {
    fn default() -> Self {
        Reported { cpu: 0, until: 0, shadows: [[Shadow::default(); 2]; POSITIONS], pending: None }
    }
}

#[derive(Clone, Copy, Default)]
struct Shadow {
    generation: u32,
    off_cpu: u64,
    run_queue: u64,
    count: u32,
}

/// A block that was reported before it ended.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Pending {
    /// When it began: identifies it.
    out: u64,
    position: usize,
    generation: u32,
    off_cpu: u64,
    run_queue: u64,
}

impl Accounts {
    /// Reports what is new of one thread, read at `now`. Entries that came while it was being read are
    /// left for the next time: the kernel side may still fold them.
    pub(super) fn collect(&mut self, thread: &Thread, now: u64, report: &mut dyn FnMut(Event)) {
        let reported = self.threads.entry(thread.tid).or_default();
        let running = if thread.r#in != 0 { now.saturating_sub(thread.r#in) } else { 0 };
        let cpu = thread.cpu + running;
        report(Event::Ran {
            process: thread.tgid,
            thread: thread.tid,
            cpu: cpu.saturating_sub(reported.cpu),
            name: name_of(thread),
            since: thread.since.max(reported.until),
            until: now,
        });
        reported.until = now;
        reported.cpu = cpu.max(reported.cpu);
        let block_ended = reported.pending.filter(|pending| pending.out != thread.out);
        for (position, entry) in thread.entries.iter().chain(&thread.folded).enumerate() {
            let is_unread = position < ENTRIES && entry.unread != 0;
            if entry.count == 0 || is_unread {
                continue;
            }
            reported.take(thread.tgid, thread.tid, position, entry, block_ended, report);
        }
        if thread.out != 0 && thread.out < now {
            reported.take_pending(thread, now, report);
        }
    }

    /// Reports what is new of an entry that the kernel side gave up.
    pub(super) fn evicted(
        &mut self,
        process: ProcessId,
        thread: ThreadId,
        position: usize,
        entry: &Entry,
        report: &mut dyn FnMut(Event),
    ) {
        if position >= POSITIONS {
            return;
        }
        let reported = self.threads.entry(thread).or_default();
        let ended = reported.pending;
        reported.take(process, thread, position, entry, ended, report);
    }

    /// Forgets a thread that has ended and been collected.
    pub(super) fn forget(&mut self, thread: ThreadId) {
        self.threads.remove(&thread);
    }
}

impl Reported {
    fn take(
        &mut self,
        process: ProcessId,
        thread: ThreadId,
        position: usize,
        entry: &Entry,
        ended: Option<Pending>,
        report: &mut dyn FnMut(Event),
    ) {
        let [newest, older] = &mut self.shadows[position];
        let shadow = if newest.generation == entry.generation {
            newest
        } else if older.generation == entry.generation && older.count != 0 {
            older
        } else {
            *older = *newest;
            *newest = Shadow { generation: entry.generation, ..Shadow::default() };
            newest
        };
        let mut off_cpu = entry.off_cpu.saturating_sub(shadow.off_cpu);
        let mut run_queue = entry.run_queue.saturating_sub(shadow.run_queue);
        let count = entry.count.saturating_sub(shadow.count);
        *shadow = Shadow {
            generation: entry.generation,
            off_cpu: entry.off_cpu,
            run_queue: entry.run_queue,
            count: entry.count,
        };
        let ended =
            ended.filter(|pending| pending.position == position && pending.generation == entry.generation);
        if let Some(pending) = ended.filter(|_| count > 0) {
            off_cpu = off_cpu.saturating_sub(pending.off_cpu);
            run_queue = run_queue.saturating_sub(pending.run_queue);
            self.pending = None;
        }
        if off_cpu + run_queue + u64::from(count) > 0 {
            report(Event::Waited {
                process,
                thread,
                stack: (entry.stack != 0).then_some(StackHash(entry.stack)),
                span: active_span(entry.span, entry.trace),
                off_cpu,
                run_queue,
                count: u64::from(count),
            });
        }
    }

    fn take_pending(&mut self, thread: &Thread, now: u64, report: &mut dyn FnMut(Event)) {
        let position = thread.entry as usize % ENTRIES;
        let entry = &thread.entries[position];
        if entry.unread != 0 {
            return;
        }
        let wake = if thread.wake >= thread.out { thread.wake.min(now) } else { now };
        let so_far = Pending {
            out: thread.out,
            position,
            generation: entry.generation,
            off_cpu: wake - thread.out,
            run_queue: now - wake,
        };
        let before = self.pending.filter(|pending| pending.out == thread.out);
        let (off_before, queue_before) = before.map_or((0, 0), |before| (before.off_cpu, before.run_queue));
        let off_cpu = so_far.off_cpu.saturating_sub(off_before);
        let run_queue = so_far.run_queue.saturating_sub(queue_before);
        self.pending = Some(so_far);
        if off_cpu + run_queue > 0 {
            report(Event::Waited {
                process: thread.tgid,
                thread: thread.tid,
                stack: (entry.stack != 0).then_some(StackHash(entry.stack)),
                span: active_span(entry.span, entry.trace),
                off_cpu,
                run_queue,
                count: u64::from(before.is_none()),
            });
        }
    }
}

/// The span of an entry or sample as the record had it: native words of bytes in W3C order.
pub(super) fn active_span(span: u64, trace: [u64; 2]) -> Option<ActiveSpan> {
    if span == 0 {
        return None;
    }
    let mut trace_id = [0; 16];
    trace_id[..8].copy_from_slice(&trace[0].to_ne_bytes());
    trace_id[8..].copy_from_slice(&trace[1].to_ne_bytes());
    Some(ActiveSpan { trace_id, span_id: span.to_ne_bytes() })
}

fn name_of(thread: &Thread) -> String {
    text_of(&thread.comm)
}

/// A thread's name as the kernel keeps it: up to the first zero byte.
pub(super) fn text_of(comm: &[u8; 16]) -> String {
    let end = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
    String::from_utf8_lossy(&comm[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread() -> Thread {
        Thread {
            tid: 7,
            tgid: 7,
            since: 0,
            r#in: 0,
            out: 0,
            wake: 0,
            cpu: 0,
            off_cpu: 0,
            run_queue: 0,
            exited: 0,
            walked: 0,
            recorded: 0,
            exec_runtime: 0,
            context_offset: 0,
            context_module: 0,
            context_pointer: 0,
            context_sequence: 0,
            span: 0,
            trace: [0; 2],
            context_kind: 0,
            version: 0,
            entry: 0,
            generation: 0,
            first_mapping: 0,
            mapping_count: 0,
            comm: *b"worker\0\0\0\0\0\0\0\0\0\0",
            sites: Default::default(),
            entries: Default::default(),
            folded: Default::default(),
        }
    }

    fn entry(generation: u32, off_cpu: u64, run_queue: u64, count: u32) -> Entry {
        Entry { stack: 5, span: 9, generation, off_cpu, run_queue, count, ..Entry::default() }
    }

    fn waited(events: &[Event]) -> (u64, u64, u64) {
        events.iter().fold((0, 0, 0), |sum, event| match event {
            Event::Waited { off_cpu, run_queue, count, .. } => {
                (sum.0 + off_cpu, sum.1 + run_queue, sum.2 + count)
            }
            _ => sum,
        })
    }

    fn collect(accounts: &mut Accounts, thread: &Thread, now: u64) -> Vec<Event> {
        let mut events = Vec::new();
        accounts.collect(thread, now, &mut |event| events.push(event));
        events
    }

    #[test]
    fn only_what_is_new_is_reported() {
        let mut accounts = Accounts::default();
        let mut thread = thread();
        thread.entries[3] = entry(1, 100, 10, 2);
        assert_eq!(waited(&collect(&mut accounts, &thread, 1000)), (100, 10, 2));
        assert_eq!(waited(&collect(&mut accounts, &thread, 1000)), (0, 0, 0));
        thread.entries[3] = entry(1, 150, 15, 3);
        assert_eq!(waited(&collect(&mut accounts, &thread, 1000)), (50, 5, 1));
    }

    #[test]
    fn a_block_across_three_windows_adds_up_to_its_length() {
        let mut accounts = Accounts::default();
        let mut thread = thread();
        thread.out = 1_000;
        thread.entry = 2;
        thread.entries[2] = entry(4, 0, 0, 0);
        assert_eq!(waited(&collect(&mut accounts, &thread, 1_500)), (500, 0, 1));
        assert_eq!(waited(&collect(&mut accounts, &thread, 1_700)), (200, 0, 0));
        thread.wake = 1_900;
        assert_eq!(waited(&collect(&mut accounts, &thread, 2_000)), (200, 100, 0));
        thread.out = 0;
        thread.wake = 0;
        thread.r#in = 2_050;
        thread.entries[2] = entry(4, 900, 150, 1);
        let events = collect(&mut accounts, &thread, 2_100);
        assert_eq!(waited(&events), (0, 50, 1));
        assert!(events.iter().any(|event| matches!(event, Event::Ran { cpu: 50, .. })));
    }

    #[test]
    fn an_evicted_generation_counts_once_whenever_it_is_heard_of() {
        let mut accounts = Accounts::default();
        let mut thread = thread();
        thread.entries[0] = entry(1, 100, 0, 1);
        assert_eq!(waited(&collect(&mut accounts, &thread, 10)), (100, 0, 1));
        thread.entries[0] = entry(2, 30, 0, 1);
        assert_eq!(waited(&collect(&mut accounts, &thread, 10)), (30, 0, 1));
        let mut events = Vec::new();
        accounts.evicted(7, 7, 0, &entry(1, 140, 0, 2), &mut |event| events.push(event));
        assert_eq!(waited(&events), (40, 0, 1));
    }

    #[test]
    fn an_entry_that_came_while_reading_waits() {
        let mut accounts = Accounts::default();
        let mut thread = thread();
        thread.entries[0] = Entry { unread: 1, ..entry(1, 100, 0, 1) };
        assert_eq!(waited(&collect(&mut accounts, &thread, 10)), (0, 0, 0));
    }

    #[test]
    fn cpu_time_includes_the_stretch_under_way() {
        let mut accounts = Accounts::default();
        let mut thread = thread();
        thread.cpu = 100;
        thread.r#in = 1_000;
        let events = collect(&mut accounts, &thread, 1_200);
        assert_eq!(
            events,
            [Event::Ran {
                process: 7,
                thread: 7,
                cpu: 300,
                name: "worker".to_owned(),
                since: 0,
                until: 1_200
            }]
        );
    }
}
