//! Counts the spans of a window, those that fold included.
//!
//! A tracer's word is exact. Spans of services without one are counted as the capture saw them; of services with one they are
//! not, for each would count twice: a window may close before its span is told.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use spanprof_exporter::{Counted, Source, SpanKind, Traffic, TrafficKey};

use super::class::ClassId;
use super::finished::FinishedSpan;
use super::index::SpanIndex;
use super::keep::SeenSpan;

/// What is counted of a span beside its class and time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    kind: SpanKind,
    messages: u64,
    failed: bool,
}

impl Outcome {
    pub(super) fn of(span: &FinishedSpan) -> Outcome {
        let messages = span.messaging.batch_size.map_or(1, u64::from);
        Outcome { kind: span.kind, messages, failed: span.failed }
    }
}

/// What was counted since the last window closed.
#[derive(Debug, Default)]
pub(super) struct WindowTraffic {
    rows: HashMap<(ClassId, SpanKind, Source), Counted>,
    /// Services whose tracers ever told of a span; as few as there are classes.
    telling: HashSet<Arc<str>>,
}

impl WindowTraffic {
    /// A tracer told of a span of this class and service.
    pub(super) fn told(&mut self, class: ClassId, service: &Arc<str>, outcome: Outcome, wall: Duration) {
        if !self.telling.contains(service) {
            self.telling.insert(Arc::clone(service));
        }
        let row = self.rows.entry((class, outcome.kind, Source::Told)).or_default();
        row.add(nanoseconds(wall), outcome.messages, outcome.failed);
    }

    /// These spans were seen in the window that closes.
    pub(super) fn seen(&mut self, index: &SpanIndex, window: &[SeenSpan]) {
        for span in window {
            let is_told = self.telling.contains(&index.class(span.class).service);
            if !is_told && index.get(&span.span).is_none() {
                let row = self.rows.entry((span.class, SpanKind::Internal, Source::Seen)).or_default();
                row.add(nanoseconds(span.seen), 1, false);
            }
        }
    }

    /// Hands over what was counted and begins anew.
    pub(super) fn take(&mut self, index: &SpanIndex) -> Traffic {
        let mut traffic = Traffic::default();
        for ((class, kind, source), counted) in std::mem::take(&mut self.rows) {
            traffic.add(TrafficKey { class: index.class(class).clone(), kind, source }, &counted);
        }
        traffic
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::ActiveSpan;
    use crate::spans::{Class, IndexLimits, Keeping, KeepingOptions, Messaging};

    fn class(service: &str) -> Class {
        Class { service: service.into(), destination: "orders".into(), ..Class::default() }
    }

    fn span(number: u64, service: &str) -> FinishedSpan {
        FinishedSpan {
            span: ActiveSpan { trace_id: [1; 16], span_id: number.to_be_bytes() },
            parent: None,
            kind: SpanKind::Consumer,
            start_unix_ns: 0,
            end_unix_ns: 8_000_000,
            failed: number.is_multiple_of(2),
            class: class(service),
            messaging: Messaging { batch_size: (number == 1).then_some(32), attempt: None },
            links: Vec::new(),
        }
    }

    fn seen(number: u64, class: ClassId) -> SeenSpan {
        let span = ActiveSpan { trace_id: [1; 16], span_id: number.to_be_bytes() };
        SeenSpan { span, class, seen: Duration::from_millis(3), samples: 1 }
    }

    fn rows(traffic: &Traffic) -> Vec<(String, &'static str, [u64; 5])> {
        let row = |(key, row): (&TrafficKey, &Counted)| {
            let numbers =
                [row.spans, row.messages, row.failed, row.durations.count(), row.durations.sum_ns()];
            (key.class.service.to_string(), key.source.as_str(), numbers)
        };
        traffic.iter().map(row).collect()
    }

    #[test]
    fn what_was_told_counts_once_and_in_one_window() {
        let now = Instant::now();
        let mut keeping = Keeping::new(KeepingOptions::default(), IndexLimits::default(), now);
        for number in [1, 2, 2, 4] {
            keeping.finish(span(number, "told"), now);
        }
        let class = keeping.class(&class("told"));
        // The second is told of when the window has closed.
        keeping.choose(&[seen(1, class), seen(7, class)], Duration::ZERO, now);
        assert_eq!(rows(&keeping.take_traffic()), [("told".into(), "told", [3, 34, 2, 3, 24_000_000])]);
        keeping.finish(span(7, "told"), now);
        assert_eq!(rows(&keeping.take_traffic()), [("told".into(), "told", [1, 1, 0, 1, 8_000_000])]);
        assert!(keeping.take_traffic().is_empty());
    }

    #[test]
    fn a_service_without_a_tracer_is_counted_as_it_was_seen() {
        let now = Instant::now();
        let mut keeping = Keeping::new(KeepingOptions::default(), IndexLimits::default(), now);
        keeping.finish(span(1, "told"), now);
        let class = keeping.class(&class("silent"));
        keeping.choose(&[seen(1, class), seen(5, class), seen(6, class)], Duration::ZERO, now);
        let expected = [
            ("silent".into(), "seen", [2, 2, 0, 2, 6_000_000]),
            ("told".into(), "told", [1, 32, 0, 1, 8_000_000]),
        ];
        assert_eq!(rows(&keeping.take_traffic()), expected);
    }
}
