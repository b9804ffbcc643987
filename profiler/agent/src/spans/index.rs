//! Recent finished spans, bounded in bytes and in time.
//!
//! Refused: a database, for what is asked is always recent; and keeping spans as they came, for a span's texts outweigh its
//! times tenfold and repeat themselves.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::class::{Class, ClassId, Classes};
use super::finished::{FinishedSpan, Messaging, SpanKind};
use crate::ActiveSpan;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexLimits {
    /// Bytes that spans and their links may take.
    pub bytes: usize,
    /// How long a span is kept after it was told.
    pub age: Duration,
    /// Links kept of one span.
    pub links: usize,
    /// How many distinct classes are told apart.
    pub classes: u16,
}

impl Default for IndexLimits {
    /// 32 MB, ten minutes, 1,024 links, 1,024 classes: a quarter of a million spans.
    fn default() -> IndexLimits {
        IndexLimits { bytes: 32 << 20, age: Duration::from_secs(600), links: 1_024, classes: 1_024 }
    }
}

/// A finished span as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedSpan {
    /// Its parent's id, in the same trace.
    pub parent: Option<[u8; 8]>,
    /// When it began by the service's clock, in nanoseconds since 1970.
    pub start_unix_ns: u64,
    /// How long it took, in nanoseconds.
    pub wall_ns: u64,
    /// Its kind.
    pub kind: SpanKind,
    /// Whether its status is an error.
    pub failed: bool,
    /// What it shares with others.
    pub class: ClassId,
    /// What is its own.
    pub messaging: Messaging,
    /// The spans that it links to.
    pub links: Box<[ActiveSpan]>,
}

/// What of the spans that were told is not in the index, by cause; since the index was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpanLosses {
    /// Told again: the newer word counts.
    pub duplicates: u64,
    /// Given up for want of room before their time.
    pub evicted: u64,
    /// Without a class of their own, as there are too many.
    pub unclassed: u64,
    /// Links beyond those kept.
    pub links_cut: u64,
    /// Ended before they began: their clock was set meanwhile. They count as of no length.
    pub backwards: u64,
    /// With an id of zeros: not kept.
    pub without_id: u64,
}

/// The bytes of a span beside its links: in the table (a seventh of which is empty at best, half at worst) and the queue.
const SPAN_BYTES: usize =
    2 * (size_of::<ActiveSpan>() + size_of::<IndexedSpan>() + 8) + size_of::<(Instant, ActiveSpan)>();

/// Recent finished spans.
#[derive(Debug)]
pub struct SpanIndex {
    limits: IndexLimits,
    spans: HashMap<ActiveSpan, IndexedSpan>,
    /// In the order in which they were told; each id once.
    told: VecDeque<(Instant, ActiveSpan)>,
    classes: Classes,
    bytes: usize,
    received: u64,
    losses: SpanLosses,
}

impl SpanIndex {
    /// An empty index.
    pub fn new(limits: IndexLimits) -> SpanIndex {
        SpanIndex {
            limits,
            spans: HashMap::new(),
            told: VecDeque::new(),
            classes: Classes::new(limits.classes),
            bytes: 0,
            received: 0,
            losses: SpanLosses::default(),
        }
    }

    /// Takes a span in. Says its class and length unless it was known already, so that nothing counts twice.
    pub fn insert(&mut self, span: FinishedSpan, now: Instant) -> Option<(ClassId, Duration)> {
        self.received += 1;
        if span.span.trace_id == [0; 16] || span.span.span_id == [0; 8] {
            self.losses.without_id += 1;
            return None;
        }
        let (id, wall) = (span.span, span.wall());
        let span = self.indexed(span);
        let class = span.class;
        self.bytes += bytes_of(&span);
        match self.spans.insert(id, span) {
            Some(older) => {
                self.bytes -= bytes_of(&older);
                self.losses.duplicates += 1;
                None
            }
            None => {
                self.told.push_back((now, id));
                self.forget(now);
                Some((class, wall))
            }
        }
    }

    fn indexed(&mut self, span: FinishedSpan) -> IndexedSpan {
        let class = self.classes.intern(&span.class);
        self.losses.unclassed += u64::from(class == ClassId::OTHER);
        self.losses.backwards += u64::from(span.end_unix_ns < span.start_unix_ns);
        self.losses.links_cut += span.links.len().saturating_sub(self.limits.links) as u64;
        let wall_ns = span.end_unix_ns.saturating_sub(span.start_unix_ns);
        let mut links = span.links;
        links.truncate(self.limits.links);
        IndexedSpan {
            parent: span.parent,
            start_unix_ns: span.start_unix_ns,
            wall_ns,
            kind: span.kind,
            failed: span.failed,
            class,
            messaging: span.messaging,
            links: links.into_boxed_slice(),
        }
    }

    /// Lets go of what is too old or has no room, the oldest first.
    pub fn forget(&mut self, now: Instant) {
        while let Some((told, id)) = self.told.front() {
            let is_old = now.saturating_duration_since(*told) > self.limits.age;
            if !is_old && self.bytes <= self.limits.bytes {
                return;
            }
            if let Some(span) = self.spans.remove(id) {
                self.bytes -= bytes_of(&span);
                self.losses.evicted += u64::from(!is_old);
            }
            self.told.pop_front();
        }
    }

    /// What is known of a span.
    pub fn get(&self, id: &ActiveSpan) -> Option<&IndexedSpan> {
        self.spans.get(id)
    }

    /// What a class of this index stands for.
    pub fn class(&self, id: ClassId) -> &Class {
        self.classes.get(id)
    }

    /// The id of a class that spans without a word from their tracer belong to.
    pub fn class_id(&mut self, class: &Class) -> ClassId {
        self.classes.intern(class)
    }

    /// All spans that were told within this time before now, the newest first.
    pub fn recent(
        &self,
        now: Instant,
        within: Duration,
    ) -> impl Iterator<Item = (&ActiveSpan, &IndexedSpan)> {
        let recent = self.told.iter().rev();
        let recent = recent.take_while(move |(told, _)| now.saturating_duration_since(*told) <= within);
        recent.filter_map(|(_, id)| self.spans.get_key_value(id))
    }

    /// How many spans there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether none has been told, or all are too old.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// How many spans were told, since the index was made.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// What is missing.
    pub fn losses(&self) -> SpanLosses {
        self.losses
    }

    /// The bytes that spans take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

fn bytes_of(span: &IndexedSpan) -> usize {
    SPAN_BYTES + size_of_val(&*span.links)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(number: u64) -> FinishedSpan {
        FinishedSpan {
            span: ActiveSpan { trace_id: [1; 16], span_id: number.to_be_bytes() },
            parent: None,
            kind: SpanKind::Consumer,
            start_unix_ns: 1_000,
            end_unix_ns: 1_000 + number,
            failed: false,
            class: Class { name: "process orders".into(), ..Class::default() },
            messaging: Messaging::default(),
            links: Vec::new(),
        }
    }

    fn small(bytes: usize) -> SpanIndex {
        SpanIndex::new(IndexLimits { bytes, links: 4, ..IndexLimits::default() })
    }

    #[test]
    fn a_span_is_found_by_its_ids() {
        let mut index = small(1 << 20);
        let told = index.insert(span(7), Instant::now());
        let kept = index.get(&span(7).span).expect("it was told");
        assert_eq!((kept.wall_ns, told), (7, Some((kept.class, Duration::from_nanos(7)))));
        assert_eq!(&*index.class(kept.class).name, "process orders");
        assert_eq!(index.get(&span(8).span), None);
    }

    #[test]
    fn a_span_that_is_told_again_counts_once() {
        let mut index = small(1 << 20);
        let now = Instant::now();
        index.insert(span(7), now);
        assert_eq!(index.insert(FinishedSpan { failed: true, ..span(7) }, now), None);
        assert!(index.get(&span(7).span).expect("it was told").failed);
        assert_eq!((index.len(), index.losses().duplicates, index.received()), (1, 1, 2));
    }

    #[test]
    fn bytes_never_exceed_the_limit() {
        let mut index = small(100 * SPAN_BYTES);
        for number in 1..=1_000 {
            let links = vec![span(1).span; number as usize % 7];
            index.insert(FinishedSpan { links, ..span(number) }, Instant::now());
            assert!(index.bytes() <= 100 * SPAN_BYTES);
            assert!(index.get(&span(number).span).is_some(), "the newest stays");
        }
        let recount: usize = index.spans.values().map(bytes_of).sum();
        assert_eq!(index.bytes(), recount);
        assert_eq!(index.losses().evicted as usize, 1_000 - index.len());
        assert_eq!(
            index.losses().links_cut,
            (1..=1_000).map(|number: u64| (number % 7).saturating_sub(4)).sum::<u64>()
        );
    }

    #[test]
    fn what_is_old_is_let_go_and_no_loss() {
        let mut index = small(1 << 20);
        let begin = Instant::now();
        index.insert(span(1), begin);
        index.insert(span(2), begin + Duration::from_secs(500));
        index.forget(begin + Duration::from_secs(700));
        assert_eq!((index.len(), index.losses().evicted), (1, 0));
        let now = begin + Duration::from_secs(700);
        assert_eq!(index.recent(now, Duration::from_secs(300)).count(), 1);
        assert_eq!(index.recent(now, Duration::from_secs(100)).count(), 0);
        index.forget(begin + Duration::from_secs(1_200));
        assert!(index.is_empty());
        assert_eq!(index.bytes(), 0);
    }

    #[test]
    fn clocks_that_were_set_back_are_counted() {
        let mut index = small(1 << 20);
        let told = index.insert(FinishedSpan { end_unix_ns: 1, ..span(1) }, Instant::now());
        assert_eq!((told.map(|(_, wall)| wall), index.losses().backwards), (Some(Duration::ZERO), 1));
    }

    #[test]
    fn ids_of_zeros_are_nobodys() {
        let mut index = small(1 << 20);
        assert_eq!(index.insert(span(0), Instant::now()), None);
        assert_eq!((index.len(), index.losses().without_id), (0, 1));
    }
}
