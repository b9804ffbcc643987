//! A profile's samples as a test judges them: who, under which span, in which functions.

use std::net::SocketAddr;

use spanprof_exporter::{Label, LabelValue, LocationId, Profile, SampleKind, label};
use spanprof_symbolizer::FrameKind;

/// One sample.
#[derive(Debug)]
pub(crate) struct Sample<'a> {
    profile: &'a Profile,
    /// The kind of time.
    pub(crate) kind: SampleKind,
    /// How many observations.
    pub(crate) count: u64,
    /// How long.
    pub(crate) nanoseconds: u64,
    locations: &'a [LocationId],
    labels: &'a [Label],
}

/// All samples of a profile that stand for at least one observation.
pub(crate) fn samples(profile: &Profile) -> Vec<Sample<'_>> {
    let samples = profile.samples().into_iter().map(|(key, value)| Sample {
        profile,
        kind: key.kind,
        count: value.count,
        nanoseconds: value.nanoseconds,
        locations: profile.stack(key.stack),
        labels: profile.labels(key.labels),
    });
    samples.collect()
}

impl<'a> Sample<'a> {
    /// The thread that was seen.
    pub(crate) fn thread(&self) -> u64 {
        match self.label(label::THREAD_ID) {
            Some(LabelValue::Number(thread)) => *thread as u64,
            _ => panic!("a sample without a thread"),
        }
    }

    /// The span's id, where there is one.
    pub(crate) fn span(&self) -> Option<&'a str> {
        self.label(label::SPAN_ID)?.as_text()
    }

    /// The trace's id, where there is one.
    pub(crate) fn trace(&self) -> Option<&'a str> {
        self.label(label::TRACE_ID)?.as_text()
    }

    /// Why the span keeps its ids, where it is not a normal one.
    pub(crate) fn kept(&self) -> Option<&'a str> {
        self.label(label::KEPT)?.as_text()
    }

    fn label(&self, key: &str) -> Option<&'a LabelValue> {
        self.labels.iter().find(|label| *label.key == *key).map(|label| &label.value)
    }

    /// Whether the stack reaches the thread's start: where it doesn't, spanprof puts a frame that says so.
    pub(crate) fn is_complete(&self) -> bool {
        let skipped = usize::from(self.peer().is_some());
        !self.locations.is_empty()
            && self.locations.iter().skip(skipped).all(|location| {
                self.profile.location(*location).frames.iter().all(|frame| frame.kind != FrameKind::Synthetic)
            })
    }

    /// The service at the other end of the socket that is waited for, which is the last frame.
    pub(crate) fn peer(&self) -> Option<&'a str> {
        let leaf = &self.profile.location(*self.locations.first()?).frames[0];
        let address = leaf.function.strip_prefix('[')?.strip_suffix(']')?;
        let is_peer = leaf.kind == FrameKind::Synthetic && address.parse::<SocketAddr>().is_ok();
        is_peer.then_some(address)
    }

    /// The user's part of the stack by machine frames, leaf first: of each the function that the compiler made,
    /// whatever was inlined into it.
    pub(crate) fn functions(&self) -> Vec<&'a str> {
        self.user_locations().map(|location| &*location.frames[location.frames.len() - 1].function).collect()
    }

    /// Where the machine frames lie in their files, leaf first: the path and the offset in the file.
    pub(crate) fn places(&self) -> Vec<(&'a str, u64)> {
        self.user_locations()
            .map(|location| {
                let module = location.module.expect("code of a known file");
                let module = &self.profile.modules()[module.index()];
                (&*module.path, location.address - module.start + module.file_offset)
            })
            .collect()
    }

    /// Every function from the root to the leaf, inlined ones and the kernel's included.
    pub(crate) fn names_from_root(&self) -> Vec<String> {
        let locations = self.locations.iter().rev().map(|location| self.profile.location(*location));
        locations
            .flat_map(|location| location.frames.iter().rev())
            .map(|frame| frame.function.to_string())
            .collect()
    }

    /// Whether a function of this short name is on the stack, inlined ones included.
    pub(crate) fn passes(&self, name: &str) -> bool {
        self.user_locations().flat_map(|location| &location.frames).any(|frame| is(&frame.function, name))
    }

    fn user_locations(&self) -> impl Iterator<Item = &'a spanprof_exporter::Location> {
        self.locations
            .iter()
            .skip(usize::from(self.peer().is_some()))
            .map(|location| self.profile.location(*location))
            .filter(|location| location.frames.iter().all(|frame| frame.kind != FrameKind::Kernel))
    }
}

/// Whether a function's full name ends in this short one.
pub(crate) fn is(function: &str, name: &str) -> bool {
    function == name || function.strip_suffix(name).is_some_and(|path| path.ends_with("::"))
}

/// Observations of one kind, all and those that pass a test.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// How many there are.
    pub(crate) all: u64,
    /// How many passed.
    pub(crate) good: u64,
}

impl Share {
    /// Counts the observations of these samples.
    pub(crate) fn of<'s, 'p: 's>(
        samples: impl IntoIterator<Item = &'s Sample<'p>>,
        good: impl Fn(&Sample<'p>) -> bool,
    ) -> Share {
        samples.into_iter().fold(Share::default(), |share, sample| Share {
            all: share.all + sample.count,
            good: share.good + if good(sample) { sample.count } else { 0 },
        })
    }

    /// The share that passed, from 0 to 1.
    pub(crate) fn get(self) -> f64 {
        self.good as f64 / self.all as f64
    }

    /// Fails unless there are at least so many observations and at least this share of them passed.
    pub(crate) fn require(self, what: &str, at_least: u64, share: f64) {
        eprintln!("{what}: {} of {} = {:.3} %", self.good, self.all, self.get() * 100.0);
        assert!(self.all >= at_least, "{what}: only {} observations", self.all);
        assert!(self.get() >= share, "{what}: {} of {}", self.good, self.all);
    }
}
