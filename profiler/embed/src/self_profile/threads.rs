//! Which threads there are, which of them are sampled, and what each has used.
//!
//! The list of `/proc/self/task` is read a few times a second; a thread with a span announces itself at once by its account. A
//! thread that begins and ends between two looks is seen only in the process's total.

use std::collections::HashMap;
use std::ffi::c_int;
use std::fs;

use super::clock::{self, ThreadId};
use super::random::Random;
use super::timers::CpuTimer;
use super::visit::Visitor;

/// Threads that are looked after; more than that are counted as not sampled.
const MAX_THREADS: usize = 8 << 10;
/// Our own threads are called so, and are never profiled into the service's.
pub(super) const OWN_PREFIX: &str = "spanprof";

/// One thread of this process.
#[derive(Debug)]
pub(super) struct Thread {
    pub(super) name: String,
    pub(super) is_own: bool,
    timer: Option<CpuTimer>,
    /// Opened when the thread is first visited.
    pub(super) visitor: Option<Visitor>,
    /// CPU time at the window's begin, and as last read.
    cpu_before: u64,
    cpu_now: u64,
    seen: bool,
}

/// How threads are sampled: by which signal, each so many nanoseconds of CPU time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sampling {
    pub(super) signal: c_int,
    pub(super) period: u64,
}

/// All threads that are known.
#[derive(Debug, Default)]
pub(super) struct Threads {
    known: HashMap<ThreadId, Thread>,
    /// Whether threads that are new now began within the profile, so that all their CPU time is its.
    is_begun: bool,
}

impl Threads {
    /// Reads the list: new threads are given a timer, ended ones are forgotten; gives the CPU times of those, within the
    /// window. `failed` counts threads without a timer.
    pub(super) fn scan(
        &mut self,
        sampling: Option<Sampling>,
        random: &mut Random,
        failed: &mut u64,
        mut ended: impl FnMut(ThreadId, Thread),
    ) {
        let Ok(list) = fs::read_dir("/proc/self/task") else { return };
        for entry in list.flatten() {
            let thread = entry.file_name().to_str().and_then(|name| name.parse::<ThreadId>().ok());
            if let Some(thread) = thread {
                self.look_at(thread, sampling, random, failed);
            }
        }
        let gone: Vec<ThreadId> =
            self.known.iter().filter(|(_, thread)| !thread.seen).map(|(id, _)| *id).collect();
        for id in gone {
            if let Some(thread) = self.known.remove(&id) {
                ended(id, thread);
            }
        }
        self.known.values_mut().for_each(|thread| thread.seen = false);
        self.is_begun = true;
    }

    /// Takes a thread in that has announced itself, if it is new.
    pub(super) fn announce(
        &mut self,
        thread: ThreadId,
        sampling: Option<Sampling>,
        random: &mut Random,
        failed: &mut u64,
    ) {
        if !self.known.contains_key(&thread) {
            self.look_at(thread, sampling, random, failed);
            if let Some(thread) = self.known.get_mut(&thread) {
                thread.seen = false;
            }
        }
    }

    fn look_at(&mut self, id: ThreadId, sampling: Option<Sampling>, random: &mut Random, failed: &mut u64) {
        let Some(cpu) = clock::cpu_of(id) else { return };
        if let Some(thread) = self.known.get_mut(&id) {
            let is_another =
                thread.timer.as_ref().is_some_and(|timer| !timer.is_running()) || cpu < thread.cpu_now;
            if !is_another {
                thread.cpu_now = cpu;
                thread.seen = true;
                return;
            }
            // The id was given to a new thread; what the old one used since the last look is in nobody's account.
        } else if self.known.len() >= MAX_THREADS {
            *failed += 1;
            return;
        }
        let name = name_of(id);
        let is_own = name.starts_with(OWN_PREFIX);
        let timer = sampling.filter(|_| !is_own).and_then(|sampling| {
            let timer = CpuTimer::start(id, sampling.signal, random.below(sampling.period), sampling.period);
            *failed += u64::from(timer.is_err());
            timer.ok()
        });
        let cpu_before = if self.is_begun { 0 } else { cpu };
        let thread = Thread { name, is_own, timer, visitor: None, cpu_before, cpu_now: cpu, seen: true };
        self.known.insert(id, thread);
    }

    /// A thread by its id.
    pub(super) fn get_mut(&mut self, id: ThreadId) -> Option<&mut Thread> {
        self.known.get_mut(&id)
    }

    /// All threads, for the end of a window; the next one begins with what was read last.
    pub(super) fn end_window(&mut self, mut each: impl FnMut(ThreadId, &Thread)) {
        for (id, thread) in &mut self.known {
            // Names are often given only after the start.
            thread.name = name_of(*id);
            if thread.name.starts_with(OWN_PREFIX) {
                thread.is_own = true;
                thread.timer = None;
            }
            each(*id, thread);
            thread.cpu_before = thread.cpu_now;
        }
    }
}

impl Thread {
    /// CPU time in this window up to the last look, nanoseconds.
    pub(super) fn cpu_in_window(&self) -> u64 {
        self.cpu_now.saturating_sub(self.cpu_before)
    }
}

fn name_of(thread: ThreadId) -> String {
    let name = fs::read(format!("/proc/self/task/{thread}/comm")).unwrap_or_default();
    String::from_utf8_lossy(name.trim_ascii_end()).into_owned()
}
