//! The finished spans around those that keep their ids: their traces, and what they are linked with in others.
//!
//! A message's own span is one of several: created here, received there, settled later, and beside it what came in the same
//! poll. The index is asked twice from end to end per window, however many spans are kept: by trace and link, then for
//! neighbours. All lists are short, so that one trace of all spans costs no more than many.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use spanprof_exporter::{MOST_AROUND, MOST_IN_WINDOW, MOST_LINKS, Relatives, SpanRef, ToldSpan};

use super::batch::creation_of;
use super::index::{IndexedSpan, SpanIndex};
use super::keep::{Kept, Reason};
use crate::ActiveSpan;

/// Spans that share a creation with a kept one by being about the same message: several deliveries, with their settlements.
const MOST_OF_MESSAGE: usize = 32;
/// Ancestors; a chain may be a circle, for ids are strangers' words.
const MOST_ANCESTORS: usize = 16;

/// What is told of kept spans and around them.
pub fn relatives(index: &SpanIndex, kept: &HashMap<ActiveSpan, Kept>, now: Instant) -> Relatives {
    let mut kept: Vec<(ActiveSpan, &Kept, &IndexedSpan)> =
        kept.iter().filter_map(|(id, kept)| Some((*id, kept, index.get(id)?))).collect();
    kept.sort_by_key(|(id, kept, _)| (kept.reason == Reason::Normal, Reverse(kept.wall), *id));
    let around = Around::new(index, &kept, now);
    let mut found = Found { index, ids: HashSet::new(), relatives: Relatives::default() };
    // What is kept is there before what is around any of it.
    for (id, _, _) in &kept {
        found.add(id);
    }
    for (id, _, span) in &kept {
        for relative in around.of(index, id, span) {
            found.add(&relative);
        }
    }
    found.relatives
}

struct Found<'a> {
    index: &'a SpanIndex,
    ids: HashSet<ActiveSpan>,
    relatives: Relatives,
}

impl Found<'_> {
    fn add(&mut self, id: &ActiveSpan) {
        let Some(span) = self.index.get(id) else { return };
        if !self.ids.insert(*id) {
            return;
        }
        if self.relatives.len() >= MOST_IN_WINDOW {
            self.relatives.left_out(1);
            return;
        }
        self.relatives.insert(told(self.index, id, span));
    }
}

/// Spans by how they lie to kept ones.
struct Around {
    /// By trace.
    traces: HashMap<[u8; 16], Vec<ActiveSpan>>,
    /// Those that link to a kept span or to the creation of its message.
    linking: HashMap<ActiveSpan, Vec<ActiveSpan>>,
    /// Those that process a message of a poll that a kept one came in, by its creation.
    processing: HashMap<ActiveSpan, Vec<ActiveSpan>>,
}

impl Around {
    fn new(index: &SpanIndex, kept: &[(ActiveSpan, &Kept, &IndexedSpan)], now: Instant) -> Around {
        let mut around =
            Around { traces: HashMap::new(), linking: HashMap::new(), processing: HashMap::new() };
        for (id, _, span) in kept {
            around.traces.entry(id.trace_id).or_default();
            around.linking.entry(*id).or_default();
            if let Some(creation) = creation_of(id, span) {
                around.linking.entry(creation).or_default();
            }
        }
        if kept.is_empty() {
            return around;
        }
        for (id, span) in index.recent(now, Duration::MAX) {
            if let Some(trace) = around.traces.get_mut(&id.trace_id) {
                push(trace, *id, MOST_AROUND);
            }
            for link in &span.links {
                if let Some(linking) = around.linking.get_mut(link) {
                    push(linking, *id, MOST_OF_MESSAGE);
                }
            }
        }
        around.find_neighbours(index, now);
        around
    }

    fn find_neighbours(&mut self, index: &SpanIndex, now: Instant) {
        let polls: HashSet<ActiveSpan> = self.linking.values().flatten().copied().collect();
        let polls = polls.iter().filter_map(|poll| index.get(poll)).filter(|poll| poll.links.len() >= 2);
        let messages = polls.flat_map(|poll| poll.links.iter().take(MOST_LINKS));
        self.processing = messages.take(MOST_IN_WINDOW).map(|message| (*message, Vec::new())).collect();
        if self.processing.is_empty() {
            return;
        }
        for (id, span) in index.recent(now, Duration::MAX).filter(|(_, span)| span.links.len() < 2) {
            let of_poll = creation_of(id, span).and_then(|creation| self.processing.get_mut(&creation));
            if let Some(processing) = of_poll {
                push(processing, *id, MOST_OF_MESSAGE);
            }
        }
    }

    /// At most [`MOST_AROUND`], the nearest first.
    fn of(&self, index: &SpanIndex, id: &ActiveSpan, span: &IndexedSpan) -> Vec<ActiveSpan> {
        let creation = creation_of(id, span);
        let of_message = || {
            let linking = [Some(*id), creation].into_iter().flatten();
            linking.filter_map(|id| self.linking.get(&id)).flatten().copied()
        };
        let neighbours = of_message()
            .filter_map(|poll| index.get(&poll))
            .filter(|poll| poll.links.len() >= 2)
            .flat_map(|poll| poll.links.iter().take(MOST_LINKS))
            .filter_map(|message| self.processing.get(message))
            .flatten()
            .copied();
        let is_known = |relative: &ActiveSpan| index.get(relative).is_some();
        let all = ancestors(index, id, span)
            .chain(creation)
            .filter(is_known)
            .chain(of_message())
            .chain(self.traces.get(&id.trace_id).into_iter().flatten().copied())
            .chain(span.links.iter().copied().filter(is_known))
            .chain(neighbours);
        let mut seen = HashSet::from([*id]);
        all.filter(|relative| seen.insert(*relative)).take(MOST_AROUND - 1).collect()
    }
}

fn push(list: &mut Vec<ActiveSpan>, id: ActiveSpan, most: usize) {
    if list.len() < most {
        list.push(id);
    }
}

fn ancestors(
    index: &SpanIndex,
    id: &ActiveSpan,
    span: &IndexedSpan,
) -> impl Iterator<Item = ActiveSpan> + use<> {
    let mut chain = Vec::new();
    let mut parent = span.parent;
    while let Some(span_id) = parent.filter(|_| chain.len() < MOST_ANCESTORS) {
        let ancestor = ActiveSpan { trace_id: id.trace_id, span_id };
        chain.push(ancestor);
        parent = index.get(&ancestor).and_then(|span| span.parent);
    }
    chain.into_iter()
}

fn told(index: &SpanIndex, id: &ActiveSpan, span: &IndexedSpan) -> ToldSpan {
    let link = |id: &ActiveSpan| SpanRef { trace_id: id.trace_id, span_id: id.span_id };
    ToldSpan {
        span: link(id),
        parent_id: span.parent,
        kind: span.kind,
        class: index.class(span.class).clone(),
        begin_unix_ns: span.start_unix_ns,
        wall_ns: span.wall_ns,
        failed: span.failed,
        batch_size: span.messaging.batch_size,
        attempt: span.messaging.attempt,
        links: span.links.iter().take(MOST_LINKS).map(link).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spans::{Class, FinishedSpan, IndexLimits, Messaging, SpanKind};

    fn id(trace: u8, number: u64) -> ActiveSpan {
        ActiveSpan { trace_id: [trace; 16], span_id: number.to_be_bytes() }
    }

    fn span(own: ActiveSpan, parent: Option<u64>, operation: &str, links: &[ActiveSpan]) -> FinishedSpan {
        FinishedSpan {
            span: own,
            parent: parent.map(u64::to_be_bytes),
            kind: SpanKind::Consumer,
            start_unix_ns: 5,
            end_unix_ns: 12,
            failed: operation == "ack",
            class: Class { operation: operation.into(), ..Class::default() },
            messaging: Messaging { batch_size: None, attempt: Some(2) },
            links: links.to_vec(),
        }
    }

    fn find(spans: Vec<FinishedSpan>, kept: &[ActiveSpan]) -> Relatives {
        let (mut index, now) = (SpanIndex::new(IndexLimits::default()), Instant::now());
        for span in spans {
            index.insert(span, now);
        }
        let one = Kept { reason: Reason::Slow, wall: Some(Duration::from_nanos(7)) };
        relatives(&index, &kept.iter().map(|id| (*id, one)).collect(), now)
    }

    fn names(relatives: &Relatives) -> Vec<(u8, u64, String)> {
        let name = |span: &ToldSpan| {
            let number = u64::from_be_bytes(span.span.span_id);
            (span.span.trace_id[0], number, span.class.operation.to_string())
        };
        relatives.iter().map(name).collect()
    }

    /// Two messages of two traces: sent, received in one poll, processed, and settled together. And an unrelated one.
    fn story() -> Vec<FinishedSpan> {
        let sent = [id(1, 1), id(2, 1)];
        vec![
            span(id(1, 1), None, "send", &[]),
            span(id(2, 1), None, "send", &[]),
            span(id(9, 1), None, "receive", &sent),
            span(id(1, 2), Some(1), "process", &[]),
            span(id(1, 3), Some(2), "query", &[]),
            span(id(2, 2), Some(1), "process", &[]),
            span(id(8, 1), None, "ack", &sent),
            span(id(7, 1), None, "process", &[id(6, 1)]),
        ]
    }

    #[test]
    fn a_message_has_its_story() {
        let found = find(story(), &[id(1, 2)]);
        let expected = [
            (1, 1, "send"),
            (1, 2, "process"),
            (1, 3, "query"),
            (2, 2, "process"),
            (8, 1, "ack"),
            (9, 1, "receive"),
        ];
        assert_eq!(names(&found), expected.map(|(trace, number, name)| (trace, number, name.to_owned())));
        let told = found.get(&SpanRef { trace_id: [1; 16], span_id: 2_u64.to_be_bytes() }).unwrap();
        assert_eq!((told.parent_id, told.begin_unix_ns, told.wall_ns), (Some(1_u64.to_be_bytes()), 5, 7));
        assert_eq!(
            (told.attempt, told.failed, told.creation().map(|id| id.trace_id)),
            (Some(2), false, Some([1; 16]))
        );
    }

    #[test]
    fn a_span_in_a_trace_of_its_own_finds_its_creation_by_its_link() {
        let sent = id(1, 1);
        let spans = vec![
            span(sent, None, "send", &[]),
            span(id(3, 1), None, "receive", &[sent]),
            span(id(4, 1), None, "process", &[sent]),
        ];
        let expected = [(1, 1, "send"), (3, 1, "receive"), (4, 1, "process")];
        let expected = expected.map(|(trace, number, name)| (trace, number, name.to_owned()));
        assert_eq!(names(&find(spans.clone(), &[id(4, 1)])), expected);
        assert_eq!(names(&find(spans, &[sent])), expected, "and from its creation on");
    }

    #[test]
    fn what_nobody_told_of_is_not_there() {
        assert!(find(story(), &[]).is_empty());
        assert!(find(story(), &[id(1, 99)]).is_empty());
    }

    #[test]
    fn a_huge_trace_and_a_circle_are_bounded() {
        let mut spans: Vec<FinishedSpan> =
            (1..=5_000).map(|number| span(id(1, number), Some(number % 5_000 + 1), "step", &[])).collect();
        spans.extend((1..=200).map(|number| span(id(2, number), None, "receive", &[id(1, 1), id(1, 2)])));
        assert_eq!(find(spans.clone(), &[id(1, 1)]).len(), MOST_AROUND);
        let some: Vec<ActiveSpan> = (1..=500).map(|number| id(1, number)).collect();
        assert!(find(spans, &some).len() >= 500, "kept ones are all there");
    }

    #[test]
    fn a_window_has_room_for_so_many_and_counts_the_others() {
        let of_own_trace =
            |number: u64| ActiveSpan { trace_id: u128::from(number).to_be_bytes(), ..id(1, number) };
        let all: Vec<ActiveSpan> = (1..=MOST_IN_WINDOW as u64 + 5).map(of_own_trace).collect();
        let spans = all.iter().map(|id| span(*id, None, "step", &[])).collect();
        let found = find(spans, &all);
        assert_eq!((found.len(), found.number_left_out()), (MOST_IN_WINDOW, 5));
    }
}
