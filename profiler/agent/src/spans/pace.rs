//! How long spans of each class take, and from which time on one of them is slow.

use std::fmt;
use std::time::{Duration, Instant};

use sketches_ddsketch::{Config, DDSketch};

use super::class::ClassId;

/// Quantiles are this exact, relatively.
const ACCURACY: f64 = 0.02;
/// Enough for 1 µs to an hour at that accuracy; beyond, the shortest times flow together.
const MOST_BINS: u32 = 1_024;
/// Shorter times are equal, in nanoseconds.
const SHORTEST_NS: f64 = 1_000.0;
/// Fewer spans than this say nothing about what is usual.
const ENOUGH: usize = 100;
/// What is usual is learned from the last one to two of these.
const EPOCH: Duration = Duration::from_secs(60);

/// The times that spans of each class took lately.
#[derive(Debug)]
pub struct Pace {
    /// By class.
    recent: Vec<Option<Box<Recent>>>,
    epoch: Instant,
}

struct Recent {
    now: Times,
    before: Times,
}

/// The times of an epoch.
struct Times {
    told: DDSketch,
    /// Spans that nobody saw, all shorter than those that were told.
    unseen: u64,
}

impl Times {
    fn new() -> Times {
        Times { told: DDSketch::new(Config::new(ACCURACY, MOST_BINS, SHORTEST_NS)), unseen: 0 }
    }
}

impl fmt::Debug for Recent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} spans now and {} before", self.now.told.count(), self.before.told.count())
    }
}

impl Recent {
    fn new() -> Recent {
        Recent { now: Times::new(), before: Times::new() }
    }
}

impl Pace {
    /// Nothing is known yet.
    pub fn new(now: Instant) -> Pace {
        Pace { recent: Vec::new(), epoch: now }
    }

    /// A span of this class took so long.
    pub fn observe(&mut self, class: ClassId, took: Duration, now: Instant) {
        self.times(class, now).told.add(took.as_nanos() as f64);
    }

    /// So many more spans of this class there were, each shorter than those that were observed.
    pub fn observe_unseen(&mut self, class: ClassId, number: u64, now: Instant) {
        let unseen = &mut self.times(class, now).unseen;
        *unseen = unseen.saturating_add(number);
    }

    fn times(&mut self, class: ClassId, now: Instant) -> &mut Times {
        self.turn(now);
        if self.recent.len() <= class.index() {
            self.recent.resize_with(class.index() + 1, || None);
        }
        &mut self.recent[class.index()].get_or_insert_with(|| Box::new(Recent::new())).now
    }

    /// Begins a new epoch when it is time; classes of which nothing was heard for two are forgotten.
    fn turn(&mut self, now: Instant) {
        let epochs = now.saturating_duration_since(self.epoch).as_nanos() / EPOCH.as_nanos();
        if epochs == 0 {
            return;
        }
        self.epoch = now;
        for entry in &mut self.recent {
            let Some(recent) = entry else { continue };
            recent.before = std::mem::replace(&mut recent.now, Times::new());
            if epochs > 1 || recent.before.told.count() == 0 {
                *entry = None;
            }
        }
    }

    /// From which time on a span of this class is slow: `None` until enough of them are known, zero where most were unseen.
    ///
    /// That is the class's 99th percentile, but at least twice and at most four times its 90th. Where slow ones are a kind
    /// of their own, and not just the end of a tail, the cut then lies in the gap before them, be they half a percent of
    /// all or three; and where all are alike, the slower ones of them are not told as slow.
    pub fn slow_from(&self, class: ClassId) -> Option<Duration> {
        let recent = self.recent.get(class.index())?.as_deref()?;
        let mut all = recent.now.told.clone();
        all.merge(&recent.before.told).ok()?;
        if all.count() < ENOUGH {
            return None;
        }
        let (told, unseen) = (all.count() as f64, recent.now.unseen as f64 + recent.before.unseen as f64);
        let quantile = |q: f64| match (q * (told + unseen) - unseen) / told {
            rank if rank > 0.0 => all.quantile(rank).ok().flatten(),
            _ => Some(0.0),
        };
        let (p90, p99) = (quantile(0.9)?, quantile(0.99)?);
        Some(Duration::from_nanos(p99.clamp(2.0 * p90, 4.0 * p90) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(number: u16) -> ClassId {
        let mut classes = super::super::Classes::new(u16::MAX);
        (0..=number)
            .map(|number| {
                let name = number.to_string().as_str().into();
                classes.intern(&super::super::Class { name, ..Default::default() })
            })
            .last()
            .expect("there is one")
    }

    fn pace_of(milliseconds: impl IntoIterator<Item = f64>) -> (Pace, ClassId) {
        let now = Instant::now();
        let (mut pace, class) = (Pace::new(now), class(3));
        for took in milliseconds {
            pace.observe(class, Duration::from_secs_f64(took / 1e3), now);
        }
        (pace, class)
    }

    /// Times from 1 to 2 ms, and one in so many of 100.
    fn with_slow_ones(every: usize) -> impl Iterator<Item = f64> {
        (0..10_000)
            .map(move |number| if number % every == 0 { 100.0 } else { 1.0 + (number % 100) as f64 / 100.0 })
    }

    #[test]
    fn the_cut_lies_in_the_gap_however_many_are_slow() {
        for every in [20, 50, 99, 100, 101, 200, 1_000] {
            let (pace, class) = pace_of(with_slow_ones(every));
            let cut = pace.slow_from(class).expect("enough is known").as_secs_f64() * 1e3;
            assert!((2.0..100.0).contains(&cut), "one in {every}: {cut} ms");
        }
    }

    #[test]
    fn where_all_are_alike_none_is_slow() {
        let (pace, class) = pace_of((0..1_000).map(|number| 1.0 + f64::from(number) / 1e3));
        assert!(pace.slow_from(class).expect("enough is known") > Duration::from_millis(3));
    }

    #[test]
    fn a_long_tail_is_cut_at_its_percentile() {
        // p90 = 1 ms and p99 = 3 ms.
        let (pace, class) = pace_of((0..1_000).map(|number| match number {
            0..900 => 1.0,
            900..995 => 3.0,
            _ => 50.0,
        }));
        let cut = pace.slow_from(class).expect("enough is known").as_secs_f64() * 1e3;
        assert!((2.9..3.1).contains(&cut), "{cut} ms");
    }

    #[test]
    fn unseen_ones_are_the_shortest() {
        // Half of those that were seen were slow, which is few of all.
        let (mut pace, class) = pace_of((0..200).map(|number| if number % 2 == 0 { 50.0 } else { 1.0 }));
        assert!(pace.slow_from(class).expect("enough is known") > Duration::from_millis(90));
        let now = pace.epoch;
        pace.observe_unseen(class, 700, now);
        let cut = pace.slow_from(class).expect("enough is known").as_secs_f64() * 1e3;
        assert!((90.0..110.0).contains(&cut), "one in nine was slow: {cut} ms");
        pace.observe_unseen(class, 500, now);
        let cut = pace.slow_from(class).expect("enough is known").as_secs_f64() * 1e3;
        assert!((3.9..4.1).contains(&cut), "one in fourteen was slow: {cut} ms");
        pace.observe_unseen(class, 19_000, now);
        assert_eq!(pace.slow_from(class), Some(Duration::ZERO));
        pace.observe_unseen(class, u64::MAX, now);
        assert_eq!(pace.slow_from(class), Some(Duration::ZERO));
    }

    #[test]
    fn a_few_say_nothing() {
        let (pace, known) = pace_of([1.0; 99]);
        assert_eq!(pace.slow_from(known), None);
        assert_eq!(pace.slow_from(class(9)), None);
    }

    #[test]
    fn what_was_usual_is_forgotten() {
        let (mut pace, class) = pace_of([1.0; 1_000]);
        let begin = pace.epoch;
        let minutes = |minutes| begin + minutes * EPOCH;
        pace.observe(class, Duration::from_millis(100), minutes(1));
        assert!(pace.slow_from(class).expect("the last minute counts still") < Duration::from_millis(5));
        for _ in 0..1_000 {
            pace.observe(class, Duration::from_millis(100), minutes(2));
        }
        assert!(pace.slow_from(class).expect("enough is known") > Duration::from_millis(100));
        pace.observe(ClassId::OTHER, Duration::ZERO, minutes(9));
        assert_eq!(pace.slow_from(class), None, "silent for long");
    }
}
