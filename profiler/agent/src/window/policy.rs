//! Which spans keep their ids.
//!
//! However many messages flow, a profile stays small: the spans with the most time seen keep their ids,
//! up to a budget; the rest fold by their attributes, so that their time still stands under its
//! destination. Keeping a random part was refused: the slow ones are why anybody looks.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::capture::ActiveSpan;

/// How many spans keep their ids, and from which time on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanPolicy {
    /// At most so many per window.
    pub budget: usize,
    /// Only spans of which at least this much was seen in the window.
    pub at_least: Duration,
}

impl Default for SpanPolicy {
    fn default() -> Self {
        SpanPolicy { budget: 10_000, at_least: Duration::ZERO }
    }
}

impl SpanPolicy {
    /// Chooses from the time seen per span, in nanoseconds. Ties go to the smaller id, so that the same
    /// input gives the same choice.
    pub fn choose(&self, seen: &HashMap<ActiveSpan, u64>) -> HashSet<ActiveSpan> {
        let at_least = self.at_least.as_nanos() as u64;
        let mut candidates: Vec<_> = seen.iter().filter(|(_, time)| **time >= at_least).collect();
        candidates.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        candidates.into_iter().take(self.budget).map(|(span, _)| *span).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(number: u8) -> ActiveSpan {
        ActiveSpan { trace_id: [1; 16], span_id: [number; 8] }
    }

    #[test]
    fn the_slowest_win_the_budget() {
        let seen = HashMap::from([(span(1), 10), (span(2), 30), (span(3), 20)]);
        let policy = SpanPolicy { budget: 2, at_least: Duration::ZERO };
        assert_eq!(policy.choose(&seen), HashSet::from([span(2), span(3)]));
    }

    #[test]
    fn what_is_below_the_threshold_folds() {
        let seen = HashMap::from([(span(1), 10), (span(2), 30)]);
        let policy = SpanPolicy { budget: 10, at_least: Duration::from_nanos(11) };
        assert_eq!(policy.choose(&seen), HashSet::from([span(2)]));
    }
}
