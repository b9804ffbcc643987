//! The numbers of a window: what was seen, by whom, and what was lost.

use std::collections::{BTreeMap, HashMap};

use spanprof_exporter::Profile;

use super::Recorder;
use crate::capture::{ContextSlot, ProcessId};
use crate::summary::{AgentCost, Backend, Summary, Target, ThreadTime, loss};
use crate::window::ThreadKey;

impl Recorder {
    /// Samples lost in this window so far.
    pub(super) fn samples_lost(&self) -> u64 {
        let counters = self.capture.counters();
        let count = |wanted| counters.iter().find(|(name, _)| *name == wanted).map_or(0, |(_, count)| *count);
        let before = self.counted.get(loss::SAMPLES_LOST).copied().unwrap_or(0);
        count(loss::SAMPLES_LOST).saturating_sub(before)
    }

    /// The backend's counters of loss since the last window.
    pub(super) fn new_losses(&mut self) -> BTreeMap<String, u64> {
        let mut losses = BTreeMap::new();
        for (name, total) in self.capture.counters() {
            let before = self.counted.insert(name, total).unwrap_or(0);
            if is_loss(name) {
                losses.insert(name.to_owned(), total.saturating_sub(before));
            }
        }
        for (cause, number) in &self.programs.failures {
            losses.insert((*cause).to_owned(), *number);
        }
        losses
    }

    /// The window's numbers; `length` is its nanoseconds.
    pub(super) fn summary(&self, profile: &Profile, length: u64, losses: BTreeMap<String, u64>) -> Summary {
        let mut threads_of: HashMap<ProcessId, u64> = HashMap::new();
        for key in self.fold.threads.keys() {
            *threads_of.entry(key.process).or_default() += 1;
        }
        let mut targets: Vec<Target> = self
            .programs
            .processes()
            .map(|(process, program)| Target {
                pid: process,
                service: program.service.clone(),
                executable: program
                    .process
                    .executable
                    .as_ref()
                    .map_or_else(|| program.process.comm.clone(), |path| path.display().to_string()),
                threads: threads_of.get(&process).copied().unwrap_or(0),
                publishes_context: program.context != ContextSlot::Absent,
            })
            .collect();
        targets.sort_by_key(|target| target.pid);
        Summary {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            backend: Backend {
                name: "bpf".to_owned(),
                why: "the kernel has BTF and the agent may load programs".to_owned(),
            },
            seconds: length as f64 / 1e9,
            hz: self.options.hz,
            samples: self.fold.samples,
            totals: profile
                .kinds()
                .iter()
                .map(|kind| (kind.as_str().to_owned(), profile.total(*kind)))
                .collect(),
            targets,
            threads: self.thread_times(),
            losses,
            spans: Vec::new(),
            agent: AgentCost::now(),
        }
    }

    fn thread_times(&self) -> Vec<ThreadTime> {
        let mut waits: HashMap<ThreadKey, (u64, u64)> = HashMap::new();
        for (key, sums) in &self.fold.sums {
            let wait = waits.entry(key.thread).or_default();
            wait.0 += sums.off_cpu;
            wait.1 += sums.run_queue;
        }
        let mut threads: Vec<ThreadTime> = self
            .fold
            .threads
            .iter()
            .map(|(key, sums)| {
                let (off_cpu_ns, run_queue_ns) = waits.get(key).copied().unwrap_or_default();
                let wall_ns = sums.until.saturating_sub(sums.since);
                ThreadTime {
                    pid: key.process,
                    tid: key.thread,
                    name: sums.name.clone(),
                    cpu_ns: sums.cpu,
                    off_cpu_ns,
                    run_queue_ns,
                    unknown_ns: wall_ns.saturating_sub(sums.cpu + off_cpu_ns + run_queue_ns),
                    wall_ns,
                }
            })
            .collect();
        threads.sort_by_key(|thread| (thread.pid, thread.tid));
        threads
    }
}

/// Counters that say what is missing; the others say what was done.
fn is_loss(name: &str) -> bool {
    !matches!(name, "samples" | "stacks_walked" | "complete" | "switches_missed")
}
