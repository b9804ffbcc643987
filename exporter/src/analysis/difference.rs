//! What one set of samples has that another has not: slow messages beside normal ones, a recording beside an earlier
//! one.
//!
//! Two sets are rarely of one size, so that they are compared by what falls to one message, or to one second. The sums
//! are kept undivided beside it: over all causes they add up to the sets' own to the nanosecond.

use std::collections::HashMap;
use std::sync::Arc;

use super::functions::of_samples;
use super::groups::{Causes, Times};
use super::waits::Waits;
use crate::filter::text;
use crate::idle::IdleSamples;
use crate::profile::{Profile, SampleKey, SampleKind, SampleValue, label};

/// Some samples of a profile, and what their time is divided by.
#[derive(Debug, Clone)]
pub struct Side<'a> {
    profile: &'a Profile,
    samples: Vec<(SampleKey, SampleValue)>,
    amount: f64,
}

impl<'a> Side<'a> {
    pub(super) fn new(profile: &'a Profile, samples: Vec<(SampleKey, SampleValue)>, amount: f64) -> Side<'a> {
        Side { profile, samples, amount }
    }

    /// What a recording of so many seconds holds, without the time of idle threads: of one destination and one consumer
    /// group, where they are given.
    pub fn of_recording(
        profile: &'a Profile,
        seconds: f64,
        destination: Option<&str>,
        consumer_group: Option<&str>,
    ) -> Side<'a> {
        let idle = IdleSamples::of(profile);
        let meant = |key: &SampleKey| {
            let labels = profile.labels(key.labels);
            let is = |key, wanted: Option<&str>| wanted.is_none() || text(labels, key) == wanted;
            is(label::DESTINATION, destination) && is(label::CONSUMER_GROUP, consumer_group)
        };
        let samples = profile.samples().into_iter().filter(|(key, _)| meant(key) && !idle.contains(key));
        Side::new(profile, samples.collect(), seconds)
    }

    /// How many messages, or seconds, the samples are of.
    pub fn amount(&self) -> f64 {
        self.amount
    }

    /// The time by kind.
    pub fn times(&self) -> Times {
        let mut times = Times::default();
        for (key, value) in &self.samples {
            times.add(key.kind, value.nanoseconds);
        }
        times
    }

    /// What of so many nanoseconds falls to one; nothing where there is none.
    pub fn mean(&self, nanoseconds: u64) -> f64 {
        if self.amount > 0.0 { nanoseconds as f64 / self.amount } else { 0.0 }
    }

    /// Where the samples are from.
    #[cfg(feature = "svg")]
    pub(crate) fn profile(&self) -> &'a Profile {
        self.profile
    }

    /// The samples, in a stable order.
    #[cfg(feature = "svg")]
    pub(crate) fn samples(&self) -> &[(SampleKey, SampleValue)] {
        &self.samples
    }

    fn causes(&self) -> HashMap<(SampleKind, String), u64> {
        let (mut causes, mut waits) = (Causes::default(), Waits::default());
        let mut sums: HashMap<(SampleKind, u32), u64> = HashMap::new();
        for (key, value) in &self.samples {
            let (wait, word) = waits.of(self.profile, key);
            let cause = causes.of(self.profile, key, wait, word);
            let sum = sums.entry((key.kind, cause)).or_default();
            *sum = sum.saturating_add(value.nanoseconds);
        }
        let in_words = |((kind, cause), sum)| ((kind, causes.word(cause).to_owned()), sum);
        sums.into_iter().map(in_words).collect()
    }
}

/// The same time on both sides, in nanoseconds: sums, not divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// On the side that is asked about.
    pub subject_ns: u64,
    /// On the side that it is compared with.
    pub baseline_ns: u64,
}

/// One cause's part of a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CauseDifference {
    /// The kind of time.
    pub kind: SampleKind,
    /// In words: "waiting for a lock in orders::reserve (std::sync::Mutex::lock)".
    pub cause: String,
    /// Its time.
    pub sums: Sums,
}

/// One function's part of a difference, all kinds of time together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionDifference {
    /// The function's name.
    pub function: Arc<str>,
    /// Its source file, where one is known.
    pub file: Option<Arc<str>>,
    /// Whether it belongs to a runtime rather than to the application.
    pub is_runtime: bool,
    /// Time at its own lines.
    pub own: Sums,
    /// Time in it and in what it called; recursion counts once.
    pub total: Sums,
}

/// Two sides, one beside the other.
#[derive(Debug, Clone, Copy)]
pub struct Difference<'a> {
    /// The side that is asked about: slow messages; the later recording.
    pub subject: &'a Side<'a>,
    /// The side that it is compared with: normal messages; the earlier recording.
    pub baseline: &'a Side<'a>,
}

impl Difference<'_> {
    /// How much more falls to one on the side that is asked about, in nanoseconds; less is negative.
    pub fn more(&self, sums: Sums) -> f64 {
        self.subject.mean(sums.subject_ns) - self.baseline.mean(sums.baseline_ns)
    }

    /// All time.
    pub fn total(&self) -> Sums {
        Sums { subject_ns: self.subject.times().total_ns(), baseline_ns: self.baseline.times().total_ns() }
    }

    /// The time of each kind: those of threads always, others where there is any.
    pub fn by_kind(&self) -> Vec<(SampleKind, Sums)> {
        let (subject, baseline) = (self.subject.times(), self.baseline.times());
        SampleKind::ALL
            .into_iter()
            .map(|kind| (kind, Sums { subject_ns: subject.of(kind), baseline_ns: baseline.of(kind) }))
            .filter(|(kind, sums)| SampleKind::OF_THREADS.contains(kind) || *sums != Sums::default())
            .collect()
    }

    /// The time by cause, the largest difference first, be it more or less. Together they are the whole.
    pub fn causes(&self) -> Vec<CauseDifference> {
        let mut sums: HashMap<(SampleKind, String), Sums> = HashMap::new();
        for (cause, nanoseconds) in self.subject.causes() {
            sums.entry(cause).or_default().subject_ns = nanoseconds;
        }
        for (cause, nanoseconds) in self.baseline.causes() {
            sums.entry(cause).or_default().baseline_ns = nanoseconds;
        }
        let mut causes: Vec<CauseDifference> = sums
            .into_iter()
            .filter(|(_, sums)| *sums != Sums::default())
            .map(|((kind, cause), sums)| CauseDifference { kind, cause, sums })
            .collect();
        causes.sort_by(|a, b| {
            let by_size = self.size(b.sums).total_cmp(&self.size(a.sums));
            by_size.then_with(|| (a.kind, &a.cause).cmp(&(b.kind, &b.cause)))
        });
        causes
    }

    /// The time by function: the application's first, then those of runtimes; the largest difference of total time
    /// first, and of equal ones the one with the larger difference of own time.
    pub fn functions(&self) -> Vec<FunctionDifference> {
        let mut functions: HashMap<(Arc<str>, Option<Arc<str>>), FunctionDifference> = HashMap::new();
        for (side, is_subject) in [(self.subject, true), (self.baseline, false)] {
            for time in of_samples(side.profile, side.samples.iter().copied()) {
                let key = (time.function.clone(), time.file.clone());
                let entry = functions.entry(key).or_insert_with(|| FunctionDifference {
                    function: time.function.clone(),
                    file: time.file.clone(),
                    is_runtime: time.is_runtime,
                    own: Sums::default(),
                    total: Sums::default(),
                });
                for (sums, times) in [(&mut entry.own, time.own), (&mut entry.total, time.total)] {
                    let sum = if is_subject { &mut sums.subject_ns } else { &mut sums.baseline_ns };
                    *sum = times.total_ns();
                }
            }
        }
        let mut functions: Vec<FunctionDifference> = functions.into_values().collect();
        functions.sort_by(|a, b| {
            let total = self.size(b.total).total_cmp(&self.size(a.total));
            let own = self.size(b.own).total_cmp(&self.size(a.own));
            let name = || (&a.function, &a.file).cmp(&(&b.function, &b.file));
            a.is_runtime.cmp(&b.is_runtime).then(total).then(own).then_with(name)
        });
        functions
    }

    fn size(&self, sums: Sums) -> f64 {
        self.more(sums).abs()
    }
}
