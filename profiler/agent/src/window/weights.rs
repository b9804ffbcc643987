//! How much CPU time a sample stands for: a thread's exact time over its samples, so that the samples of a thread add up to
//! what it ran. Samples say where, the scheduler says how long.
//!
//! Of some spans the exact time is known, too ([`super::balance`]). Their samples share that, and the thread's other samples
//! what is left of the thread's.

use std::collections::{HashMap, HashSet};

use super::fold::{Fold, ThreadKey};
use crate::capture::ActiveSpan;

/// Whose time samples share: a thread's, or that of a span on it.
type Owner = (ThreadKey, Option<ActiveSpan>);

/// CPU time and the samples that share it.
#[derive(Debug, Clone, Copy, Default)]
struct Pool {
    cpu: u64,
    samples: u64,
}

/// What samples stand for, by thread, and by span where that is known.
pub(super) struct Weights {
    pools: HashMap<Owner, Pool>,
    exact: HashSet<Owner>,
    period: u64,
}

impl Weights {
    /// By thread. `period` is the sampling period in nanoseconds.
    pub(super) fn new(fold: &Fold, period: u64) -> Weights {
        let mut pools: HashMap<Owner, Pool> = fold
            .threads
            .iter()
            .map(|(thread, sums)| ((*thread, None), Pool { cpu: sums.cpu, samples: 0 }))
            .collect();
        for (key, sums) in &fold.sums {
            pools.entry((key.thread, None)).or_default().samples += sums.samples;
        }
        Weights { pools, exact: HashSet::new(), period }
    }

    /// The time between two samples of a CPU, in nanoseconds.
    pub(super) const fn period(&self) -> u64 {
        self.period
    }

    /// A span ran exactly so long on its threads, each of which was hit by so many samples; what each had is told by these.
    /// Whether the threads ran that long at all; where they did not, nothing changes.
    pub(super) fn set_exact(&mut self, threads: &[(ThreadKey, u64)], span: ActiveSpan, cpu: u64) -> bool {
        let parts = self.parts(threads, cpu);
        let left = parts.iter().map(|(thread, part)| {
            let rest = self.pools.get(&(*thread, None))?;
            let (cpu, samples) = (rest.cpu.checked_sub(part.cpu)?, rest.samples.checked_sub(part.samples)?);
            Some(Pool { cpu, samples })
        });
        let Some(left) = left.collect::<Option<Vec<Pool>>>() else { return false };
        for ((thread, part), left) in parts.into_iter().zip(left) {
            self.pools.insert((thread, None), left);
            self.pools.insert((thread, Some(span)), part);
            self.exact.insert((thread, Some(span)));
        }
        true
    }

    /// CPU time over threads, by their samples; where none was hit, all of it is that thread's which ran the longest.
    fn parts(&self, threads: &[(ThreadKey, u64)], cpu: u64) -> Vec<(ThreadKey, Pool)> {
        let all: u64 = threads.iter().map(|(_, samples)| samples).sum();
        let ran = |thread: ThreadKey| self.pools.get(&(thread, None)).map_or(0, |pool| pool.cpu);
        let longest = threads.iter().max_by_key(|(thread, _)| (ran(*thread), *thread));
        let (mut before, mut given) = (0, 0);
        let part = |&(thread, samples): &(ThreadKey, u64)| {
            before += samples;
            let until = match all {
                0 if longest.is_some_and(|(longest, _)| *longest == thread) => given + cpu,
                0 => given,
                _ => (u128::from(cpu) * u128::from(before) / u128::from(all)) as u64,
            };
            let part = Pool { cpu: until - given, samples };
            given = until;
            (thread, part)
        };
        threads.iter().map(part).collect()
    }

    fn owner(&self, thread: ThreadKey, span: Option<ActiveSpan>) -> Owner {
        match self.exact.contains(&(thread, span)) {
            true => (thread, span),
            false => (thread, None),
        }
    }

    /// What so many samples of a thread within a span stand for, in nanoseconds.
    pub(super) fn estimate(&self, thread: ThreadKey, span: Option<ActiveSpan>, samples: u64) -> u64 {
        self.part(self.owner(thread, span), samples)
    }

    fn part(&self, owner: Owner, samples: u64) -> u64 {
        match self.pools.get(&owner) {
            Some(pool) if pool.samples > 0 && (pool.cpu > 0 || owner.1.is_some()) => {
                (u128::from(pool.cpu) * u128::from(samples) / u128::from(pool.samples)) as u64
            }
            _ => samples.saturating_mul(self.period),
        }
    }

    /// Hands times out, sample by sample.
    pub(super) fn shares(&self) -> Shares<'_> {
        Shares { weights: self, given: HashMap::new() }
    }

    /// Who ran without being hit by a sample, and for how long, in a stable order.
    pub(super) fn unsampled(&self) -> Vec<(ThreadKey, Option<ActiveSpan>, u64)> {
        let mut unsampled: Vec<_> = self
            .pools
            .iter()
            .filter(|(_, pool)| pool.samples == 0 && pool.cpu > 0)
            .map(|((thread, span), pool)| (*thread, *span, pool.cpu))
            .collect();
        unsampled.sort();
        unsampled
    }
}

/// Hands out CPU time sample by sample without losing a nanosecond to rounding.
pub(super) struct Shares<'a> {
    weights: &'a Weights,
    given: HashMap<Owner, u64>,
}

impl Shares<'_> {
    /// The time of the next so many samples.
    pub(super) fn take(&mut self, thread: ThreadKey, span: Option<ActiveSpan>, samples: u64) -> u64 {
        let owner = self.weights.owner(thread, span);
        let given = self.given.entry(owner).or_default();
        let before = self.weights.part(owner, *given);
        *given += samples;
        self.weights.part(owner, *given) - before
    }
}

#[cfg(test)]
mod tests {
    use super::super::fold::{FoldKey, Sums, ThreadSums};
    use super::*;

    const THREAD: ThreadKey = ThreadKey { process: 1, thread: 2 };

    fn span(number: u8) -> Option<ActiveSpan> {
        Some(ActiveSpan { trace_id: [1; 16], span_id: [number; 8] })
    }

    /// A thread that ran 1,000 ns, hit 7 times, 2 of them in a span.
    fn fold() -> Fold {
        let mut fold = Fold::default();
        fold.threads.insert(THREAD, ThreadSums { cpu: 1_000, ..ThreadSums::default() });
        for (of, samples) in [(None, 5), (span(1), 2)] {
            let key = FoldKey { thread: THREAD, stack: None, span: of };
            fold.sums.insert(key, Sums { samples, ..Sums::default() });
        }
        fold
    }

    #[test]
    fn samples_add_up_to_what_the_thread_ran() {
        let weights = Weights::new(&fold(), 10);
        let mut shares = weights.shares();
        let parts = [(None, 5), (span(1), 1), (span(1), 1)].map(|(of, n)| shares.take(THREAD, of, n));
        assert_eq!(parts.iter().sum::<u64>(), 1_000);
        assert_eq!(parts[0], 714);
        assert!(weights.unsampled().is_empty());
    }

    #[test]
    fn an_exact_span_has_its_own_and_the_rest_share_the_rest() {
        let mut weights = Weights::new(&fold(), 10);
        assert!(weights.set_exact(&[(THREAD, 2)], span(1).unwrap(), 101));
        let mut shares = weights.shares();
        assert_eq!([1, 1].map(|n| shares.take(THREAD, span(1), n)).iter().sum::<u64>(), 101);
        assert_eq!(shares.take(THREAD, None, 5), 899);
        assert!(weights.unsampled().is_empty());
    }

    #[test]
    fn an_exact_span_that_no_sample_hit_is_told_apart() {
        let mut weights = Weights::new(&fold(), 10);
        assert!(weights.set_exact(&[(THREAD, 0)], span(3).unwrap(), 40));
        assert_eq!(weights.unsampled(), [(THREAD, span(3), 40)]);
        assert_eq!(weights.estimate(THREAD, None, 7), 960);
    }

    #[test]
    fn no_span_ran_longer_than_its_thread() {
        let mut weights = Weights::new(&fold(), 10);
        assert!(!weights.set_exact(&[(THREAD, 2)], span(1).unwrap(), 1_001));
        assert_eq!(weights.estimate(THREAD, span(1), 7), 1_000);
    }

    #[test]
    fn threads_share_an_exact_span_s_time_by_their_samples() {
        let other = ThreadKey { process: 1, thread: 3 };
        let mut fold = fold();
        fold.threads.insert(other, ThreadSums { cpu: 500, ..ThreadSums::default() });
        let key = FoldKey { thread: other, stack: None, span: span(1) };
        fold.sums.insert(key, Sums { samples: 1, ..Sums::default() });
        let mut weights = Weights::new(&fold, 10);
        let threads = [(THREAD, 2), (other, 1)];
        assert!(!weights.set_exact(&threads, span(1).unwrap(), 1_501), "the other never ran 501");
        assert!(weights.set_exact(&threads, span(1).unwrap(), 100));
        let times = threads.map(|(thread, samples)| weights.estimate(thread, span(1), samples));
        assert_eq!(times, [66, 34]);
        assert_eq!(weights.estimate(THREAD, None, 5), 934);
        // Who was never hit: the one that ran the longest had it.
        assert!(weights.set_exact(&[(other, 0), (THREAD, 0)], span(2).unwrap(), 7));
        assert!(weights.unsampled().contains(&(THREAD, span(2), 7)));
        assert_eq!(weights.estimate(other, span(2), 0), 0);
    }

    #[test]
    fn an_exact_span_without_time_gets_none() {
        let mut weights = Weights::new(&fold(), 10);
        assert!(weights.set_exact(&[(THREAD, 2)], span(1).unwrap(), 0));
        assert_eq!(weights.shares().take(THREAD, span(1), 2), 0);
    }

    #[test]
    fn without_the_threads_time_a_sample_is_a_period() {
        let mut fold = fold();
        fold.threads.clear();
        assert_eq!(Weights::new(&fold, 10).estimate(THREAD, None, 3), 30);
    }
}
