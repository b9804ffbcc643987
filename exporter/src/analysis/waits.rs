//! Time by what was waited for.

use std::collections::HashMap;
use std::sync::Arc;

use crate::filter::shared_text;
use crate::profile::{LabelSetId, Profile, SampleKey, SampleKind, StackId, label};
use crate::waits::{Activity, Wait, wait_told};

/// The waits of one profile's samples: what labels say, and else what stacks do; each is looked at once.
#[derive(Default)]
pub(crate) struct Waits {
    told: HashMap<LabelSetId, Told>,
    known: HashMap<(StackId, SampleKind, Told), Option<Wait>>,
}

/// What labels say of a wait.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Told {
    activity: Activity,
    word: Option<Arc<str>>,
}

impl Waits {
    /// What a sample waited for, where it is waiting at all; and the label's word, if that is another tool's.
    pub(crate) fn of(&mut self, profile: &Profile, sample: &SampleKey) -> (Option<Wait>, Option<Arc<str>>) {
        let told = self.told.entry(sample.labels).or_insert_with(|| {
            let labels = profile.labels(sample.labels);
            Told { activity: Activity::of(labels), word: shared_text(labels, label::WAIT) }
        });
        let key = (sample.stack, sample.kind, told.clone());
        let wait = *self.known.entry(key).or_insert_with(|| {
            wait_told(profile, sample.stack, sample.kind, told.activity, told.word.as_deref())
        });
        (wait, told.word.clone().filter(|word| Wait::named(word).is_none()))
    }
}

/// Nanoseconds per wait.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct WaitTimes([u64; Wait::ALL.len()]);

impl WaitTimes {
    pub(crate) fn add(&mut self, wait: Wait, nanoseconds: u64) {
        let time = &mut self.0[wait as usize];
        *time = time.saturating_add(nanoseconds);
    }

    /// The wait with the most time; the first of [`Wait::ALL`] where two are equal, none where nothing waited.
    pub(crate) fn main(&self) -> Option<Wait> {
        let of = |wait: Wait| self.0[wait as usize];
        let waited = Wait::ALL.into_iter().filter(|wait| of(*wait) > 0);
        waited.reduce(|main, wait| if of(wait) > of(main) { wait } else { main })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_wait_has_the_most_time_and_of_equals_the_first_counts() {
        let mut times = WaitTimes::default();
        assert_eq!(times.main(), None);
        for wait in Wait::ALL.into_iter().rev() {
            times.add(wait, 5);
        }
        assert_eq!(times.main(), Some(Wait::ALL[0]));
        times.add(Wait::Unknown, 1);
        assert_eq!(times.main(), Some(Wait::Unknown), "an unknown wait is no less than others");
        times.add(Wait::Lock, u64::MAX);
        assert_eq!(times.main(), Some(Wait::Lock));
    }
}
