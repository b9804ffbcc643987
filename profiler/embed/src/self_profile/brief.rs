//! Short stretches of a few spans, added up: an asynchronous handler has its span for some microseconds at each poll.
//!
//! A stretch that is too short for a reading of the clocks counts as CPU time, as nothing blocks for long in it. What a thread
//! has used in all is read soon after, and if that was less, the stretches get less. With more spans at once than there is
//! room for, the one that was longest not seen is told early.

use super::episode::{ActiveSpan, Episode};

/// Spans that a thread may take turns with.
const ROOM: usize = 8;

/// Sums per span.
#[derive(Debug, Default)]
pub(super) struct BriefEpisodes {
    sums: [Option<Episode>; ROOM],
}

impl BriefEpisodes {
    /// Adds a stretch; gives back the sum that had to make room for it.
    pub(super) fn add(&mut self, span: &ActiveSpan, begin: u64, end: u64) -> Option<Episode> {
        let wall = end - begin;
        if let Some(sum) = self.sums.iter_mut().flatten().find(|sum| sum.span.is(&span.context)) {
            sum.end = end;
            sum.wall += wall;
            sum.cpu.1 += wall;
            return None;
        }
        let place = self
            .sums
            .iter_mut()
            .min_by_key(|place| place.as_ref().map_or(0, |sum| sum.end))
            .expect("there is room for some");
        place.replace(Episode { span: *span, begin, end, wall, cpu: (0, wall), run_queue: (0, 0) })
    }

    /// Takes all sums. The thread used `cpu` nanoseconds meanwhile: if the sums come to more, each gets its part.
    pub(super) fn take(&mut self, cpu: u64, mut each: impl FnMut(Episode)) {
        let all: u64 = self.sums.iter().flatten().map(|sum| sum.wall).sum();
        for mut sum in self.sums.iter_mut().filter_map(Option::take) {
            if all > cpu {
                sum.cpu.1 = (u128::from(sum.wall) * u128::from(cpu) / u128::from(all)) as u64;
            }
            each(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::episode::tests::active;
    use super::*;

    fn taken(brief: &mut BriefEpisodes, cpu: u64) -> Vec<Episode> {
        let mut sums = Vec::new();
        brief.take(cpu, |sum| sums.push(sum));
        sums
    }

    #[test]
    fn stretches_of_a_span_add_up() {
        let mut brief = BriefEpisodes::default();
        for begin in [100, 300, 500] {
            assert_eq!(brief.add(&active(1), begin, begin + 20), None);
            assert_eq!(brief.add(&active(2), begin + 50, begin + 60), None);
        }
        let sums = taken(&mut brief, 1000);
        assert_eq!(sums.len(), 2);
        assert_eq!((sums[0].begin, sums[0].end, sums[0].split()), (100, 520, (60, 0, 0)));
        assert_eq!((sums[1].wall, sums[1].is_one()), (30, false));
        assert!(taken(&mut brief, 1000).is_empty());
    }

    #[test]
    fn what_the_thread_did_not_use_is_not_cpu_time() {
        let mut brief = BriefEpisodes::default();
        brief.add(&active(1), 0, 300);
        brief.add(&active(2), 300, 400);
        let sums = taken(&mut brief, 200);
        assert_eq!((sums[0].split(), sums[1].split()), ((150, 150, 0), (50, 50, 0)));
    }

    #[test]
    fn the_span_that_was_longest_not_seen_makes_room() {
        let mut brief = BriefEpisodes::default();
        for number in 0..ROOM as u8 {
            assert_eq!(
                brief.add(&active(number + 1), u64::from(number) * 10, u64::from(number) * 10 + 5),
                None
            );
        }
        brief.add(&active(1), 200, 210);
        let told = brief.add(&active(99), 300, 301).expect("there was no room");
        assert!(told.span.is(&active(2).context));
    }
}
