//! A part of a profile as a profile of its own: one span's, one destination's, one kind of time.

use std::collections::HashMap;

use crate::filter::SampleFilter;
use crate::profile::{Location, LocationId, ModuleId, Profile, SampleKey, SampleKind, StackId};

impl Profile {
    /// The samples that the filter means, of one kind where it is given, within the same window. What is known of
    /// spans beside their samples is left out.
    pub fn selected(&self, filter: &SampleFilter, kind: Option<SampleKind>) -> Profile {
        let meant = filter.over(self);
        let mut part = Profile::default();
        part.start_unix_nanoseconds = self.start_unix_nanoseconds;
        part.duration_nanoseconds = self.duration_nanoseconds;
        part.period_nanoseconds = self.period_nanoseconds;
        part.comments.clone_from(&self.comments);
        let mut copies = Copies::default();
        for (key, value) in self.samples() {
            if meant[key.labels.index()] && kind.is_none_or(|kind| kind == key.kind) {
                let stack = copies.stack(self, key.stack, &mut part);
                let labels = part.intern_labels(self.labels(key.labels).to_vec());
                part.add(SampleKey { stack, labels, kind: key.kind }, value.nanoseconds, value.count);
            }
        }
        part
    }
}

/// Where what was copied stands.
#[derive(Default)]
struct Copies {
    modules: HashMap<ModuleId, ModuleId>,
    locations: HashMap<LocationId, LocationId>,
    stacks: HashMap<StackId, StackId>,
}

impl Copies {
    fn stack(&mut self, whole: &Profile, stack: StackId, part: &mut Profile) -> StackId {
        if let Some(copy) = self.stacks.get(&stack) {
            return *copy;
        }
        let locations =
            whole.stack(stack).iter().map(|location| self.location(whole, *location, part)).collect();
        let copy = part.intern_stack(locations);
        self.stacks.insert(stack, copy);
        copy
    }

    fn location(&mut self, whole: &Profile, location: LocationId, part: &mut Profile) -> LocationId {
        if let Some(copy) = self.locations.get(&location) {
            return *copy;
        }
        let found = whole.location(location).clone();
        let module = found.module.map(|module| {
            let copied = || part.intern_module(whole.modules()[module.index()].clone());
            *self.modules.entry(module).or_insert_with(copied)
        });
        let copy = part.intern_location(Location { module, ..found });
        self.locations.insert(location, copy);
        copy
    }
}
