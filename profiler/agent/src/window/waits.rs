//! What blocked threads waited for, as a label on their samples.

use std::collections::HashSet;

use spanprof_exporter::waits::{Activity, WaitLabels};
use spanprof_exporter::{LabelSetId, Profile, SampleKind, StackId};

use super::fold::{Fold, FoldKey};
use crate::capture::ProcessId;

/// Adds the label `wait` while a window is written.
pub(super) struct Waits {
    labels: WaitLabels,
    /// In them a thread without a span is idle; of others nobody knows what they do.
    publishing: HashSet<ProcessId>,
}

impl Waits {
    pub(super) fn of(fold: &Fold) -> Waits {
        Waits { labels: WaitLabels::default(), publishing: processes_with_spans(fold) }
    }

    /// The labels with what was waited for on this stack: the one that was seen, also where another is shown.
    pub(super) fn extend(
        &mut self,
        profile: &mut Profile,
        labels: LabelSetId,
        stack: StackId,
        kind: SampleKind,
        key: &FoldKey,
    ) -> LabelSetId {
        let activity = match key.span {
            Some(_) => Activity::in_span_with(profile.labels(labels)),
            None if self.publishing.contains(&key.thread.process) => Activity::Idle,
            None => Activity::Untold,
        };
        self.labels.extend(profile, labels, stack, kind, activity)
    }
}

/// Processes of which at least one span was seen: in them a thread without one is idle.
pub(super) fn processes_with_spans(fold: &Fold) -> HashSet<ProcessId> {
    fold.sums.keys().filter(|key| key.span.is_some()).map(|key| key.thread.process).collect()
}
