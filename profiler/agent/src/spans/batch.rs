//! A batch is many traces: which spans did something for many messages at once, and what one of these waited for the others.
//!
//! A batch's span links to the contexts that its messages were created in; so does the span that processes one of them. By
//! these they find each other: the poll before, a span around, and the settlement after. What such a span took is shared by
//! all its messages alike. And while neighbours of the same poll were processed before it, a message stood in line.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::children::together;
use super::index::{IndexedSpan, SpanIndex};
use crate::ActiveSpan;

/// Of what a batch's span took, a message's part: `place` (from 0) among `of` equal ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The batch's span.
    pub batch: ActiveSpan,
    /// Which of the parts.
    pub place: u32,
    /// How many there are.
    pub of: u32,
}

impl Share {
    /// The part of `whole`; those of all places are the whole.
    pub fn part(&self, whole: u64) -> u64 {
        let until = |place: u32| u128::from(whole) * u128::from(place) / u128::from(self.of.max(1));
        (until(self.place + 1) - until(self.place)) as u64
    }
}

/// A message's spans' relation to its neighbours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InBatch {
    /// What it shares with others.
    pub shares: Vec<Share>,
    /// How many messages came with it in one poll, itself included; 0 where no such poll is known.
    pub size: u32,
    /// How long neighbours of the same poll were processed between that and its own begin, in nanoseconds.
    pub head_of_line_ns: u64,
}

/// How these spans, which process one message each, lie in batches. Those that lie in none are left out.
pub fn in_batches(
    index: &SpanIndex,
    messages: impl IntoIterator<Item = ActiveSpan>,
    now: Instant,
) -> HashMap<ActiveSpan, InBatch> {
    let mut by_creation: HashMap<ActiveSpan, Vec<ActiveSpan>> = HashMap::new();
    for id in messages {
        let creation = index.get(&id).filter(|span| !is_batch(span)).and_then(|span| creation_of(&id, span));
        if let Some(creation) = creation {
            by_creation.entry(creation).or_default().push(id);
        }
    }
    if by_creation.is_empty() {
        return HashMap::new();
    }
    let mut found: HashMap<ActiveSpan, Found> = HashMap::new();
    for (batch, span) in index.recent(now, Duration::MAX).filter(|(_, span)| is_batch(span)) {
        for (place, link) in span.links.iter().enumerate() {
            for message in by_creation.get(link).into_iter().flatten() {
                let Some(told) = index.get(message).filter(|told| of_one_service(index, told, span)) else {
                    continue;
                };
                let share = Share { batch: *batch, place: place as u32, of: size_of(span) };
                found.entry(*message).or_default().add(told, span, share);
            }
        }
    }
    let in_line = InLine::new(index, found.values(), now);
    found
        .into_iter()
        .filter_map(|(message, found)| Some((message, found.conclude(index.get(&message)?, index, &in_line))))
        .collect()
}

fn is_batch(span: &IndexedSpan) -> bool {
    span.links.len() >= 2 && size_of(span) >= 2 && span.messaging.batch_size != Some(1)
}

/// Tracers keep so many links of a span, and drop the others.
fn size_of(span: &IndexedSpan) -> u32 {
    span.messaging.batch_size.unwrap_or(0).max(span.links.len() as u32)
}

/// In which a span's message was created: its first link, or its parent.
pub(super) fn creation_of(id: &ActiveSpan, span: &IndexedSpan) -> Option<ActiveSpan> {
    let parent = span.parent.map(|span_id| ActiveSpan { trace_id: id.trace_id, span_id });
    span.links.first().copied().or(parent)
}

fn of_one_service(index: &SpanIndex, one: &IndexedSpan, other: &IndexedSpan) -> bool {
    index.class(one.class).service == index.class(other.class).service
}

fn end(span: &IndexedSpan) -> u64 {
    span.start_unix_ns.saturating_add(span.wall_ns)
}

/// The batches around one message: of several deliveries of it only those that lie next to this one.
#[derive(Debug, Default)]
struct Found {
    before: Option<(u64, Share)>,
    around: Vec<Share>,
    after: Option<(u64, Share)>,
}

impl Found {
    fn add(&mut self, message: &IndexedSpan, batch: &IndexedSpan, share: Share) {
        let (batch_end, message_end) = (end(batch), end(message));
        if batch_end <= message.start_unix_ns {
            if self.before.is_none_or(|(known, _)| known < batch_end) {
                self.before = Some((batch_end, share));
            }
        } else if batch.start_unix_ns >= message_end {
            if self.after.is_none_or(|(known, _)| known > batch.start_unix_ns) {
                self.after = Some((batch.start_unix_ns, share));
            }
        } else if batch.start_unix_ns <= message.start_unix_ns && batch_end >= message_end {
            self.around.push(share);
        }
    }

    fn conclude(self, message: &IndexedSpan, index: &SpanIndex, in_line: &InLine) -> InBatch {
        let before = self.before.and_then(|(came, share)| Some((came, share, index.get(&share.batch)?)));
        let head_of_line_ns = before
            .map_or(0, |(came, share, batch)| in_line.before(batch, share, (came, message.start_unix_ns)));
        let before = self.before.map(|(_, share)| share);
        let after = self.after.map(|(_, share)| share);
        let size = before.map_or(0, |share| share.of);
        let mut shares = self.around;
        shares.extend(before.into_iter().chain(after));
        shares.sort_by_key(|share| share.batch);
        InBatch { shares, size, head_of_line_ns }
    }
}

/// When the messages of the polls in question were processed, by the contexts that these were created in.
struct InLine(HashMap<ActiveSpan, Vec<(u64, u64)>>);

impl InLine {
    fn new<'a>(index: &SpanIndex, found: impl Iterator<Item = &'a Found>, now: Instant) -> InLine {
        let polls: HashSet<ActiveSpan> =
            found.filter_map(|found| found.before).map(|(_, share)| share.batch).collect();
        let links = polls.iter().filter_map(|poll| index.get(poll)).flat_map(|poll| &poll.links);
        let mut processed: HashMap<ActiveSpan, Vec<(u64, u64)>> =
            links.map(|link| (*link, Vec::new())).collect();
        if processed.is_empty() {
            return InLine(processed);
        }
        for (id, span) in index.recent(now, Duration::MAX).filter(|(_, span)| !is_batch(span)) {
            if !is_processing(index, span) {
                continue;
            }
            let of_poll = creation_of(id, span).and_then(|creation| processed.get_mut(&creation));
            if let Some(times) = of_poll {
                times.push((span.start_unix_ns, end(span)));
            }
        }
        InLine(processed)
    }

    /// How long the poll's other messages were processed between two times.
    fn before(&self, poll: &IndexedSpan, own: Share, (from, until): (u64, u64)) -> u64 {
        let others = poll.links.iter().enumerate().filter(|(place, _)| *place as u32 != own.place);
        let times = others.filter_map(|(_, link)| self.0.get(link)).flatten();
        together(times.map(|(begin, end)| ((*begin).clamp(from, until), (*end).clamp(from, until))).collect())
    }
}

/// As opposed to a poll of one message, or its settlement.
fn is_processing(index: &SpanIndex, span: &IndexedSpan) -> bool {
    span.kind == super::SpanKind::Consumer
        && !matches!(&*index.class(span.class).operation, "receive" | "poll")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spans::{Class, FinishedSpan, IndexLimits, Messaging, SpanKind};

    fn id(trace: u8, number: u8) -> ActiveSpan {
        ActiveSpan { trace_id: [trace; 16], span_id: [number; 8] }
    }

    /// A span from `begin` to `end` that links to the creation of messages.
    fn span(own: ActiveSpan, operation: &str, times: (u64, u64), messages: &[u8]) -> FinishedSpan {
        let kind = if operation == "process" { SpanKind::Consumer } else { SpanKind::Client };
        FinishedSpan {
            span: own,
            parent: None,
            kind,
            start_unix_ns: times.0,
            end_unix_ns: times.1,
            failed: false,
            class: Class { service: "orders".into(), operation: operation.into(), ..Class::default() },
            messaging: Messaging { batch_size: None, attempt: None },
            links: messages.iter().map(|message| id(*message, 1)).collect(),
        }
    }

    fn index(spans: Vec<FinishedSpan>) -> SpanIndex {
        let mut index = SpanIndex::new(IndexLimits::default());
        for span in spans {
            index.insert(span, Instant::now());
        }
        index
    }

    /// A poll of three, processed one after the other, and committed together.
    fn batch() -> Vec<FinishedSpan> {
        vec![
            span(id(90, 9), "receive", (0, 100), &[1, 2, 3]),
            span(id(1, 2), "process", (110, 400), &[1]),
            span(id(2, 2), "process", (410, 420), &[2]),
            span(id(3, 2), "process", (420, 430), &[3]),
            span(id(91, 9), "ack", (440, 500), &[1, 2, 3]),
        ]
    }

    fn find(spans: Vec<FinishedSpan>, message: ActiveSpan) -> Option<InBatch> {
        in_batches(&index(spans), [message], Instant::now()).remove(&message)
    }

    #[test]
    fn a_message_finds_what_was_done_for_all_and_how_long_it_stood_in_line() {
        let third = |batch| Share { batch: id(batch, 9), place: 2, of: 3 };
        let expected = InBatch { shares: vec![third(90), third(91)], size: 3, head_of_line_ns: 290 + 10 };
        assert_eq!(find(batch(), id(3, 2)), Some(expected));
        assert_eq!(find(batch(), id(1, 2)).map(|first| first.head_of_line_ns), Some(0));
    }

    #[test]
    fn a_span_around_its_messages_is_shared_too() {
        let spans = vec![
            span(id(90, 9), "process", (0, 1_000), &[1, 2]),
            FinishedSpan { parent: Some([9; 8]), ..span(id(1, 2), "process", (100, 200), &[1]) },
        ];
        let share = Share { batch: id(90, 9), place: 0, of: 2 };
        let expected = InBatch { shares: vec![share], size: 0, head_of_line_ns: 0 };
        assert_eq!(find(spans, id(1, 2)), Some(expected));
    }

    #[test]
    fn another_delivery_of_the_same_message_has_its_own_batch() {
        let mut spans = batch();
        spans.push(span(id(92, 9), "receive", (600, 700), &[2, 3]));
        spans.push(span(id(2, 3), "process", (710, 720), &[2]));
        let second = find(spans.clone(), id(2, 3)).expect("it is in a batch");
        assert_eq!(second.shares, [Share { batch: id(92, 9), place: 0, of: 2 }]);
        let first = find(spans, id(2, 2)).expect("it is in a batch");
        assert_eq!(first.shares.iter().map(|share| share.batch).collect::<Vec<_>>(), [id(90, 9), id(91, 9)]);
    }

    #[test]
    fn who_came_alone_is_in_no_batch() {
        let spans =
            vec![span(id(90, 9), "receive", (0, 100), &[1]), span(id(1, 2), "process", (110, 400), &[1])];
        assert_eq!(find(spans, id(1, 2)), None);
    }

    #[test]
    fn another_services_batch_is_not_shared() {
        let mut spans = batch();
        for batch in spans.iter_mut().filter(|span| span.links.len() > 1) {
            batch.class.service = "billing".into();
        }
        assert_eq!(find(spans, id(1, 2)), None);
    }

    #[test]
    fn all_parts_are_the_whole() {
        for (whole, of) in [(100, 3), (u64::MAX, 32), (5, 7), (0, 2)] {
            let part = |place| Share { batch: id(1, 1), place, of }.part(whole);
            assert_eq!((0..of).map(part).sum::<u64>(), whole);
        }
    }
}
