//! Several profiles as one: windows that followed each other, or processes side by side.

use std::collections::HashMap;

use crate::profile::{LabelSetId, Location, LocationId, ModuleId, Profile, SampleKey, StackId};

impl Profile {
    /// Adds another profile's samples, and what it knows beside them, to this one. The times from the earlier begin to the later end become one window;
    /// comments are kept once each.
    pub fn absorb(&mut self, other: &Profile) {
        self.widen(other);
        self.absorb_wakers(other);
        self.absorb_facts(&other.span_facts);
        self.absorb_relatives(&other.relatives);
        self.absorb_traffic(&other.traffic);
        let modules: Vec<ModuleId> =
            other.modules().iter().map(|module| self.intern_module(module.clone())).collect();
        let locations: Vec<LocationId> = other
            .locations()
            .iter()
            .map(|location| {
                let module = location.module.map(|module| modules[module.index()]);
                self.intern_location(Location { module, ..location.clone() })
            })
            .collect();
        let mut stacks: HashMap<StackId, StackId> = HashMap::new();
        let mut label_sets: HashMap<LabelSetId, LabelSetId> = HashMap::new();
        for (key, value) in other.samples() {
            let stack = *stacks.entry(key.stack).or_insert_with(|| {
                let here = other.stack(key.stack).iter().map(|location| locations[location.index()]);
                self.intern_stack(here.collect())
            });
            let labels = *label_sets
                .entry(key.labels)
                .or_insert_with(|| self.intern_labels(other.labels(key.labels).to_vec()));
            self.add(SampleKey { stack, labels, kind: key.kind }, value.nanoseconds, value.count);
        }
        for comment in &other.comments {
            if !self.comments.contains(comment) {
                self.comments.push(comment.clone());
            }
        }
    }

    fn widen(&mut self, other: &Profile) {
        let end =
            |profile: &Profile| profile.start_unix_nanoseconds.saturating_add(profile.duration_nanoseconds);
        if self.start_unix_nanoseconds == 0 {
            self.start_unix_nanoseconds = other.start_unix_nanoseconds;
            self.duration_nanoseconds = other.duration_nanoseconds;
            self.period_nanoseconds = other.period_nanoseconds;
            return;
        }
        let begin = self.start_unix_nanoseconds.min(other.start_unix_nanoseconds);
        self.duration_nanoseconds = end(self).max(end(other)) - begin;
        self.start_unix_nanoseconds = begin;
    }
}

#[cfg(test)]
mod tests {
    use spanprof_symbolizer::{Frame, FrameKind};

    use super::*;
    use crate::profile::{Label, SampleKind};

    fn profile(begin: u64, function: &str, thread: i64) -> Profile {
        let mut profile = Profile::default();
        profile.start_unix_nanoseconds = begin;
        profile.duration_nanoseconds = 10;
        profile.comments.push("one process".to_owned());
        let frame = Frame {
            function: function.into(),
            system_name: function.into(),
            file: None,
            line: 0,
            kind: FrameKind::Native,
        };
        let location = profile.intern_location(Location { module: None, address: 1, frames: vec![frame] });
        let stack = profile.intern_stack(vec![location]);
        let labels = profile.intern_labels(vec![Label::number("thread.id", thread)]);
        profile.add(SampleKey { stack, labels, kind: SampleKind::Cpu }, 7, 1);
        profile
    }

    #[test]
    fn equal_samples_add_up_and_others_stand_beside() {
        let mut whole = Profile::default();
        for part in [profile(100, "a", 1), profile(110, "a", 1), profile(95, "b", 1), profile(100, "a", 2)] {
            whole.absorb(&part);
        }
        assert_eq!(whole.total(SampleKind::Cpu), 28);
        let mut times: Vec<u64> = whole.samples().iter().map(|(_, value)| value.nanoseconds).collect();
        times.sort_unstable();
        assert_eq!(times, [7, 7, 14]);
        assert_eq!((whole.start_unix_nanoseconds, whole.duration_nanoseconds), (95, 25));
        assert_eq!(whole.comments, ["one process"]);
    }
}
