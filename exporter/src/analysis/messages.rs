//! The messages of a profile by what they have in common, slow, failed and normal ones apart.
//!
//! A message is a span that keeps its id. Why it does is said by the samples' labels: `kept` is `slow` or `failed`, and
//! absent on normal ones. A span that was seen in several windows may have been found slow in the last of them only; it
//! is slow in all.

use std::collections::HashMap;

use super::difference::Side;
use crate::filter::text;
use crate::profile::{Label, LabelSetId, Profile, SampleKey, SampleValue, label};

/// What messages have in common that are compared with each other; the order is the alphabet's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageClass {
    /// The topic or queue.
    pub destination: Option<String>,
    /// The consumer group.
    pub consumer_group: Option<String>,
    /// The messaging operation.
    pub operation: Option<String>,
    /// The service.
    pub service: Option<String>,
    /// The span's name, where no destination tells spans apart. Beside a destination it would say the same again, or
    /// hold something such as an order's number, which no two messages share.
    pub span_name: Option<String>,
}

/// The messages of one class.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    /// What they have in common.
    pub class: MessageClass,
    /// Those that took as long as usual, or of which it is not known what is usual.
    pub normal: Side<'a>,
    /// Those that took longer.
    pub slow: Side<'a>,
    /// Those that failed.
    pub failed: Side<'a>,
}

/// The messages by class, in a stable order. Each span is in one class and on one side, with all of its time; samples
/// without a span id, and of spans that are kept for a reason that is not known here, are in none.
pub fn messages(profile: &Profile) -> Vec<Messages<'_>> {
    let samples = profile.samples();
    let spans = Spans::of(profile, &samples);
    let mut classes: HashMap<MessageClass, [Members; 3]> = HashMap::new();
    let mut members = Vec::with_capacity(spans.spans.len());
    for span in &spans.spans {
        let class = class_of(profile.labels(span.telling));
        let Some(reason) = span.reason.filter(|_| span.nanoseconds > 0) else {
            members.push(None);
            continue;
        };
        classes.entry(class.clone()).or_default()[reason as usize].spans += 1;
        members.push(Some((class, reason)));
    }
    for (key, value) in samples {
        let Some(span) = spans.by_labels[key.labels.index()] else { continue };
        if let Some((class, reason)) = &members[span]
            && let Some(sides) = classes.get_mut(class)
        {
            sides[*reason as usize].samples.push((key, value));
        }
    }
    let side = |members: Members| Side::new(profile, members.samples, members.spans as f64);
    let mut messages: Vec<Messages<'_>> = classes
        .into_iter()
        .map(|(class, [normal, slow, failed])| Messages {
            class,
            normal: side(normal),
            slow: side(slow),
            failed: side(failed),
        })
        .collect();
    messages.sort_by(|a, b| a.class.cmp(&b.class));
    messages
}

/// Of one class and reason.
#[derive(Default)]
struct Members {
    spans: u64,
    samples: Vec<(SampleKey, SampleValue)>,
}

/// Why a span keeps its id; the later one counts where windows differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    Normal,
    Slow,
    Failed,
}

impl Reason {
    /// None where a later version of spanprof knows a reason that is unknown here.
    fn of(labels: &[Label]) -> Option<Reason> {
        match text(labels, label::KEPT) {
            None => Some(Reason::Normal),
            Some("slow") => Some(Reason::Slow),
            Some("failed") => Some(Reason::Failed),
            Some(_) => None,
        }
    }
}

struct Span {
    reason: Option<Reason>,
    /// The labels that say what it has in common with others: of those that name a destination, or of all where none
    /// does, the ones under which most of its time was seen.
    telling: LabelSetId,
    /// Whether they name a destination, and the time under them.
    telling_rank: (bool, u64),
    nanoseconds: u64,
}

/// The spans of a profile, and which of them each label set is of.
struct Spans {
    spans: Vec<Span>,
    by_labels: Vec<Option<usize>>,
}

impl Spans {
    fn of(profile: &Profile, samples: &[(SampleKey, SampleValue)]) -> Spans {
        let mut times = vec![0_u64; profile.label_sets().len()];
        for (key, value) in samples {
            let time = &mut times[key.labels.index()];
            *time = time.saturating_add(value.nanoseconds);
        }
        let mut numbers: HashMap<(Option<&str>, &str), usize> = HashMap::new();
        let mut spans: Vec<Span> = Vec::new();
        let mut by_labels = vec![None; times.len()];
        for id in (0..times.len()).filter_map(|position| profile.label_set_id(position)) {
            let labels = profile.labels(id);
            // A message's share of its batch's time is none of its own.
            let is_own = text(labels, label::SHARE).is_none();
            let Some(span_id) = text(labels, label::SPAN_ID).filter(|_| is_own) else { continue };
            // Span ids are unique only within a trace.
            let key = (text(labels, label::TRACE_ID), span_id);
            let (reason, time) = (Reason::of(labels), times[id.index()]);
            let rank = (text(labels, label::DESTINATION).is_some(), time);
            let number = *numbers.entry(key).or_insert_with(|| {
                spans.push(Span { reason, telling: id, telling_rank: rank, nanoseconds: 0 });
                spans.len() - 1
            });
            by_labels[id.index()] = Some(number);
            let span = &mut spans[number];
            span.nanoseconds = span.nanoseconds.saturating_add(time);
            span.reason = span.reason.zip(reason).map(|(before, now)| before.max(now));
            if rank > span.telling_rank {
                (span.telling, span.telling_rank) = (id, rank);
            }
        }
        Spans { spans, by_labels }
    }
}

fn class_of(labels: &[Label]) -> MessageClass {
    let of = |key| text(labels, key).map(str::to_owned);
    let destination = of(label::DESTINATION);
    MessageClass {
        consumer_group: of(label::CONSUMER_GROUP),
        operation: of(label::OPERATION),
        service: of(label::SERVICE_NAME),
        span_name: if destination.is_none() { of(label::SPAN_NAME) } else { None },
        destination,
    }
}
