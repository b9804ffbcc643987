//! Waits that outlast their span: a thread that loses its CPU after its span ended, and before it said so, waits under a span
//! that is no more. How long that was is known ([`super::balance`]); which wait it was is not, for waits are sums.
//!
//! It is taken from the waits for a CPU first, the longest before the others, and then from the blocked ones: between the end of
//! a span and the end of its record there are a few instructions, and nothing to block on but a tracer's own lock. What is
//! taken is the thread's all the same, without the span.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::fold::{Fold, FoldKey, Sums};
use crate::capture::ActiveSpan;

/// In the order in which they are taken.
const KINDS: [fn(&mut Sums) -> &mut u64; 2] = [|sums| &mut sums.run_queue, |sums| &mut sums.off_cpu];

/// What was waited beyond spans' ends, by where.
#[derive(Debug, Default)]
pub(super) struct Overruns(HashMap<FoldKey, Sums>);

impl Overruns {
    /// Of spans that each waited so much too long, in nanoseconds.
    pub(super) fn new(fold: &Fold, beyond: &HashMap<ActiveSpan, u64>) -> Overruns {
        let mut overruns = Overruns::default();
        if beyond.is_empty() {
            return overruns;
        }
        let of_spans = fold.sums.iter().filter_map(|(key, sums)| Some((key.span?, *key, *sums)));
        let mut waits: Vec<_> = of_spans.filter(|(span, ..)| beyond.contains_key(span)).collect();
        let mut left = beyond.clone();
        for kind in KINDS {
            waits.sort_by_key(|(_, key, sums)| (Reverse(*kind(&mut sums.clone())), *key));
            for (span, key, sums) in &mut waits {
                let Some(left) = left.get_mut(span) else { continue };
                let taken = (*kind(sums)).min(*left);
                *left -= taken;
                *kind(overruns.0.entry(*key).or_default()) += taken;
            }
        }
        overruns
    }

    /// What was within the span, and what beyond.
    pub(super) fn part(&self, key: &FoldKey, sums: &Sums) -> (Sums, Sums) {
        let beyond = self.0.get(key).copied().unwrap_or_default();
        let within = Sums {
            off_cpu: sums.off_cpu - beyond.off_cpu,
            run_queue: sums.run_queue - beyond.run_queue,
            ..*sums
        };
        (within, beyond)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fold::ThreadKey;
    use super::*;
    use crate::capture::StackHash;

    fn key(stack: u64, span: u8) -> FoldKey {
        let thread = ThreadKey { process: 1, thread: 2 };
        let span = ActiveSpan { trace_id: [1; 16], span_id: [span; 8] };
        FoldKey { thread, stack: Some(StackHash(stack)), span: Some(span) }
    }

    fn waited(off_cpu: u64, run_queue: u64) -> Sums {
        Sums { samples: 1, off_cpu, run_queue, blocks: 3 }
    }

    #[test]
    fn it_is_the_longest_wait_for_a_cpu_and_then_what_blocked() {
        let mut fold = Fold::default();
        let seen = [(key(1, 1), waited(50, 10)), (key(2, 1), waited(9, 30)), (key(1, 2), waited(50, 10))];
        fold.sums.extend(seen);
        let beyond = |nanoseconds| HashMap::from([(seen[0].0.span.unwrap(), nanoseconds)]);
        let parts = |nanoseconds| {
            let overruns = Overruns::new(&fold, &beyond(nanoseconds));
            seen.map(|(key, sums)| {
                let (within, beyond) = overruns.part(&key, &sums);
                assert_eq!((within.samples, within.blocks, beyond.samples, beyond.blocks), (1, 3, 0, 0));
                assert_eq!(within.off_cpu + beyond.off_cpu, sums.off_cpu);
                assert_eq!(within.run_queue + beyond.run_queue, sums.run_queue);
                (beyond.off_cpu, beyond.run_queue)
            })
        };
        assert_eq!(parts(29), [(0, 0), (0, 29), (0, 0)]);
        assert_eq!(parts(42), [(2, 10), (0, 30), (0, 0)]);
    }
}
