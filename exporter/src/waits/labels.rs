//! Puts the label `wait` on samples while a profile is written.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::{Activity, Wait, wait_of};
use crate::profile::{Label, LabelSetId, LabelValue, Profile, SampleKind, StackId, label};

/// Extends sets of labels by `wait`; each stack is classified once per kind and activity, however many samples it has.
///
/// At most as many sets come into being as there were, times [`Wait::ALL`].
#[derive(Debug, Default)]
pub struct WaitLabels {
    waits: HashMap<(StackId, SampleKind, Activity), Option<Wait>, RandomState>,
    extended: HashMap<(LabelSetId, Wait), LabelSetId, RandomState>,
}

impl WaitLabels {
    /// The labels, which belong to `profile`, with what was waited for on this stack; the same where the kind of time is
    /// no waiting.
    pub fn extend(
        &mut self,
        profile: &mut Profile,
        labels: LabelSetId,
        stack: StackId,
        kind: SampleKind,
        activity: Activity,
    ) -> LabelSetId {
        let wait = *self
            .waits
            .entry((stack, kind, activity))
            .or_insert_with(|| wait_of(profile, stack, kind, activity));
        let Some(wait) = wait else { return labels };
        *self.extended.entry((labels, wait)).or_insert_with(|| {
            let mut extended = profile.labels(labels).to_vec();
            extended.push(Label { key: label::WAIT.into(), value: LabelValue::Text(wait.as_str().into()) });
            profile.intern_labels(extended)
        })
    }
}
