//! Whose time a sample is: its span and its thread, from the sample's labels.
//!
//! A span with an id is one row however its other labels differ (a name may be known only for samples
//! that came after its end). Spans that were folded together have no id: they are one row per service,
//! name, destination, group and operation.

use std::collections::HashMap;

use serde::Serialize;

use super::data::{Strings, position_of};
use crate::analysis::group;
use crate::waits::Wait;
use crate::{LabelSetId, LabelValue, Profile, WokenBy, label};

/// One entry per span, or per set of spans that were folded together. Where a column says nothing
/// else it holds positions in the page's strings; -1 where unknown.
#[derive(Serialize, Default)]
pub(super) struct SpanTable {
    span_id: Vec<i64>,
    trace_id: Vec<i64>,
    name: Vec<i64>,
    destination: Vec<i64>,
    group: Vec<i64>,
    operation: Vec<i64>,
    service: Vec<i64>,
    /// The kind with the most time, a position in [`SampleKind::ALL`].
    kind: Vec<u8>,
    /// The main cause in words.
    cause: Vec<i64>,
    /// The main cause's time, from 0 to 1 of all that was seen in the span.
    share: Vec<f64>,
    /// What was waited for the longest; -1 where nothing was.
    wait: Vec<i64>,
    /// Who ended most of its waits, then who had made that one wait, and so on: words, nanoseconds, frames leaf first.
    woken_by: Vec<Vec<(i64, u64, Vec<u32>)>>,
    /// Why it keeps its ids: `slow` or `failed`; -1 for normal ones.
    kept: Vec<i64>,
    /// From its begin to its end, in nanoseconds; -1 where no tracer told.
    wall: Vec<i64>,
    /// When it began, in microseconds since 1970; 0 where no tracer told.
    begin: Vec<u64>,
    /// In which children in the same service were open, in nanoseconds.
    children: Vec<u64>,
    /// How many messages came in one poll with the one that it processes; 0 where unknown.
    batch: Vec<u32>,
    /// How long neighbours of that poll were processed before it, in nanoseconds.
    head_of_line: Vec<u64>,
}

/// Frames of a waker that the page gets, from the leaf.
const WAKER_FRAMES: usize = 8;

impl SpanTable {
    fn tell_facts(&mut self, profile: &Profile, strings: &Strings) {
        for at in 0..self.span_id.len() {
            let text = |position: i64| strings.text(position).unwrap_or_default();
            let facts =
                profile.facts(text(self.trace_id[at]), text(self.span_id[at])).copied().unwrap_or_default();
            self.wall.push(facts.wall_ns.map_or(-1, |wall| i64::try_from(wall).unwrap_or(i64::MAX)));
            self.begin.push(facts.begin_unix_ns.unwrap_or(0) / 1_000);
            self.children.push(facts.children_ns);
            self.batch.push(facts.batch_size);
            self.head_of_line.push(facts.head_of_line_ns);
        }
    }

    fn chains(&self, profile: &Profile, strings: &mut Strings) -> Vec<Vec<(i64, u64, Vec<u32>)>> {
        let mut chains = Vec::with_capacity(self.span_id.len());
        for (trace_id, span_id) in self.trace_id.iter().zip(&self.span_id) {
            let chain = match strings.text(*span_id) {
                Some(span_id) => profile.wakers.of(strings.text(*trace_id), span_id),
                None => &[],
            };
            let link = |link: &WokenBy| {
                let frames = link.frames.iter().take(WAKER_FRAMES);
                let frames = frames.map(|frame| strings.position(frame)).collect();
                (strings.optional(Some(&link.words())), link.nanoseconds, frames)
            };
            chains.push(chain.iter().map(link).collect());
        }
        chains
    }
}

/// One entry per thread; `name` and `service` are positions in the page's strings, -1 where unknown.
#[derive(Serialize, Default)]
pub(super) struct ThreadTable {
    name: Vec<i64>,
    /// The thread's id; -1 where unknown.
    id: Vec<i64>,
    /// The process id; -1 where unknown.
    pid: Vec<i64>,
    service: Vec<i64>,
}

/// Whose time one sample is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    /// The span's position in the span table; -1 outside any span.
    pub(super) span: i64,
    /// The thread's position in the thread table.
    pub(super) thread: u32,
    /// Whether it is the span's share of what was done for its whole batch.
    pub(super) is_share: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum SpanKey {
    Single { trace_id: i64, span_id: i64 },
    Folded { name: i64, destination: i64, group: i64, operation: i64, service: i64 },
}

/// Collects spans and threads while samples pass.
#[derive(Default)]
pub(super) struct Owners {
    spans: SpanTable,
    span_positions: HashMap<SpanKey, i64>,
    threads: ThreadTable,
    thread_positions: HashMap<(i64, i64, i64, i64), u32>,
    known: HashMap<LabelSetId, Owner>,
}

impl Owners {
    /// The owner that a set of labels names.
    pub(super) fn of(&mut self, profile: &Profile, labels: LabelSetId, strings: &mut Strings) -> Owner {
        if let Some(owner) = self.known.get(&labels) {
            return *owner;
        }
        let reader = Labels { profile, labels };
        let owner = Owner {
            span: self.span(&reader, strings),
            thread: self.thread(&reader, strings),
            is_share: reader.value(label::SHARE).is_some(),
        };
        self.known.insert(labels, owner);
        owner
    }

    /// The two tables, when all samples have passed; causes are named as the command line names them.
    pub(super) fn into_tables(
        mut self,
        profile: &Profile,
        strings: &mut Strings,
    ) -> (SpanTable, ThreadTable) {
        let known = &self.known;
        let span_of = |labels| known.get(&labels).map(|owner| owner.span).filter(|span| *span >= 0);
        for (span, group) in group(profile, span_of, |_, _, _| ()) {
            let at = span as usize;
            self.spans.kind[at] = group.main_kind.map_or(0, position_of);
            self.spans.cause[at] = strings.optional(Some(&group.main_cause));
            self.spans.share[at] = group.main_share;
            self.spans.wait[at] = strings.optional(group.main_wait.map(Wait::as_str));
        }
        self.spans.woken_by = self.spans.chains(profile, strings);
        self.spans.tell_facts(profile, strings);
        (self.spans, self.threads)
    }

    fn span(&mut self, labels: &Labels<'_>, strings: &mut Strings) -> i64 {
        let span_id = labels.text(label::SPAN_ID, strings);
        let trace_id = labels.text(label::TRACE_ID, strings);
        let name = labels.text(label::SPAN_NAME, strings);
        let destination = labels.text(label::DESTINATION, strings);
        let group = labels.text(label::CONSUMER_GROUP, strings);
        let operation = labels.text(label::OPERATION, strings);
        let service = labels.text(label::SERVICE_NAME, strings);
        let key = if span_id >= 0 {
            SpanKey::Single { trace_id, span_id }
        } else if name >= 0 || destination >= 0 || operation >= 0 {
            SpanKey::Folded { name, destination, group, operation, service }
        } else {
            return -1;
        };
        let spans = &mut self.spans;
        let position = *self.span_positions.entry(key).or_insert_with(|| {
            spans.span_id.push(span_id);
            spans.trace_id.push(trace_id);
            spans.kind.push(0);
            spans.cause.push(-1);
            spans.share.push(0.0);
            spans.wait.push(-1);
            spans.kept.push(-1);
            for column in [
                &mut spans.name,
                &mut spans.destination,
                &mut spans.group,
                &mut spans.operation,
                &mut spans.service,
            ] {
                column.push(-1);
            }
            spans.span_id.len() as i64 - 1
        });
        let at = position as usize;
        for (column, value) in [
            (&mut spans.name, name),
            (&mut spans.destination, destination),
            (&mut spans.group, group),
            (&mut spans.operation, operation),
            (&mut spans.service, service),
        ] {
            if column[at] < 0 {
                column[at] = value;
            }
        }
        let kept = labels.text(label::KEPT, strings);
        if kept >= 0 {
            spans.kept[at] = kept;
        }
        position
    }

    fn thread(&mut self, labels: &Labels<'_>, strings: &mut Strings) -> u32 {
        let key = (
            labels.number(label::PID),
            labels.number(label::THREAD_ID),
            labels.text(label::THREAD_NAME, strings),
            labels.text(label::SERVICE_NAME, strings),
        );
        let threads = &mut self.threads;
        *self.thread_positions.entry(key).or_insert_with(|| {
            threads.pid.push(key.0);
            threads.id.push(key.1);
            threads.name.push(key.2);
            threads.service.push(key.3);
            threads.pid.len() as u32 - 1
        })
    }
}

/// One set of labels, read by key.
struct Labels<'a> {
    profile: &'a Profile,
    labels: LabelSetId,
}

impl Labels<'_> {
    fn value(&self, key: &str) -> Option<&LabelValue> {
        self.profile.labels(self.labels).iter().find(|label| &*label.key == key).map(|label| &label.value)
    }

    fn text(&self, key: &str, strings: &mut Strings) -> i64 {
        match self.value(key) {
            Some(LabelValue::Text(text)) => strings.optional(Some(text)),
            Some(LabelValue::Number(number)) => strings.optional(Some(&number.to_string())),
            None => -1,
        }
    }

    fn number(&self, key: &str) -> i64 {
        match self.value(key) {
            Some(LabelValue::Number(number)) => *number,
            Some(LabelValue::Text(text)) => text.parse().unwrap_or(-1),
            None => -1,
        }
    }
}
