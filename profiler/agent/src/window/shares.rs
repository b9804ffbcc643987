//! Charges what was done for a batch to its messages: to each kept one its part, and to the batch what is left.
//!
//! The parts stand under the message's ids and the batch's attributes, with the label `share`, for they are no part of the
//! message's own wall time. All together, and what stays, are the batch's time to the nanosecond.

use std::collections::HashMap;

use super::fold::Sums;
use crate::capture::ActiveSpan;
use crate::spans::{InBatch, Share};

/// Who is charged for a batch.
pub(super) type Charged = (ActiveSpan, Share);

/// What is charged to kept messages, by the batch's span.
#[derive(Debug, Default)]
pub(super) struct BatchShares(HashMap<ActiveSpan, Vec<Charged>>);

/// A batch's time as it is charged.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// Each message's waits and CPU time.
    pub(super) charged: Vec<(Charged, Sums, u64)>,
    /// What stays with the batch.
    pub(super) rest: (Sums, u64),
}

impl BatchShares {
    /// Of messages that lie in batches.
    pub(super) fn new(messages: &HashMap<ActiveSpan, InBatch>) -> BatchShares {
        let mut shares: HashMap<ActiveSpan, Vec<Charged>> = HashMap::new();
        for (message, of) in messages {
            for share in &of.shares {
                shares.entry(share.batch).or_default().push((*message, *share));
            }
        }
        for charged in shares.values_mut() {
            charged.sort_by_key(|(message, share)| (share.place, *message));
            // Of two deliveries of one message in one batch, one is charged.
            charged.dedup_by_key(|(_, share)| share.place);
        }
        BatchShares(shares)
    }

    /// Parts what was seen of a span; all of it stays where it is no batch.
    pub(super) fn part(&self, span: Option<ActiveSpan>, sums: &Sums, cpu: u64) -> Parts {
        let (mut rest, mut rest_cpu) = (*sums, cpu);
        let charged = span.and_then(|span| self.0.get(&span)).map_or(&[][..], Vec::as_slice);
        let charged = charged.iter().map(|(message, share)| {
            let part = Sums {
                off_cpu: share.part(sums.off_cpu),
                run_queue: share.part(sums.run_queue),
                ..Sums::default()
            };
            let part_cpu = share.part(cpu);
            rest.off_cpu -= part.off_cpu;
            rest.run_queue -= part.run_queue;
            rest_cpu -= part_cpu;
            ((*message, *share), part, part_cpu)
        });
        let charged = charged.collect();
        Parts { charged, rest: (rest, rest_cpu) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> ActiveSpan {
        ActiveSpan { trace_id: [number; 16], span_id: [number; 8] }
    }

    fn in_batch(place: u32) -> InBatch {
        InBatch { shares: vec![Share { batch: id(99), place, of: 32 }], size: 32, head_of_line_ns: 0 }
    }

    const SEEN: Sums = Sums { samples: 3, off_cpu: 1_000_003, run_queue: 17, blocks: 5 };

    #[test]
    fn all_messages_of_a_batch_are_charged_all_of_it() {
        let messages = (0..32).map(|place| (id(place + 1), in_batch(u32::from(place)))).collect();
        let parts = BatchShares::new(&messages).part(Some(id(99)), &SEEN, 77);
        assert_eq!(parts.charged.len(), 32);
        let sum = |of: fn(&(Charged, Sums, u64)) -> u64| parts.charged.iter().map(of).sum::<u64>();
        assert_eq!(sum(|(_, part, _)| part.off_cpu), SEEN.off_cpu);
        assert_eq!(sum(|(_, part, _)| part.run_queue), SEEN.run_queue);
        assert_eq!(sum(|(_, _, cpu)| *cpu), 77);
        assert_eq!(parts.rest, (Sums { samples: 3, blocks: 5, ..Sums::default() }, 0));
    }

    #[test]
    fn one_kept_message_is_charged_its_part_alone() {
        let messages = HashMap::from([(id(1), in_batch(7))]);
        let parts = BatchShares::new(&messages).part(Some(id(99)), &SEEN, 64);
        let (charged, part, cpu) = parts.charged[0];
        assert_eq!((charged.0, cpu), (id(1), 2));
        assert_eq!(part.off_cpu + parts.rest.0.off_cpu, SEEN.off_cpu);
        assert!(part.off_cpu.abs_diff(SEEN.off_cpu / 32) <= 1);
    }

    #[test]
    fn what_is_no_batch_stays_whole() {
        let parts = BatchShares::default().part(Some(id(1)), &SEEN, 64);
        assert_eq!(parts, Parts { charged: Vec::new(), rest: (SEEN, 64) });
    }
}
