//! Adds samples up under a key and finds each group's main cause.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::waits::{WaitTimes, Waits};
use crate::cause::cause;
use crate::profile::{LabelSetId, Profile, SampleKey, SampleKind, StackId};
use crate::waits::Wait;

/// Time by kind, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// Running.
    pub cpu_ns: u64,
    /// Blocked.
    pub off_cpu_ns: u64,
    /// Runnable and not running.
    pub run_queue_ns: u64,
    /// Awaiting a wake-up, without a thread.
    pub suspended_ns: u64,
    /// Woken and not polled yet, without a thread.
    pub ready_ns: u64,
    /// Of spans' wall times what was not seen.
    pub unknown_ns: u64,
}

impl Times {
    /// All kinds together.
    pub const fn total_ns(&self) -> u64 {
        let of_threads = self.cpu_ns.saturating_add(self.off_cpu_ns).saturating_add(self.run_queue_ns);
        let of_tasks = self.suspended_ns.saturating_add(self.ready_ns);
        of_threads.saturating_add(of_tasks).saturating_add(self.unknown_ns)
    }

    /// One of the kinds.
    pub const fn of(&self, kind: SampleKind) -> u64 {
        match kind {
            SampleKind::Cpu => self.cpu_ns,
            SampleKind::OffCpu => self.off_cpu_ns,
            SampleKind::RunQueue => self.run_queue_ns,
            SampleKind::Suspended => self.suspended_ns,
            SampleKind::Ready => self.ready_ns,
            SampleKind::Unknown => self.unknown_ns,
        }
    }

    /// The kind with the most time; the first of [`SampleKind::ALL`] where two are equal.
    pub fn main_kind(&self) -> SampleKind {
        let mut main = SampleKind::Cpu;
        for kind in SampleKind::ALL {
            if self.of(kind) > self.of(main) {
                main = kind;
            }
        }
        main
    }

    pub(crate) fn add(&mut self, kind: SampleKind, nanoseconds: u64) {
        let time = match kind {
            SampleKind::Cpu => &mut self.cpu_ns,
            SampleKind::OffCpu => &mut self.off_cpu_ns,
            SampleKind::RunQueue => &mut self.run_queue_ns,
            SampleKind::Suspended => &mut self.suspended_ns,
            SampleKind::Ready => &mut self.ready_ns,
            SampleKind::Unknown => &mut self.unknown_ns,
        };
        *time = time.saturating_add(nanoseconds);
    }
}

/// What was added up under one key.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) times: Times,
    pub(crate) main_kind: Option<SampleKind>,
    pub(crate) main_cause: String,
    pub(crate) main_share: f64,
    /// What was waited for the longest.
    pub(crate) main_wait: Option<Wait>,
    waits: WaitTimes,
    causes: HashMap<(SampleKind, u32), u64>,
}

/// Sums all samples that `key_of` gives a key for; `observe` sees each with its group's key.
pub(crate) fn group<K: Eq + Hash + Clone>(
    profile: &Profile,
    key_of: impl Fn(LabelSetId) -> Option<K>,
    mut observe: impl FnMut(&K, LabelSetId, u64),
) -> Vec<(K, Group)> {
    let mut causes = Causes::default();
    let mut waits = Waits::default();
    let mut groups: HashMap<K, Group> = HashMap::new();
    let keys: Vec<Option<K>> =
        (0..profile.label_sets().len()).filter_map(|i| profile.label_set_id(i)).map(key_of).collect();
    for (sample, value) in profile.samples() {
        let Some(key) = &keys[sample.labels.index()] else { continue };
        if value.nanoseconds == 0 {
            continue;
        }
        observe(key, sample.labels, value.nanoseconds);
        let group = match groups.get_mut(key) {
            Some(group) => group,
            None => groups.entry(key.clone()).or_default(),
        };
        group.times.add(sample.kind, value.nanoseconds);
        let (wait, word) = waits.of(profile, &sample);
        if let Some(wait) = wait {
            group.waits.add(wait, value.nanoseconds);
        }
        let cause = causes.of(profile, &sample, wait, word);
        let sum = group.causes.entry((sample.kind, cause)).or_default();
        *sum = sum.saturating_add(value.nanoseconds);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    for (_, group) in &mut groups {
        causes.conclude(group);
        group.main_wait = group.waits.main();
    }
    groups
}

/// All that the words for a sample depend on; the text is another tool's word for its wait.
type Told = (StackId, SampleKind, Option<Wait>, Option<Arc<str>>);

/// Each stack of one profile is put into words once.
#[derive(Default)]
pub(super) struct Causes {
    words: Vec<String>,
    numbers: HashMap<String, u32>,
    known: HashMap<Told, u32>,
}

impl Causes {
    /// The number of what a sample says, in words; equal words have equal numbers.
    pub(super) fn of(
        &mut self,
        profile: &Profile,
        sample: &SampleKey,
        wait: Option<Wait>,
        word: Option<Arc<str>>,
    ) -> u32 {
        let key = (sample.stack, sample.kind, wait, word);
        if let Some(number) = self.known.get(&key) {
            return *number;
        }
        let said = cause(profile, sample.stack, sample.kind, wait, key.3.as_deref());
        let number = match self.numbers.get(&said) {
            Some(number) => *number,
            None => {
                let number = self.words.len() as u32;
                self.words.push(said.clone());
                self.numbers.insert(said, number);
                number
            }
        };
        self.known.insert(key, number);
        number
    }

    /// The main cause is the heaviest one of the kind with the most time: a span that waited 430 ms in one
    /// place and computed 450 ms in twenty is a computing one.
    fn conclude(&self, group: &mut Group) {
        let kind = group.times.main_kind();
        let heaviest = group
            .causes
            .iter()
            .filter(|((of, _), _)| *of == kind)
            .max_by(|((_, a), x), ((_, b), y)| x.cmp(y).then_with(|| self.word(*b).cmp(self.word(*a))));
        if let Some(((_, cause), nanoseconds)) = heaviest {
            group.main_kind = Some(kind);
            group.main_cause = self.word(*cause).to_owned();
            group.main_share = *nanoseconds as f64 / group.times.total_ns().max(1) as f64;
        }
    }

    /// The words of a number.
    pub(super) fn word(&self, number: u32) -> &str {
        &self.words[number as usize]
    }
}
