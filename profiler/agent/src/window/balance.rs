//! The equation of a span: wall = cpu + off_cpu + run_queue + suspended + ready + unknown, and what its children had.
//!
//! The wall time is the tracer's word. What the span's threads waited is exact by the scheduler's clock; what they ran is an
//! estimate by samples. What is left of the wall time may be either: the estimate's error, or time in which no thread had
//! the span, as between an await and the next poll. One span can't tell; all spans of a class together can:
//!
//! - Where their remainders add up to no more than chance makes of so many samples, spans of this class stay on their
//!   threads. Then a span's CPU time is exact, too: its wall time less its waits. Samples only say where.
//! - Where they add up to more, spans of this class leave their threads: the remainder is `suspended`.
//! - Where the class is too young to tell, or a span contradicts it, the remainder is `unknown`.
//!
//! Only spans that would have been seen whether a sample hit them or not are evidence: who waited at all, or took several
//! sampling periods. Short spans that just computed are known by being hit, and would prove any error.
//!
//! Where spans leave their threads, what they ran stays an estimate, and one that is too high for short spans that are known by
//! being hit alone: the others' time is counted with theirs. Rates that miss few of them have no such error.
//!
//! - Where they add up to less than none by more than chance, spans of this class compute on several threads at once, or beside
//!   their children: then there is more time than wall time, and all of it stands.
//!
//! A span may go on on another thread, as where a handler is given to a pool: that costs no time that its class would not show.
//! There can't be more of it than wall time, unless its class overlaps with itself: what samples say beyond that is the
//! thread's without the span, and so are waits that outlast their span, as where a thread loses its CPU before it leaves it.
//! Children count for the time in which the span itself was not seen.
//! What a span took before the capture began is `unknown`, and said to be that.
//!
//! Refused: to call the remainder `suspended` always, as then a computing span has idle time by bad luck; and to read each
//! change of a thread's span in the kernel, which costs every message something.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use spanprof_exporter::{SampleKind, SpanFacts, SpanIds, SpanRef};

use super::fold::{Fold, Sums, ThreadKey};
use super::weights::Weights;
use crate::capture::{ActiveSpan, ProcessId};
use crate::spans::{ClassId, InBatch, IndexedSpan, Keeping, Kept, children_time};

/// So many sampling periods long, a span that runs is hit by a sample in all but 7 of 1,000 cases.
const SURELY_HIT: u64 = 5;
/// Spans that began in an earlier window and were not told yet; beyond it, their earlier time counts as unknown.
const MAX_EARLIER: usize = 1 << 16;
/// Evidence that is older counts half each time so much span time came in, in nanoseconds.
const RENEWED_AFTER: u64 = 200_000_000_000;

/// What the capture saw of one span in a window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct SpanSums {
    /// The threads that had it, and how many samples hit it there; mostly one.
    threads: Vec<(ThreadKey, u64)>,
    /// Blocked and runnable, in nanoseconds; exact.
    waited: u64,
    /// On the CPU by samples, in nanoseconds.
    cpu: u64,
}

impl SpanSums {
    /// All kinds together, in nanoseconds.
    const fn seen(&self) -> u64 {
        self.waited + self.cpu
    }

    /// What it took at least, in nanoseconds: its waits, and the time between samples that hit it.
    pub(super) fn at_least(&self, period: u64) -> u64 {
        self.waited + self.samples().saturating_sub(1) * period
    }

    /// How many samples hit it.
    pub(super) fn samples(&self) -> u64 {
        self.threads.iter().map(|(_, samples)| samples).sum()
    }

    fn add(&mut self, thread: ThreadKey, sums: &Sums) {
        self.waited += sums.off_cpu + sums.run_queue;
        match self.threads.iter_mut().find(|(known, _)| *known == thread) {
            Some((_, samples)) => *samples += sums.samples,
            None => self.threads.push((thread, sums.samples)),
        }
    }

    /// What it ran by samples, in nanoseconds.
    fn estimate(&self, span: ActiveSpan, weights: &Weights) -> u64 {
        let parts =
            self.threads.iter().map(|(thread, samples)| weights.estimate(*thread, Some(span), *samples));
        parts.sum()
    }
}

/// The window's spans.
pub(super) fn sums_by_span(fold: &Fold, weights: &Weights) -> HashMap<ActiveSpan, SpanSums> {
    let mut spans: HashMap<ActiveSpan, SpanSums> = HashMap::new();
    for (key, sums) in &fold.sums {
        if let Some(span) = key.span {
            spans.entry(span).or_default().add(key.thread, sums);
        }
    }
    for (span, sums) in &mut spans {
        sums.cpu = sums.estimate(*span, weights);
    }
    spans
}

/// Time of a span that no thread's time accounts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remainder {
    /// Whose.
    pub(super) span: ActiveSpan,
    /// In which process.
    pub(super) process: ProcessId,
    /// `Suspended` or `Unknown`.
    pub(super) kind: SampleKind,
    /// Whether it is unknown because it was before the capture began.
    pub(super) is_before_capture: bool,
    /// How much.
    pub(super) nanoseconds: u64,
}

/// What a span's tracer told of it, and what its children had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    /// From begin to end, in nanoseconds.
    pub(super) wall: u64,
    /// In which at least one child in the same service was open and the span itself was not seen, in nanoseconds.
    pub(super) children: u64,
}

impl Told {
    /// What a profile tells of the span, beside its samples.
    pub(super) fn facts(
        self,
        span: ActiveSpan,
        finished: Option<&IndexedSpan>,
        batch: Option<&InBatch>,
    ) -> (SpanIds, SpanFacts) {
        let ids = SpanRef { trace_id: span.trace_id, span_id: span.span_id };
        let facts = SpanFacts {
            begin_unix_ns: finished.map(|span| span.start_unix_ns),
            failed: finished.is_some_and(|span| span.failed),
            wall_ns: Some(self.wall),
            children_ns: self.children,
            batch_size: batch.map_or(0, |batch| batch.size),
            head_of_line_ns: batch.map_or(0, |batch| batch.head_of_line_ns),
        };
        (ids.into(), facts)
    }
}

/// The kept spans' other side of the equation.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// What is to be added to what was seen.
    pub(super) remainders: Vec<Remainder>,
    /// So much longer than each span was its thread waited under it, in nanoseconds.
    pub(super) overruns: HashMap<ActiveSpan, u64>,
    /// The kept spans whose tracers told their end.
    pub(super) told: HashMap<ActiveSpan, Told>,
}

/// Settles spans window by window; knows what earlier windows saw.
#[derive(Debug)]
pub(super) struct Balance {
    began_unix_ns: u64,
    /// What was seen of spans that had not ended yet, in nanoseconds.
    earlier: HashMap<ActiveSpan, u64>,
    evidence: HashMap<ClassId, Evidence>,
}

impl Balance {
    /// For a capture that began then, in nanoseconds since 1970.
    pub(super) fn new(began_unix_ns: u64) -> Balance {
        Balance { began_unix_ns, earlier: HashMap::new(), evidence: HashMap::new() }
    }

    /// Settles the spans of a window that closed then, in nanoseconds since 1970; what ended later is the next one's. The
    /// weights learn the CPU time of those whose is exact.
    pub(super) fn settle(
        &mut self,
        spans: &HashMap<ActiveSpan, SpanSums>,
        kept: &HashMap<ActiveSpan, Kept>,
        keeping: &Keeping,
        until_unix_ns: u64,
        weights: &mut Weights,
    ) -> Settled {
        let finished = self.finished(spans, keeping, until_unix_ns);
        for open in &finished {
            self.evidence.entry(open.class).or_default().add(open, weights.period());
        }
        let mut settled = Settled::default();
        let mut inexact = Vec::new();
        for open in finished.into_iter().filter(|open| kept.contains_key(&open.span)) {
            let evidence = self.evidence.get(&open.class).copied().unwrap_or_default();
            let verdict = evidence.verdict(weights.period());
            let open = open.within(verdict);
            settled.remainders.extend(open.before_capture());
            settled.overruns.extend(open.overrun());
            if open.set_exact(verdict, weights) {
                settled.told.insert(open.span, open.told(open.own.max(open.waited)));
            } else {
                inexact.push((open, verdict));
            }
        }
        // Each that is limited leaves more to the other samples of its threads. As many rounds as there are spans are enough.
        while inexact.iter().filter(|(open, verdict)| open.limit(*verdict, weights)).count() > 0 {}
        for (open, verdict) in inexact {
            settled.told.insert(open.span, open.told(open.seen(weights)));
            settled.remainders.extend(open.settle(verdict, weights));
        }
        settled
    }

    /// The spans that have ended, in a stable order; of the others is noted what was seen.
    fn finished<'a>(
        &mut self,
        spans: &'a HashMap<ActiveSpan, SpanSums>,
        keeping: &Keeping,
        until_unix_ns: u64,
    ) -> Vec<Open<'a>> {
        let seen: HashSet<ActiveSpan> = spans.keys().chain(self.earlier.keys()).copied().collect();
        let children = children_time(keeping.index(), &seen, Instant::now());
        let mut unfinished = HashMap::new();
        let mut finished = Vec::new();
        for (span, sums) in spans {
            let before = self.earlier.get(span).copied().unwrap_or(0);
            let told = keeping.index().get(span);
            match told.filter(|told| told.end_unix_ns() <= until_unix_ns) {
                Some(told) => {
                    let children = children.get(span).copied().unwrap_or(0);
                    finished.push(Open::new(*span, sums, told, children, before, self.began_unix_ns));
                }
                None if unfinished.len() < MAX_EARLIER => {
                    unfinished.insert(*span, before.saturating_add(sums.seen()));
                }
                None => {}
            }
        }
        self.earlier = unfinished;
        finished.sort_by_key(|open: &Open<'_>| (std::cmp::Reverse(open.wall), open.span));
        finished
    }
}

/// A finished span whose equation is open.
#[derive(Debug, Clone, Copy)]
struct Open<'a> {
    span: ActiveSpan,
    class: ClassId,
    wall: u64,
    /// In which at least one child in the same service was open, in nanoseconds.
    children: u64,
    sums: &'a SpanSums,
    /// Its wall time without what was before the capture and what earlier windows saw.
    room: u64,
    /// Of that, what is not its children's.
    own: u64,
    /// What it waited.
    waited: u64,
    /// What was before the capture, in nanoseconds.
    before_capture: u64,
}

impl<'a> Open<'a> {
    fn new(
        span: ActiveSpan,
        sums: &'a SpanSums,
        told: &IndexedSpan,
        children: u64,
        before: u64,
        began_unix_ns: u64,
    ) -> Open<'a> {
        let most = told.wall_ns.saturating_sub(children);
        let before_capture = began_unix_ns.saturating_sub(told.start_unix_ns).min(most);
        let room = told.wall_ns.saturating_sub(before_capture).saturating_sub(before);
        Open {
            span,
            class: told.class,
            wall: told.wall_ns,
            children,
            sums,
            room,
            own: room.saturating_sub(children),
            waited: sums.waited,
            before_capture,
        }
    }

    /// Waits no longer than there is room, unless several threads can have waited at once.
    fn within(mut self, verdict: Verdict) -> Open<'a> {
        if verdict != Verdict::Overlaps || self.sums.threads.len() == 1 {
            self.waited = self.waited.min(self.room);
        }
        self
    }

    fn remainder(&self) -> i128 {
        i128::from(self.own) - i128::from(self.sums.seen())
    }

    /// Waits and CPU time in this window, in nanoseconds.
    fn seen(&self, weights: &Weights) -> u64 {
        self.waited + self.sums.estimate(self.span, weights)
    }

    fn told(&self, seen: u64) -> Told {
        Told { wall: self.wall, children: self.children.min(self.room.saturating_sub(seen)) }
    }

    /// Waits beyond its end; which of them these are is [`super::overruns`]' to say.
    fn overrun(&self) -> Option<(ActiveSpan, u64)> {
        let beyond = self.sums.waited - self.waited;
        (beyond > 0).then_some((self.span, beyond))
    }

    /// Tells the weights its CPU time, where that is exact.
    fn set_exact(&self, verdict: Verdict, weights: &mut Weights) -> bool {
        let cpu = self.own.saturating_sub(self.waited);
        verdict == Verdict::StaysOnThread
            && is_by_chance(cpu, self.sums.samples(), weights.period())
            && weights.set_exact(&self.sums.threads, self.span, cpu)
    }

    /// Samples may stand for more than it can have run. Where chance explains that, it ran as long as it can have; on one
    /// thread it did so anyway. Whether anything changed.
    fn limit(&self, verdict: Verdict, weights: &mut Weights) -> bool {
        let samples = self.sums.samples();
        let [own, room] = [self.own, self.room].map(|most| most.saturating_sub(self.waited));
        let most = match verdict {
            Verdict::Overlaps => None,
            _ => [own, room].into_iter().find(|most| is_by_chance(*most, samples, weights.period())),
        };
        let most = most.or((self.sums.threads.len() == 1).then_some(room));
        most.is_some_and(|most| {
            self.sums.estimate(self.span, weights) > most
                && weights.set_exact(&self.sums.threads, self.span, most)
        })
    }

    /// What nobody can have seen, for it was too early.
    fn before_capture(&self) -> Option<Remainder> {
        let process = self.sums.threads.first()?.0.process;
        let nanoseconds = self.before_capture;
        let (span, kind) = (self.span, SampleKind::Unknown);
        (nanoseconds > 0).then_some(Remainder { span, process, kind, is_before_capture: true, nanoseconds })
    }

    fn settle(&self, verdict: Verdict, weights: &Weights) -> Option<Remainder> {
        let process = self.sums.threads.first()?.0.process;
        let nanoseconds = self.own.checked_sub(self.seen(weights)).filter(|left| *left > 0)?;
        let kind = match verdict {
            Verdict::LeavesThread => SampleKind::Suspended,
            _ => SampleKind::Unknown,
        };
        Some(Remainder { span: self.span, process, kind, is_before_capture: false, nanoseconds })
    }
}

/// Whether so many samples may hit what ran so long: within three standard errors of what is to be expected, and one.
fn is_by_chance(cpu: u64, samples: u64, period: u64) -> bool {
    let expected = cpu as f64 / period.max(1) as f64;
    (samples as f64 - expected).abs() <= 3.0 * expected.sqrt() + 1.0
}

/// Where the spans of a class are while they wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    StaysOnThread,
    LeavesThread,
    /// With itself or with its children.
    Overlaps,
    Undecided,
}

/// What a class's spans took and what was seen of them, added up; in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Evidence {
    own: u64,
    remainder: i128,
    samples: u64,
}

impl Evidence {
    fn add(&mut self, open: &Open<'_>, period: u64) {
        let is_seen_anyway = open.sums.waited > 0 || open.own >= SURELY_HIT * period;
        if open.before_capture > 0 || !is_seen_anyway {
            return;
        }
        self.own = self.own.saturating_add(open.own);
        self.remainder += open.remainder();
        self.samples += open.sums.samples();
        if self.own > RENEWED_AFTER {
            *self = Evidence { own: self.own / 2, remainder: self.remainder / 2, samples: self.samples / 2 };
        }
    }

    fn verdict(&self, period: u64) -> Verdict {
        let (own, remainder) = (self.own as f64, self.remainder as f64);
        // What samples miss by chance, in all but 3 of 1,000 cases.
        let chance = 3.0 * period as f64 * (self.samples as f64 + 1.0).sqrt();
        let allowed = chance.max(own / 50.0);
        if remainder > allowed {
            Verdict::LeavesThread
        } else if remainder < -allowed {
            Verdict::Overlaps
        } else if chance <= own / 10.0 {
            Verdict::StaysOnThread
        } else {
            Verdict::Undecided
        }
    }
}

#[cfg(test)]
mod tests;
