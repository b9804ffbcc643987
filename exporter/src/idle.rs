//! Time of threads that wait for work: which samples are such, and how much it is.
//!
//! A pool of threads waits far longer than it works, so that its waiting fills a flame graph and what one
//! looks for becomes a hair. Such time stays in the profile, where it makes the threads' times add up, under
//! one frame that stands for a whole stack; pictures leave it out and say how much that was. Only processes
//! that publish spans have idle threads: of the others nobody knows what they wait for.

use crate::analysis::Times;
use crate::filter::text;
use crate::profile::{Label, Profile, SampleKey, SampleKind, StackId, label};

/// The one frame of a thread that waits without a span, in a process that publishes spans.
pub const WAITING_WITHOUT_SPAN: &str = "[waiting without a span]";

/// The one frame of a thread whose wait began before the capture and whose stack nobody saw. Not idle time:
/// a thread that is stuck looks like this.
pub const BLOCKED_BEFORE_CAPTURE: &str = "[blocked since before the capture]";

/// Whether a picture shows the time of idle threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdleThreads {
    /// As every other time.
    #[default]
    Shown,
    /// Left out; whoever leaves it out says how much it was.
    Hidden,
}

/// Tells the samples of idle threads in one profile: stacks and labels are looked at once, not once per
/// sample.
pub struct IdleSamples {
    by_stack: Vec<bool>,
    by_labels: Vec<bool>,
}

impl IdleSamples {
    /// Looks through the profile's stacks and labels.
    pub fn of(profile: &Profile) -> IdleSamples {
        let stacks = profile.stacks().iter().map(|stack| {
            let mut frames = stack.iter().flat_map(|location| &profile.location(*location).frames);
            let first = frames.next().map(|frame| &*frame.function);
            frames.next().is_none() && first == Some(WAITING_WITHOUT_SPAN)
        });
        IdleSamples {
            by_stack: stacks.collect(),
            by_labels: profile.label_sets().iter().map(|labels| !has_span(labels)).collect(),
        }
    }

    /// Whether a sample is an idle thread's. Time on a CPU never is, nor is a task's, which has no thread.
    pub fn contains(&self, key: &SampleKey) -> bool {
        let is_of_waiting_thread = matches!(key.kind, SampleKind::OffCpu | SampleKind::RunQueue);
        is_of_waiting_thread && self.is_idle_stack(key.stack) && self.by_labels[key.labels.index()]
    }

    fn is_idle_stack(&self, stack: StackId) -> bool {
        self.by_stack[stack.index()]
    }

    /// How much time of idle threads a profile holds.
    pub fn times(&self, profile: &Profile) -> Times {
        let mut times = Times::default();
        for (key, value) in profile.samples().iter().filter(|(key, _)| self.contains(key)) {
            times.add(key.kind, value.nanoseconds);
        }
        times
    }
}

/// Whether labels name a span, or the spans that it was folded into.
fn has_span(labels: &[Label]) -> bool {
    [label::SPAN_ID, label::TRACE_ID, label::SPAN_NAME, label::DESTINATION, label::OPERATION]
        .iter()
        .any(|key| text(labels, key).is_some())
}

#[cfg(test)]
mod tests {
    use spanprof_symbolizer::{Frame, FrameKind};

    use super::*;
    use crate::profile::Location;

    /// A profile of one sample: its functions, leaf first, its labels and 7 ns of a kind.
    fn one(names: &[&str], labels: Vec<Label>, kind: SampleKind) -> Profile {
        let mut profile = Profile::default();
        let frames = names.iter().map(|name| Frame {
            function: (*name).into(),
            system_name: (*name).into(),
            file: None,
            line: 0,
            kind: FrameKind::Synthetic,
        });
        let locations: Vec<_> = frames
            .map(|frame| Location { module: None, address: 0, frames: vec![frame] })
            .map(|location| profile.intern_location(location))
            .collect();
        let stack = profile.intern_stack(locations);
        let labels = profile.intern_labels(labels);
        profile.add(SampleKey { stack, labels, kind }, 7, 1);
        profile
    }

    #[test]
    fn only_waits_of_threads_without_a_span_and_a_stack_are_idle() {
        let thread = || vec![Label::number(label::THREAD_ID, 7), Label::text(label::SERVICE_NAME, "orders")];
        let with = |key| [thread(), vec![Label::text(key, "x")]].concat();
        for (names, labels, kind, expected) in [
            (&[WAITING_WITHOUT_SPAN][..], thread(), SampleKind::OffCpu, 7),
            (&[WAITING_WITHOUT_SPAN], thread(), SampleKind::RunQueue, 7),
            (&[BLOCKED_BEFORE_CAPTURE], thread(), SampleKind::OffCpu, 0),
            (&[WAITING_WITHOUT_SPAN], thread(), SampleKind::Cpu, 0),
            (&[WAITING_WITHOUT_SPAN], thread(), SampleKind::Suspended, 0),
            (&[WAITING_WITHOUT_SPAN], thread(), SampleKind::Ready, 0),
            (&[WAITING_WITHOUT_SPAN], with(label::SPAN_ID), SampleKind::OffCpu, 0),
            (&[WAITING_WITHOUT_SPAN], with(label::DESTINATION), SampleKind::OffCpu, 0),
            (&[WAITING_WITHOUT_SPAN, "main"], thread(), SampleKind::OffCpu, 0),
            (&["main"], thread(), SampleKind::OffCpu, 0),
            (&[], thread(), SampleKind::OffCpu, 0),
        ] {
            let profile = one(names, labels, kind);
            let times = IdleSamples::of(&profile).times(&profile);
            assert_eq!(times.total_ns(), expected, "{names:?} {kind:?}");
            assert_eq!(times.of(kind), expected);
        }
    }
}
