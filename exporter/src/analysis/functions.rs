//! Time by function.

use std::collections::HashMap;
use std::sync::Arc;

use spanprof_symbolizer::FrameKind;

use super::groups::Times;
use super::waits::{WaitTimes, Waits};
use crate::filter::SampleFilter;
use crate::profile::{Profile, SampleKey, SampleValue};
use crate::runtime::is_runtime;
use crate::waits::Wait;

/// How much time was spent in one function.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionTime {
    /// The function's name.
    pub function: Arc<str>,
    /// Its source file, where one is known.
    pub file: Option<Arc<str>>,
    /// What sort of code it is.
    pub kind: FrameKind,
    /// Whether it belongs to a runtime rather than to the application.
    pub is_runtime: bool,
    /// Time at its own lines: it was the innermost function.
    pub own: Times,
    /// Time in it and in what it called; recursion counts once.
    pub total: Times,
    /// What was waited for the longest in it and in what it called; none where nothing waited.
    pub main_wait: Option<Wait>,
}

/// Time by function over the samples that the filter means: most own time first, then most total time.
pub fn functions(profile: &Profile, filter: &SampleFilter) -> Vec<FunctionTime> {
    let meant = filter.over(profile);
    let samples = profile.samples().into_iter().filter(|(sample, _)| meant[sample.labels.index()]);
    let mut times = of_samples(profile, samples);
    times.sort_by(|a, b| {
        let own = b.own.total_ns().cmp(&a.own.total_ns());
        let total = b.total.total_ns().cmp(&a.total.total_ns());
        own.then(total).then_with(|| (&a.function, &a.file).cmp(&(&b.function, &b.file)))
    });
    times
}

/// Time by function over some samples of a profile, in no order.
pub(super) fn of_samples(
    profile: &Profile,
    samples: impl IntoIterator<Item = (SampleKey, SampleValue)>,
) -> Vec<FunctionTime> {
    let table = FunctionTable::new(profile);
    let mut times = table.functions.clone();
    // The last sample that counted a function: so that recursion counts once, without a set per sample.
    let mut last_seen = vec![usize::MAX; times.len()];
    let mut waits = Waits::default();
    let mut waited: HashMap<usize, WaitTimes> = HashMap::new();
    for (position, (sample, value)) in samples.into_iter().enumerate() {
        let (wait, _) = waits.of(profile, &sample);
        let mut is_leaf = true;
        for location in profile.stack(sample.stack) {
            for function in &table.by_location[location.index()] {
                if is_leaf {
                    times[*function].own.add(sample.kind, value.nanoseconds);
                    is_leaf = false;
                }
                if last_seen[*function] != position {
                    last_seen[*function] = position;
                    times[*function].total.add(sample.kind, value.nanoseconds);
                    if let Some(wait) = wait {
                        waited.entry(*function).or_default().add(wait, value.nanoseconds);
                    }
                }
            }
        }
    }
    for (function, waits) in waited {
        times[function].main_wait = waits.main();
    }
    times.retain(|function| function.total.total_ns() > 0);
    times
}

/// The profile's functions, and which of them stand at each location (innermost first).
struct FunctionTable {
    functions: Vec<FunctionTime>,
    by_location: Vec<Vec<usize>>,
}

impl FunctionTable {
    fn new(profile: &Profile) -> FunctionTable {
        let mut numbers = HashMap::new();
        let mut functions = Vec::new();
        let mut by_location = Vec::with_capacity(profile.locations().len());
        for location in profile.locations() {
            let mut at_location = Vec::with_capacity(location.frames.len());
            for frame in &location.frames {
                let key = (frame.function.clone(), frame.file.clone());
                at_location.push(*numbers.entry(key).or_insert_with(|| {
                    functions.push(FunctionTime {
                        function: frame.function.clone(),
                        file: frame.file.clone(),
                        kind: frame.kind,
                        is_runtime: is_runtime(frame),
                        own: Times::default(),
                        total: Times::default(),
                        main_wait: None,
                    });
                    functions.len() - 1
                }));
            }
            by_location.push(at_location);
        }
        FunctionTable { functions, by_location }
    }
}
