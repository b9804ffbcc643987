//! How many spans a capture missed.
//!
//! A span that never waits is seen when a sample hits it. Of short ones that are few, while a slow one is hit many times: among
//! the spans that were seen, slow ones are far more usual than they are. How many were missed is told by how many were hit once
//! and how many twice, as ecologists tell how many species nobody has caught yet (A. Chao, 1984). It is a lower bound: the
//! more the spans differ, the more were missed beyond it.
//!
//! Refused: judging by the seen ones alone, for then the usual time of a handler that takes 0.2 ms was 40 ms; and counting
//! spans as threads begin them, which only the process itself can do.

/// How often spans of one class were hit by samples in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Hits {
    never: u64,
    once: u64,
    twice: u64,
}

impl Hits {
    /// Adds a span that was seen, by so many samples and perhaps by its waits.
    pub(super) fn add(&mut self, samples: u64) {
        match samples {
            0 => self.never += 1,
            1 => self.once += 1,
            2 => self.twice += 1,
            _ => {}
        }
    }

    /// At least so many spans were missed: no sample hit them, and they did not wait.
    pub(super) fn missed(self) -> u64 {
        let pairs = u128::from(self.once) * u128::from(self.once.saturating_sub(1)) / 2;
        // The form of the estimator that has an answer where nothing was hit twice.
        let never = pairs / (u128::from(self.twice) + 1);
        u64::try_from(never).unwrap_or(u64::MAX).saturating_sub(self.never)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spans that run for `share` of the time between two samples each, of which each sample hits one by chance.
    fn hits_of(spans: usize, share: f64) -> (Hits, u64) {
        let mut state = 7_u64;
        let mut chance = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize
        };
        let mut by_span = vec![0; spans];
        for _ in 0..(spans as f64 * share) as usize {
            by_span[chance() % spans] += 1;
        }
        let mut hits = Hits::default();
        by_span.iter().filter(|samples| **samples > 0).for_each(|samples| hits.add(*samples));
        (hits, by_span.iter().filter(|samples| **samples == 0).count() as u64)
    }

    #[test]
    fn the_missed_are_told_by_those_hit_once_and_twice() {
        for share in [0.02, 0.1, 0.5, 1.0] {
            let (hits, missed) = hits_of(100_000, share);
            let told = hits.missed() as f64 / missed as f64;
            // Of those hit twice there are some twenty where few are hit at all.
            assert!((0.7..1.4).contains(&told), "{share}: {} for {missed}", hits.missed());
        }
    }

    #[test]
    fn those_seen_by_their_waits_are_not_missed() {
        let mut hits = Hits::default();
        for _ in 0..1_000 {
            hits.add(0);
        }
        assert_eq!(hits.missed(), 0);
        (0..40).for_each(|_| hits.add(1));
        assert_eq!(hits.missed(), 0, "780 in all were hit by no sample");
        (0..60).for_each(|_| hits.add(1));
        assert_eq!(hits.missed(), 3_950);
    }

    #[test]
    fn numbers_without_end_are_no_trouble() {
        let hits = Hits { never: 0, once: u64::MAX, twice: 0 };
        assert_eq!(hits.missed(), u64::MAX);
    }
}
