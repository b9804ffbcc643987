//! Short stretches of a few spans, added up: an asynchronous handler has its span for some microseconds at each poll.
//!
//! A stretch that is too short for a reading of the clocks counts as CPU time, as nothing blocks for long in it. What a thread
//! has used in all is read soon after, and if that was less, the stretches get less. With more spans at once than there is
//! room for, the one that was longest not seen is told early.

use super::episode::{ActiveSpan, Episode};

/// Spans that a thread may take turns with.
const ROOM: usize = 8;

/// Sums per span.
#[derive(Debug)]
pub(super) struct BriefEpisodes {
    /// The span ids of `sums`, as numbers: looked through at each stretch. 0 where there is none.
    ids: [u64; ROOM],
    sums: [Episode; ROOM],
}

impl Default for BriefEpisodes {
    fn default() -> BriefEpisodes {
        BriefEpisodes { ids: [0; ROOM], sums: [Episode::EMPTY; ROOM] }
    }
}

impl BriefEpisodes {
    /// Adds a stretch; tells the sum that had to make room for it.
    #[inline]
    pub(super) fn add(&mut self, span: &ActiveSpan, begin: u64, end: u64, tell: impl FnOnce(&Episode)) {
        let wall = end.saturating_sub(begin);
        let id = u64::from_ne_bytes(span.context.span_id.0);
        if let Some(place) = self.ids.iter().position(|known| *known == id)
            && self.sums[place].span.is(&span.context)
        {
            let sum = &mut self.sums[place];
            sum.end = end;
            sum.wall += wall;
            sum.cpu.1 += wall;
            return;
        }
        let place = self.oldest();
        let sum = &mut self.sums[place];
        if self.ids[place] != 0 {
            tell(sum);
        }
        self.ids[place] = id;
        sum.span.copy_from(span);
        (sum.begin, sum.end, sum.wall) = (begin, end, wall);
        (sum.cpu, sum.run_queue) = ((0, wall), (0, 0));
    }

    /// The place that is free, or else the one that was longest not seen.
    fn oldest(&self) -> usize {
        let age = |place: &usize| if self.ids[*place] == 0 { 0 } else { self.sums[*place].end };
        (0..ROOM).min_by_key(age).unwrap_or(0)
    }

    /// Takes all sums. The thread used `cpu` nanoseconds meanwhile: if the sums come to more, each gets its part.
    pub(super) fn take(&mut self, cpu: u64, mut each: impl FnMut(&Episode)) {
        let in_use = |(id, _): &(&mut u64, &mut Episode)| **id != 0;
        let all: u64 = self.ids.iter_mut().zip(&mut self.sums).filter(in_use).map(|(_, sum)| sum.wall).sum();
        for (id, sum) in self.ids.iter_mut().zip(&mut self.sums).filter(in_use) {
            if all > cpu {
                sum.cpu.1 = (u128::from(sum.wall) * u128::from(cpu) / u128::from(all)) as u64;
            }
            each(sum);
            *id = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::episode::tests::active;
    use super::*;

    fn add(brief: &mut BriefEpisodes, number: u8, begin: u64, end: u64) -> Option<Episode> {
        let mut told = None;
        brief.add(&active(number), begin, end, |sum| told = Some(*sum));
        told
    }

    fn taken(brief: &mut BriefEpisodes, cpu: u64) -> Vec<Episode> {
        let mut sums = Vec::new();
        brief.take(cpu, |sum| sums.push(*sum));
        sums
    }

    #[test]
    fn stretches_of_a_span_add_up() {
        let mut brief = BriefEpisodes::default();
        for begin in [100, 300, 500] {
            assert_eq!(add(&mut brief, 1, begin, begin + 20), None);
            assert_eq!(add(&mut brief, 2, begin + 50, begin + 60), None);
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
        add(&mut brief, 1, 0, 300);
        add(&mut brief, 2, 300, 400);
        let sums = taken(&mut brief, 200);
        assert_eq!((sums[0].split(), sums[1].split()), ((150, 150, 0), (50, 50, 0)));
    }

    #[test]
    fn the_span_that_was_longest_not_seen_makes_room() {
        let mut brief = BriefEpisodes::default();
        for number in 0..ROOM as u8 {
            let begin = u64::from(number) * 10;
            assert_eq!(add(&mut brief, number + 1, begin, begin + 5), None);
        }
        add(&mut brief, 1, 200, 210);
        let told = add(&mut brief, 99, 300, 301).expect("there was no room");
        assert!(told.span.is(&active(2).context));
        assert_eq!(told.split(), (5, 0, 0));
    }
}
