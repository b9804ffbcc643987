//! Recent finished spans, bounded in bytes and in time.
//!
//! Refused: a database, for what is asked is always recent; and keeping spans as they came, for a span's texts outweigh its
//! times tenfold and repeat themselves.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
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
    /// 20 MB, ten minutes, 1,024 links, 1,024 classes: 130,000 spans.
    fn default() -> IndexLimits {
        IndexLimits { bytes: 20 << 20, age: Duration::from_secs(600), links: 1_024, classes: 1_024 }
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

impl IndexedSpan {
    /// When it ended by the service's clock, in nanoseconds since 1970.
    pub fn end_unix_ns(&self) -> u64 {
        self.start_unix_ns.saturating_add(self.wall_ns)
    }
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

/// A span and when it was told.
#[derive(Debug)]
struct Told {
    at: Instant,
    id: ActiveSpan,
    span: IndexedSpan,
}

/// The bytes of a span beside its links: itself, and its entry in a table that is half full.
const SPAN_BYTES: usize = size_of::<Told>() + 2 * (size_of::<(u64, u32)>() + 1) * 8 / 7;

/// Recent finished spans.
#[derive(Debug)]
pub struct SpanIndex {
    limits: IndexLimits,
    /// In the order in which they were told; each id once.
    told: VecDeque<Told>,
    /// By a hash of the id, the number under which it was told: far smaller than a table of spans, and never more than half
    /// full, as a fuller one doubles when many come and go.
    numbers: HashMap<u64, u32>,
    hashes: RandomState,
    /// The number of the first in the queue; numbers start anew after the last one.
    first: u32,
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
            told: VecDeque::new(),
            numbers: HashMap::new(),
            hashes: RandomState::new(),
            first: 0,
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
        self.make_room();
        let (id, wall) = (span.span, span.wall());
        let span = self.indexed(span);
        let class = span.class;
        self.bytes += bytes_of(&span);
        if let Some(place) = self.place(&id) {
            let older = std::mem::replace(&mut self.told[place].span, span);
            self.bytes -= bytes_of(&older);
            self.losses.duplicates += 1;
            return None;
        }
        let number = self.first.wrapping_add(self.told.len() as u32);
        self.numbers.insert(self.hashes.hash_one(id), number);
        self.told.push_back(Told { at: now, id, span });
        self.forget(now);
        Some((class, wall))
    }

    /// Where a span lies in the queue.
    fn place(&self, id: &ActiveSpan) -> Option<usize> {
        let number = self.numbers.get(&self.hashes.hash_one(id))?;
        let place = number.wrapping_sub(self.first) as usize;
        // Two ids may have one hash, though nobody has seen that yet.
        self.told.get(place).filter(|told| told.id == *id).map(|_| place)
    }

    /// Once, and for all that may come: while a table grows, the old one is there beside the new.
    fn make_room(&mut self) {
        if self.told.capacity() == 0 {
            let most = self.limits.bytes / SPAN_BYTES + 1;
            self.numbers.reserve(2 * most);
            self.told.reserve_exact(most);
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
        while let Some(oldest) = self.told.front() {
            let is_old = now.saturating_duration_since(oldest.at) > self.limits.age;
            if !is_old && self.bytes <= self.limits.bytes {
                return;
            }
            self.bytes -= bytes_of(&oldest.span);
            self.losses.evicted += u64::from(!is_old);
            let hash = self.hashes.hash_one(oldest.id);
            if self.numbers.get(&hash) == Some(&self.first) {
                self.numbers.remove(&hash);
            }
            self.told.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }

    /// What is known of a span.
    pub fn get(&self, id: &ActiveSpan) -> Option<&IndexedSpan> {
        self.place(id).map(|place| &self.told[place].span)
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
        let recent = recent.take_while(move |told| now.saturating_duration_since(told.at) <= within);
        recent.map(|told| (&told.id, &told.span))
    }

    /// How many spans there are.
    pub fn len(&self) -> usize {
        self.told.len()
    }

    /// Whether none has been told, or all are too old.
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
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
        let recount: usize = index.told.iter().map(|told| bytes_of(&told.span)).sum();
        assert_eq!(index.numbers.len(), index.len());
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
    fn numbers_may_start_anew() {
        let mut index = SpanIndex { first: u32::MAX - 2, ..small(4 * SPAN_BYTES) };
        for number in 1..=9 {
            index.insert(FinishedSpan { links: Vec::new(), ..span(number) }, Instant::now());
            assert!(index.get(&span(number).span).is_some(), "{number} is the newest");
        }
        assert_eq!((index.len(), index.get(&span(5).span)), (4, None));
        assert_eq!(index.get(&span(6).span).map(|span| span.wall_ns), Some(6));
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
