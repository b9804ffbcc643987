//! How much of what spans took is accounted for.

use super::spans::spans;
use crate::profile::{Profile, SampleKind};

/// The one frame of a span's time before the capture began, which nobody can have seen.
pub const BEFORE_CAPTURE: &str = "[before the capture began]";

/// The wall time in the capture of spans whose tracers told it, and what of it nobody saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accounted {
    /// How many spans.
    pub spans: usize,
    /// From begin, or the capture's begin, to end, added up, in nanoseconds.
    pub wall_ns: u64,
    /// What neither the spans' own times nor their children's account for, added up, in nanoseconds.
    pub unknown_ns: u64,
    /// What was before the capture; in none of the others, in nanoseconds.
    pub before_ns: u64,
}

impl Accounted {
    /// Which part of the wall time is accounted for, from 0 to 1. None where nobody told any.
    pub fn share(&self) -> Option<f64> {
        (self.wall_ns > 0).then(|| 1.0 - self.unknown_ns as f64 / self.wall_ns as f64)
    }
}

/// Adds a profile's spans up; those of which nobody told the wall time are left out.
pub fn accounted(profile: &Profile) -> Accounted {
    let mut sum = Accounted { before_ns: before_capture(profile), ..Accounted::default() };
    for span in spans(profile) {
        let Some(wall) = span.wall_ns else { continue };
        let known = span.total_ns().saturating_sub(span.unknown_ns).saturating_add(span.children_ns);
        sum.spans += 1;
        sum.wall_ns = sum.wall_ns.saturating_add(wall);
        // One span that was seen for too long makes up for no other that was not seen.
        sum.unknown_ns = sum.unknown_ns.saturating_add(wall.saturating_sub(known));
    }
    sum.wall_ns = sum.wall_ns.saturating_sub(sum.before_ns);
    sum.unknown_ns = sum.unknown_ns.saturating_sub(sum.before_ns);
    sum
}

fn before_capture(profile: &Profile) -> u64 {
    let is_before = |stack: &[crate::LocationId]| {
        let mut frames = stack.iter().flat_map(|location| &profile.location(*location).frames);
        frames.next().is_some_and(|frame| &*frame.function == BEFORE_CAPTURE)
    };
    let unknown = profile.samples().into_iter().filter(|(key, _)| key.kind == SampleKind::Unknown);
    unknown.filter(|(key, _)| is_before(profile.stack(key.stack))).map(|(_, value)| value.nanoseconds).sum()
}

#[cfg(test)]
mod tests {
    use spanprof_symbolizer::{Frame, FrameKind};

    use super::*;
    use crate::facts::{SpanFacts, SpanIds};
    use crate::profile::{Label, LabelSetId, Location, SampleKey, label};

    /// Adds a span that was seen blocked for so long.
    fn add(profile: &mut Profile, span: &str, wall: Option<u64>, seen: u64) -> LabelSetId {
        let stack = profile.intern_stack(vec![]);
        let ids = [Label::text(label::TRACE_ID, "a"), Label::text(label::SPAN_ID, span)];
        let labels = profile.intern_labels(ids.to_vec());
        profile.add(SampleKey { stack, labels, kind: SampleKind::OffCpu }, seen, 1);
        let ids = SpanIds { trace_id: "a".to_owned(), span_id: span.to_owned() };
        if wall.is_some() {
            let facts = SpanFacts { wall_ns: wall, children_ns: 5, ..SpanFacts::default() };
            profile.span_facts.insert(ids, facts);
        }
        labels
    }

    #[test]
    fn too_much_of_one_span_is_not_what_another_lacks() {
        let mut profile = Profile::default();
        add(&mut profile, "1", Some(100), 80);
        add(&mut profile, "2", Some(100), 200);
        add(&mut profile, "3", None, 70);
        let sum = accounted(&profile);
        assert_eq!(sum, Accounted { spans: 2, wall_ns: 200, unknown_ns: 15, before_ns: 0 });
        assert_eq!(sum.share(), Some(1.0 - 15.0 / 200.0));
        assert_eq!(accounted(&Profile::default()).share(), None);
    }

    #[test]
    fn what_was_before_the_capture_is_told_apart() {
        let mut profile = Profile::default();
        let labels = add(&mut profile, "1", Some(100), 30);
        for (note, nanoseconds) in [(BEFORE_CAPTURE, 60), ("[not seen]", 5)] {
            let (function, system_name, file) = (note.into(), note.into(), None);
            let frame = Frame { function, system_name, file, line: 0, kind: FrameKind::Synthetic };
            let location = Location { module: None, address: 0, frames: vec![frame] };
            let location = profile.intern_location(location);
            let stack = profile.intern_stack(vec![location]);
            profile.add(SampleKey { stack, labels, kind: SampleKind::Unknown }, nanoseconds, 1);
        }
        let sum = accounted(&profile);
        assert_eq!(sum, Accounted { spans: 1, wall_ns: 40, unknown_ns: 5, before_ns: 60 });
    }
}
