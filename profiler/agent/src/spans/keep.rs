//! Which spans keep their ids: failed ones, slow ones, and a few normal ones to compare them with.
//!
//! A span is slow when it took longer than a fixed time, or than spans of its class usually do ([`Pace`]). Where its tracer
//! told its end that is its wall time; else it is the least time that it took in the window by what was seen of it, compared
//! with others, those that were not seen included ([`Hits`]). All else folds by class, so that a million messages a minute make neither a million ids nor a million series.
//!
//! Refused: a random part of all spans, for the slow ones are why anybody looks; and keeping the slowest few whatever they
//! took, for then a quiet service always has slow messages.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::class::{Class, ClassId};
use super::finished::FinishedSpan;
use super::index::{IndexLimits, IndexedSpan, SpanIndex};
use super::pace::Pace;
use super::traffic::{Outcome, WindowTraffic};
use super::unseen::Hits;
use crate::ActiveSpan;
use spanprof_exporter::Traffic;

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepingOptions {
    /// At most so many spans per window keep their ids: failed and slow ones, the longest first, then normal ones.
    pub budget: usize,
    /// A span that took at least this long is slow, whatever is usual.
    pub threshold: Option<Duration>,
    /// So many normal spans of each class and window keep their ids, too.
    pub normal: usize,
}

impl Default for KeepingOptions {
    fn default() -> KeepingOptions {
        KeepingOptions { budget: 10_000, threshold: None, normal: 16 }
    }
}

/// A span that the capture saw in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenSpan {
    /// Itself.
    pub span: ActiveSpan,
    /// What its thread's record said of it.
    pub class: ClassId,
    /// What it took in the window at least: its waits, and the time between samples that hit it.
    pub seen: Duration,
    /// How many samples hit it.
    pub samples: u64,
}

/// Why a span keeps its ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Its status is an error.
    Failed,
    /// It took longer than allowed or usual.
    Slow,
    /// To compare slow ones with; also where nothing is known yet of what is usual.
    Normal,
}

impl Reason {
    /// As in labels and files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Failed => "failed",
            Reason::Slow => "slow",
            Reason::Normal => "normal",
        }
    }
}

/// A span that keeps its ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Why.
    pub reason: Reason,
    /// How long it took, where its tracer told.
    pub wall: Option<Duration>,
}

/// Finished spans and what is usual; decides window by window.
#[derive(Debug)]
pub struct Keeping {
    options: KeepingOptions,
    index: SpanIndex,
    /// Of wall times.
    finished: Pace,
    /// Of the times seen in a window.
    seen: Pace,
    /// Since the last window closed.
    traffic: WindowTraffic,
}

impl Keeping {
    /// Nothing is known yet.
    pub fn new(options: KeepingOptions, limits: IndexLimits, now: Instant) -> Keeping {
        Keeping {
            options,
            index: SpanIndex::new(limits),
            finished: Pace::new(now),
            seen: Pace::new(now),
            traffic: WindowTraffic::default(),
        }
    }

    /// Takes in a span that has ended.
    pub fn finish(&mut self, span: FinishedSpan, now: Instant) {
        let outcome = Outcome::of(&span);
        if let Some((class, wall)) = self.index.insert(span, now) {
            self.finished.observe(class, wall, now);
            self.traffic.told(class, &self.index.class(class).service, outcome, wall);
        }
    }

    /// The id of what a thread's record said.
    pub fn class(&mut self, class: &Class) -> ClassId {
        self.index.class_id(class)
    }

    /// The spans that have ended lately.
    pub fn index(&self) -> &SpanIndex {
        &self.index
    }

    /// Chooses among the spans of a window that closes now. Of a span whose tracer told nothing, no time below `resolution` is
    /// known, which is the time between two samples.
    pub fn choose(
        &mut self,
        window: &[SeenSpan],
        resolution: Duration,
        now: Instant,
    ) -> HashMap<ActiveSpan, Kept> {
        self.index.forget(now);
        self.observe_seen(window, now);
        self.traffic.seen(&self.index, window);
        let mut finished = Cuts::new(&self.finished, Duration::ZERO);
        let mut seen = Cuts::new(&self.seen, resolution);
        let mut candidates: Vec<Candidate> =
            window.iter().map(|span| self.candidate(span, &mut finished, &mut seen)).collect();
        candidates.sort_by_key(Candidate::rank);
        self.within_budget(&candidates)
    }

    /// How many spans there were since it was asked last.
    pub fn take_traffic(&mut self) -> Traffic {
        self.traffic.take(&self.index)
    }

    fn observe_seen(&mut self, window: &[SeenSpan], now: Instant) {
        let mut hits: HashMap<ClassId, Hits> = HashMap::new();
        for span in window {
            self.seen.observe(span.class, span.seen, now);
            hits.entry(span.class).or_default().add(span.samples);
        }
        for (class, hits) in hits {
            self.seen.observe_unseen(class, hits.missed(), now);
        }
    }

    /// The cuts are those of wall times and of seen ones.
    fn candidate(&self, span: &SeenSpan, of_finished: &mut Cuts<'_>, of_seen: &mut Cuts<'_>) -> Candidate {
        let finished = self.index.get(&span.span);
        let wall = finished.map(|finished| Duration::from_nanos(finished.wall_ns));
        let took = wall.unwrap_or(span.seen);
        let usual = match finished {
            Some(finished) => of_finished.slow_from(finished.class),
            None => of_seen.slow_from(span.class),
        };
        let is_over = |limit: Option<Duration>| limit.is_some_and(|limit| took >= limit);
        let reason = match finished {
            Some(IndexedSpan { failed: true, .. }) => Reason::Failed,
            _ if is_over(self.options.threshold) || is_over(usual) => Reason::Slow,
            _ => Reason::Normal,
        };
        Candidate { span: *span, took, is_judged: usual.is_some(), kept: Kept { reason, wall } }
    }

    /// The first of the candidates; of normal ones so many per class.
    fn within_budget(&self, candidates: &[Candidate]) -> HashMap<ActiveSpan, Kept> {
        let mut normal: HashMap<ClassId, usize> = HashMap::new();
        let mut kept = HashMap::new();
        for candidate in candidates {
            if kept.len() >= self.options.budget {
                break;
            }
            if candidate.kept.reason == Reason::Normal {
                let normal = normal.entry(candidate.span.class).or_default();
                if *normal >= self.options.normal {
                    continue;
                }
                *normal += 1;
            }
            kept.insert(candidate.span.span, candidate.kept);
        }
        kept
    }
}

/// What a pace says of each class, asked once per class and window: it is far dearer to ask than a span is to judge.
struct Cuts<'a> {
    pace: &'a Pace,
    /// No cut is below it.
    least: Duration,
    known: HashMap<ClassId, Option<Duration>>,
}

impl<'a> Cuts<'a> {
    fn new(pace: &'a Pace, least: Duration) -> Cuts<'a> {
        Cuts { pace, least, known: HashMap::new() }
    }

    fn slow_from(&mut self, class: ClassId) -> Option<Duration> {
        let cut = || self.pace.slow_from(class).map(|cut| cut.max(self.least));
        *self.known.entry(class).or_insert_with(cut)
    }
}

struct Candidate {
    span: SeenSpan,
    took: Duration,
    /// Whether it is known what is usual.
    is_judged: bool,
    kept: Kept,
}

impl Candidate {
    /// Failed and slow ones by what they took, and so those that nothing is known to compare with; normal ones by chance,
    /// which is by their ids, for tracers draw these at random. So the same window gives the same choice.
    fn rank(&self) -> (bool, Reverse<Duration>, u64, ActiveSpan) {
        let id = self.span.span;
        match self.kept.reason {
            Reason::Normal if self.is_judged => (true, Reverse(Duration::ZERO), scattered(id), id),
            reason => (reason == Reason::Normal, Reverse(self.took), 0, id),
        }
    }
}

/// Spreads also ids that were counted up instead of drawn (SplitMix64's last step).
fn scattered(id: ActiveSpan) -> u64 {
    let mut bits = u64::from_be_bytes(id.span_id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spans::{Messaging, SpanKind};

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn id(number: u64) -> ActiveSpan {
        ActiveSpan { trace_id: [1; 16], span_id: number.to_be_bytes() }
    }

    fn class() -> Class {
        Class { destination: "orders".into(), ..Class::default() }
    }

    fn finished(number: u64, took: Duration, failed: bool) -> FinishedSpan {
        FinishedSpan {
            span: id(number),
            parent: None,
            kind: SpanKind::Consumer,
            start_unix_ns: 0,
            end_unix_ns: took.as_nanos() as u64,
            failed,
            class: class(),
            messaging: Messaging::default(),
            links: Vec::new(),
        }
    }

    fn keeping(options: KeepingOptions) -> Keeping {
        Keeping::new(options, IndexLimits::default(), Instant::now())
    }

    /// A span of a millisecond that was never hit by a sample.
    fn seen(number: u64, class: ClassId) -> SeenSpan {
        SeenSpan { span: id(number), class, seen: MILLISECOND, samples: 0 }
    }

    fn choose(keeping: &mut Keeping, window: &[SeenSpan]) -> HashMap<ActiveSpan, Kept> {
        keeping.choose(window, MILLISECOND, Instant::now())
    }

    /// A window of a thousand spans of which one in a hundred was slow.
    fn window(keeping: &mut Keeping, tell: bool) -> Vec<SeenSpan> {
        let (now, class_id) = (Instant::now(), keeping.class(&class()));
        let spans = (1..=1_000).map(|number| {
            let took = if number % 100 == 0 {
                80 * MILLISECOND
            } else {
                MILLISECOND + (number as u32 % 50) * MILLISECOND / 50
            };
            if tell {
                keeping.finish(finished(number, took, false), now);
            }
            // Of what was told the most was spent elsewhere: only the wall time tells the slow ones.
            SeenSpan { seen: if tell { MILLISECOND } else { took }, ..seen(number, class_id) }
        });
        spans.collect()
    }

    fn of_reason(kept: &HashMap<ActiveSpan, Kept>, reason: Reason) -> Vec<u64> {
        let mut numbers: Vec<_> = kept
            .iter()
            .filter(|(_, kept)| kept.reason == reason)
            .map(|(id, _)| u64::from_be_bytes(id.span_id))
            .collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn exactly_the_slow_ones_are_slow_with_and_without_a_word_from_the_tracer() {
        for tell in [true, false] {
            let mut keeping = keeping(KeepingOptions::default());
            let window = window(&mut keeping, tell);
            let kept = choose(&mut keeping, &window);
            let slow: Vec<u64> = (1..=10).map(|number| number * 100).collect();
            assert_eq!(of_reason(&kept, Reason::Slow), slow, "told: {tell}");
            assert_eq!(of_reason(&kept, Reason::Normal).len(), 16);
            assert_eq!(kept[&id(100)].wall, tell.then_some(80 * MILLISECOND));
        }
    }

    #[test]
    fn a_failed_one_is_kept_however_short() {
        let mut keeping = keeping(KeepingOptions { normal: 0, ..KeepingOptions::default() });
        let window = window(&mut keeping, true);
        keeping.finish(finished(7, Duration::from_micros(3), true), Instant::now());
        let kept = choose(&mut keeping, &window);
        assert_eq!((of_reason(&kept, Reason::Failed), kept.len()), (vec![7], 11));
    }

    #[test]
    fn over_the_threshold_is_slow_whatever_is_usual() {
        let threshold = Some(100 * MILLISECOND);
        let mut keeping = keeping(KeepingOptions { threshold, ..KeepingOptions::default() });
        let class = keeping.class(&class());
        let window = [(1, 99), (2, 100)]
            .map(|(number, times)| SeenSpan { seen: times * MILLISECOND, ..seen(number, class) });
        let kept = choose(&mut keeping, &window);
        assert_eq!((of_reason(&kept, Reason::Normal), of_reason(&kept, Reason::Slow)), (vec![1], vec![2]));
    }

    #[test]
    fn the_longest_win_the_budget() {
        let threshold = Some(MILLISECOND);
        let mut keeping = keeping(KeepingOptions { budget: 3, threshold, normal: 16 });
        let class = keeping.class(&class());
        let window: Vec<_> = (1..=100)
            .map(|number| SeenSpan { seen: number as u32 * MILLISECOND, ..seen(number, class) })
            .collect();
        assert_eq!(of_reason(&choose(&mut keeping, &window), Reason::Slow), [98, 99, 100]);
    }

    #[test]
    fn where_nothing_is_known_yet_the_longest_are_kept() {
        let mut keeping = keeping(KeepingOptions { normal: 2, ..KeepingOptions::default() });
        let class = keeping.class(&class());
        let window: Vec<_> = (1..=9)
            .map(|number| SeenSpan { seen: number as u32 * MILLISECOND, ..seen(number, class) })
            .collect();
        assert_eq!(of_reason(&choose(&mut keeping, &window), Reason::Normal), [8, 9]);
    }

    #[test]
    fn normal_ones_are_some_of_each_class_and_always_the_same() {
        let mut keeping = keeping(KeepingOptions::default());
        let classes = ["a", "b"].map(|name| keeping.class(&Class { name: name.into(), ..class() }));
        let window: Vec<_> = (1..=200).map(|number| seen(number, classes[number as usize % 2])).collect();
        let kept = choose(&mut keeping, &window);
        let numbers = of_reason(&kept, Reason::Normal);
        assert_eq!(numbers.iter().filter(|number| *number % 2 == 0).count(), 16);
        assert_eq!(numbers.len(), 32);
        assert!(numbers.iter().any(|number| *number > 100), "not just the first");
        assert_eq!(of_reason(&choose(&mut keeping, &window), Reason::Normal), numbers);
    }

    #[test]
    fn slow_ones_are_slow_also_where_few_of_the_others_are_seen() {
        let mut keeping = keeping(KeepingOptions { normal: 0, ..KeepingOptions::default() });
        let class = keeping.class(&class());
        // Of 100,000 spans of 0.2 ms one in fifty is hit by one of 99 samples a second, and one in five thousand by two of them;
        // a thousand more that took 20 to 60 ms are all seen.
        let hit = |number, samples, milliseconds| SeenSpan {
            seen: milliseconds * MILLISECOND,
            samples,
            ..seen(number, class)
        };
        let mut window: Vec<_> = (1..=2_000).map(|number| hit(number, 1, 0)).collect();
        window.extend((2_001..=2_020).map(|number| hit(number, 2, 1)));
        window.extend((10_001..=11_000).map(|number| hit(number, 0, 20 + number as u32 % 41)));
        let kept = keeping.choose(&window, 10 * MILLISECOND, Instant::now());
        assert_eq!(of_reason(&kept, Reason::Slow), (10_001..=11_000).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_is_slow_by_less_than_samples_can_tell() {
        let mut keeping = keeping(KeepingOptions { normal: 0, ..KeepingOptions::default() });
        let class = keeping.class(&class());
        let mut window: Vec<_> =
            (1..=1_000).map(|number| SeenSpan { seen: Duration::ZERO, ..seen(number, class) }).collect();
        window[7].seen = 9 * MILLISECOND;
        window[8].seen = 10 * MILLISECOND;
        let kept = keeping.choose(&window, 10 * MILLISECOND, Instant::now());
        assert_eq!(of_reason(&kept, Reason::Slow), [9]);
    }
}
