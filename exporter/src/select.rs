//! A part of a profile as a profile of its own: one span's, one destination's, one kind of time.

use std::collections::{BTreeSet, HashMap};

use crate::facts::{SpanIds, SpanRef};
use crate::filter::{SampleFilter, text};
use crate::profile::{Label, Location, LocationId, ModuleId, Profile, SampleKey, SampleKind, StackId, label};

impl Profile {
    /// The samples that the filter means, of one kind where it is given, within the same window. Of spans that are
    /// meant it has what is known beside their samples too, and of their traces the spans around them.
    pub fn selected(&self, filter: &SampleFilter, kind: Option<SampleKind>) -> Profile {
        let meant = filter.over(self);
        let mut part = Profile::default();
        part.start_unix_nanoseconds = self.start_unix_nanoseconds;
        part.duration_nanoseconds = self.duration_nanoseconds;
        part.period_nanoseconds = self.period_nanoseconds;
        part.comments.clone_from(&self.comments);
        let mut copies = Copies::default();
        let mut spans = BTreeSet::new();
        for (key, value) in self.samples() {
            if meant[key.labels.index()] && kind.is_none_or(|kind| kind == key.kind) {
                let stack = copies.stack(self, key.stack, &mut part);
                spans.extend(span_of(self.labels(key.labels)));
                let labels = part.intern_labels(self.labels(key.labels).to_vec());
                part.add(SampleKey { stack, labels, kind: key.kind }, value.nanoseconds, value.count);
            }
        }
        self.copy_known(&spans, &mut part);
        part
    }

    fn copy_known(&self, spans: &BTreeSet<SpanIds>, part: &mut Profile) {
        for span in spans {
            if let Some(facts) = self.span_facts.get(span) {
                part.span_facts.insert(span.clone(), *facts);
            }
            let chain = self.wakers.of(Some(&span.trace_id), &span.span_id);
            if !chain.is_empty() {
                part.wakers.insert(&span.trace_id, &span.span_id, chain.to_vec());
            }
        }
        let traces: BTreeSet<[u8; 16]> = spans
            .iter()
            .filter_map(|span| SpanRef::parse(&span.trace_id, &span.span_id))
            .map(|span| span.trace_id)
            .collect();
        for told in traces.iter().flat_map(|trace| self.relatives.of_trace(*trace)) {
            part.relatives.insert(told.clone());
        }
    }
}

/// The span that a sample is of.
fn span_of(labels: &[Label]) -> Option<SpanIds> {
    let (trace_id, span_id) = (text(labels, label::TRACE_ID)?, text(labels, label::SPAN_ID)?);
    Some(SpanIds { trace_id: trace_id.to_owned(), span_id: span_id.to_owned() })
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
