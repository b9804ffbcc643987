//! How much of a span's time its own children had: that time is told under their ids.
//!
//! Only children in the same service count. What follows elsewhere, such as the processing of a message that was sent, is
//! nothing that the span waits for.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::finished::SpanKind;
use super::index::{IndexedSpan, SpanIndex};
use crate::ActiveSpan;

/// Nanoseconds in which at least one child was open, by parent. Only finished spans in `seen` count, as parents and as
/// children: a child that no thread ever had active leaves its time to the parent.
pub fn children_time(
    index: &SpanIndex,
    seen: &HashSet<ActiveSpan>,
    now: Instant,
) -> HashMap<ActiveSpan, u64> {
    let mut open: HashMap<ActiveSpan, Vec<(u64, u64)>> = HashMap::new();
    for (id, child) in index.recent(now, Duration::MAX).filter(|(id, _)| seen.contains(id)) {
        let Some(parent_id) = parent_of(id, child) else { continue };
        let Some(parent) = index.get(&parent_id).filter(|_| seen.contains(&parent_id)) else { continue };
        let service = |span: &IndexedSpan| &index.class(span.class).service;
        if service(child) == service(parent) {
            open.entry(parent_id).or_default().push(within(interval(child), interval(parent)));
        }
    }
    open.into_iter().map(|(parent, intervals)| (parent, together(intervals))).collect()
}

fn parent_of(id: &ActiveSpan, child: &IndexedSpan) -> Option<ActiveSpan> {
    let is_local = !matches!(child.kind, SpanKind::Consumer | SpanKind::Server);
    let parent = child.parent.filter(|_| is_local)?;
    Some(ActiveSpan { trace_id: id.trace_id, span_id: parent })
}

fn interval(span: &IndexedSpan) -> (u64, u64) {
    (span.start_unix_ns, span.start_unix_ns.saturating_add(span.wall_ns))
}

fn within((begin, end): (u64, u64), (first, last): (u64, u64)) -> (u64, u64) {
    (begin.clamp(first, last), end.clamp(first, last))
}

/// The length of all intervals together, where they overlap once.
pub(super) fn together(mut intervals: Vec<(u64, u64)>) -> u64 {
    intervals.sort_unstable();
    let (mut length, mut reached) = (0_u64, 0);
    for (begin, end) in intervals {
        length = length.saturating_add(end.saturating_sub(begin.max(reached)));
        reached = reached.max(end);
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spans::{Class, FinishedSpan, IndexLimits, Messaging};

    fn id(number: u8) -> ActiveSpan {
        ActiveSpan { trace_id: [1; 16], span_id: [number; 8] }
    }

    /// A span from `begin` to `end`, below a parent where that is not 0.
    fn span(number: u8, parent: u8, begin: u64, end: u64) -> FinishedSpan {
        FinishedSpan {
            span: id(number),
            parent: (parent > 0).then_some([parent; 8]),
            kind: SpanKind::Internal,
            start_unix_ns: begin,
            end_unix_ns: end,
            failed: false,
            class: Class { service: "orders".into(), ..Class::default() },
            messaging: Messaging::default(),
            links: Vec::new(),
        }
    }

    fn time_of_children(spans: Vec<FinishedSpan>, seen: &[u8]) -> Option<u64> {
        let (mut index, now) = (SpanIndex::new(IndexLimits::default()), Instant::now());
        for span in spans {
            index.insert(span, now);
        }
        let seen = seen.iter().map(|number| id(*number)).collect();
        children_time(&index, &seen, now).get(&id(1)).copied()
    }

    #[test]
    fn overlapping_children_count_once_and_only_within_their_parent() {
        let spans = vec![
            span(1, 0, 100, 200),
            span(2, 1, 110, 130),
            span(3, 1, 120, 140),
            span(4, 1, 190, 260),
            span(5, 2, 111, 112),
        ];
        assert_eq!(time_of_children(spans, &[1, 2, 3, 4, 5]), Some(30 + 10));
    }

    #[test]
    fn who_was_never_active_took_nothing_from_its_parent() {
        let spans = vec![span(1, 0, 100, 200), span(2, 1, 110, 130)];
        assert_eq!(time_of_children(spans, &[1]), None);
    }

    #[test]
    fn what_follows_elsewhere_is_no_child() {
        let consumer = FinishedSpan { kind: SpanKind::Consumer, ..span(2, 1, 110, 130) };
        let elsewhere = FinishedSpan {
            class: Class { service: "billing".into(), ..Class::default() },
            ..span(3, 1, 110, 130)
        };
        assert_eq!(time_of_children(vec![span(1, 0, 100, 200), consumer, elsewhere], &[1, 2, 3]), None);
    }
}
