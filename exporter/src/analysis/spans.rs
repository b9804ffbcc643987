//! Time by span, by trace and by destination.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use super::groups::{Group, Times, group};
use crate::filter::{number, text};
use crate::profile::{LabelSetId, Profile, SampleKind, label};
use crate::waits::Wait;

/// Where the time of one span went, as far as the window saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanTime {
    /// 32 hex characters, where the samples carry one.
    pub trace_id: Option<String>,
    /// 16 hex characters.
    pub span_id: String,
    /// The span's name, where a finished span told it.
    pub span_name: Option<String>,
    /// The service.
    pub service: Option<String>,
    /// The process in which most of the time was seen.
    pub pid: Option<i64>,
    /// The thread in which most of the time was seen, by name.
    pub thread: Option<String>,
    /// The topic or queue.
    pub destination: Option<String>,
    /// The consumer group.
    pub consumer_group: Option<String>,
    /// The messaging operation.
    pub operation: Option<String>,
    /// Running, in nanoseconds.
    pub cpu_ns: u64,
    /// Blocked, in nanoseconds.
    pub off_cpu_ns: u64,
    /// Runnable and not running, in nanoseconds.
    pub run_queue_ns: u64,
    /// Awaiting a wake-up, without a thread, in nanoseconds.
    pub suspended_ns: u64,
    /// Woken and not polled yet, without a thread, in nanoseconds.
    pub ready_ns: u64,
    /// What its tracer told and nobody saw, in nanoseconds.
    pub unknown_ns: u64,
    /// From its begin to its end, in nanoseconds, where its tracer told.
    pub wall_ns: Option<u64>,
    /// In which at least one of its children in the same service was open, in nanoseconds; their time is theirs.
    pub children_ns: u64,
    /// Its share of what was done for the whole batch that it came in, all kinds together, in nanoseconds; beside its own
    /// times.
    pub shared_ns: u64,
    /// How many messages came with it in one poll; 0 where no such poll is known.
    pub batch_size: u32,
    /// How long neighbours of that poll were processed before it, in nanoseconds; beside its own times.
    pub head_of_line_ns: u64,
    /// The kind with the most time.
    pub main_kind: SampleKind,
    /// The heaviest cause of that kind, in words: "waiting for a lock in orders::reserve (std::sync::Mutex::lock)".
    pub main_cause: String,
    /// The main cause's part of all the span's time, from 0 to 1.
    pub main_share: f64,
    /// What was waited for the longest, of all its time off the CPU; none where there is no such time.
    pub main_wait: Option<Wait>,
}

impl SpanTime {
    /// The time by kind.
    pub const fn times(&self) -> Times {
        Times {
            cpu_ns: self.cpu_ns,
            off_cpu_ns: self.off_cpu_ns,
            run_queue_ns: self.run_queue_ns,
            suspended_ns: self.suspended_ns,
            ready_ns: self.ready_ns,
            unknown_ns: self.unknown_ns,
        }
    }

    /// All kinds together, in nanoseconds.
    pub const fn total_ns(&self) -> u64 {
        self.times().total_ns()
    }

    /// Which part of its wall time is accounted for, its children's time included; from 0 to 1. None where nobody told
    /// how long it took.
    pub fn coverage(&self) -> Option<f64> {
        let wall = self.wall_ns.filter(|wall| *wall > 0)?;
        let known = self.total_ns().saturating_sub(self.unknown_ns).saturating_add(self.children_ns);
        Some((known as f64 / wall as f64).min(1.0))
    }
}

/// Where the time of one trace went, over all spans and services that the profile saw.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceTime {
    /// 32 hex characters.
    pub trace_id: String,
    /// How many spans of it were seen.
    pub spans: usize,
    /// The services it went through, sorted.
    pub services: Vec<String>,
    /// Time by kind.
    pub times: Times,
    /// The kind with the most time.
    pub main_kind: SampleKind,
    /// The heaviest cause of that kind, in words.
    pub main_cause: String,
    /// The main cause's part of all the trace's time, from 0 to 1.
    pub main_share: f64,
    /// What was waited for the longest, of all its time off the CPU; none where there is no such time.
    pub main_wait: Option<Wait>,
}

/// Where the time of one destination's messages went.
#[derive(Debug, Clone, PartialEq)]
pub struct DestinationTime {
    /// The topic or queue; none for samples of no destination.
    pub destination: Option<String>,
    /// The consumer group.
    pub consumer_group: Option<String>,
    /// The messaging operation.
    pub operation: Option<String>,
    /// The service.
    pub service: Option<String>,
    /// How many distinct spans of it kept their ids.
    pub spans: usize,
    /// Time by kind.
    pub times: Times,
    /// The kind with the most time.
    pub main_kind: SampleKind,
    /// The heaviest cause of that kind, in words.
    pub main_cause: String,
    /// The main cause's part of all the time, from 0 to 1.
    pub main_share: f64,
    /// What was waited for the longest, of all its time off the CPU; none where there is no such time.
    pub main_wait: Option<Wait>,
}

/// Time by span, the longest first. Samples without a span id are not in it.
pub fn spans(profile: &Profile) -> Vec<SpanTime> {
    let mut facts: HashMap<SpanKey, SpanFacts> = HashMap::new();
    let is_share = |labels: LabelSetId| text(profile.labels(labels), label::SHARE).is_some();
    let key_of = |labels: LabelSetId| span_key(profile, labels).filter(|_| !is_share(labels));
    let groups = group(profile, key_of, |key, labels, nanoseconds| {
        let facts = facts.entry(*key).or_default();
        let sum = facts.by_labels.entry(labels).or_default();
        *sum = sum.saturating_add(nanoseconds);
    });
    let mut shared: HashMap<SpanKey<'_>, u64> = HashMap::new();
    for (sample, value) in profile.samples().into_iter().filter(|(sample, _)| is_share(sample.labels)) {
        if let Some(key) = span_key(profile, sample.labels) {
            let sum = shared.entry(key).or_default();
            *sum = sum.saturating_add(value.nanoseconds);
        }
    }
    let mut spans: Vec<SpanTime> = groups
        .into_iter()
        .map(|(key, group)| {
            let span = span_time(profile, key, facts.get(&key).unwrap_or(&SpanFacts::default()), group);
            SpanTime { shared_ns: shared.get(&key).copied().unwrap_or(0), ..span }
        })
        .collect();
    spans.sort_by(|a, b| b.total_ns().cmp(&a.total_ns()).then_with(|| a.span_id.cmp(&b.span_id)));
    spans
}

/// Time by trace, the longest first. Samples without a trace id are not in it.
pub fn traces(profile: &Profile) -> Vec<TraceTime> {
    let mut seen: HashMap<&str, (BTreeSet<&str>, BTreeSet<&str>)> = HashMap::new();
    let key_of = |labels: LabelSetId| text(profile.labels(labels), label::TRACE_ID);
    let groups = group(profile, key_of, |trace, labels, _| {
        let (spans, services) = seen.entry(trace).or_default();
        spans.extend(text(profile.labels(labels), label::SPAN_ID));
        services.extend(text(profile.labels(labels), label::SERVICE_NAME));
    });
    let mut traces: Vec<TraceTime> = groups
        .into_iter()
        .map(|(trace_id, group)| {
            let (spans, services) = seen.remove(trace_id).unwrap_or_default();
            TraceTime {
                trace_id: trace_id.to_owned(),
                spans: spans.len(),
                services: services.into_iter().map(str::to_owned).collect(),
                times: group.times,
                main_kind: group.main_kind.unwrap_or(SampleKind::Cpu),
                main_cause: group.main_cause,
                main_share: group.main_share,
                main_wait: group.main_wait,
            }
        })
        .collect();
    traces.sort_by(|a, b| {
        b.times.total_ns().cmp(&a.times.total_ns()).then_with(|| a.trace_id.cmp(&b.trace_id))
    });
    traces
}

/// Time by destination, consumer group, operation and service, the longest first.
pub fn destinations(profile: &Profile) -> Vec<DestinationTime> {
    let mut seen: HashMap<[Option<&str>; 4], BTreeSet<&str>> = HashMap::new();
    let key_of = |labels: LabelSetId| {
        let labels = profile.labels(labels);
        let keys = [label::DESTINATION, label::CONSUMER_GROUP, label::OPERATION, label::SERVICE_NAME];
        Some(keys.map(|key| text(labels, key)))
    };
    let groups = group(profile, key_of, |key, labels, _| {
        seen.entry(*key).or_default().extend(text(profile.labels(labels), label::SPAN_ID));
    });
    let mut destinations: Vec<DestinationTime> = groups
        .into_iter()
        .map(|(key, group)| {
            let spans = seen.remove(&key).unwrap_or_default().len();
            let [destination, consumer_group, operation, service] = key.map(|part| part.map(str::to_owned));
            DestinationTime {
                destination,
                consumer_group,
                operation,
                service,
                spans,
                times: group.times,
                main_kind: group.main_kind.unwrap_or(SampleKind::Cpu),
                main_cause: group.main_cause,
                main_share: group.main_share,
                main_wait: group.main_wait,
            }
        })
        .collect();
    destinations.sort_by(|a, b| {
        let by_time = b.times.total_ns().cmp(&a.times.total_ns());
        let name =
            |d: &DestinationTime| (d.destination.clone(), d.consumer_group.clone(), d.operation.clone());
        by_time.then_with(|| name(a).cmp(&name(b))).then_with(|| a.service.cmp(&b.service))
    });
    destinations
}

/// Trace and span: span ids are unique only within a trace.
type SpanKey<'a> = (Option<&'a str>, &'a str);

fn span_key(profile: &Profile, labels: LabelSetId) -> Option<SpanKey<'_>> {
    let labels = profile.labels(labels);
    Some((text(labels, label::TRACE_ID), text(labels, label::SPAN_ID)?))
}

/// The label sets under which a span was seen, with their times.
#[derive(Default)]
struct SpanFacts {
    by_labels: HashMap<LabelSetId, u64>,
}

impl SpanFacts {
    /// The value of a label that stands for the most time; the same set of threads always gives the same.
    fn heaviest<T: Ord + Hash + Copy>(&self, of: impl Fn(LabelSetId) -> Option<T>) -> Option<T> {
        let mut sums: HashMap<T, u64> = HashMap::new();
        for (labels, nanoseconds) in &self.by_labels {
            if let Some(value) = of(*labels) {
                let sum = sums.entry(value).or_default();
                *sum = sum.saturating_add(*nanoseconds);
            }
        }
        sums.into_iter().max_by(|(a, x), (b, y)| x.cmp(y).then_with(|| b.cmp(a))).map(|(value, _)| value)
    }
}

fn span_time(profile: &Profile, key: SpanKey<'_>, facts: &SpanFacts, group: Group) -> SpanTime {
    let heaviest =
        |name: &str| facts.heaviest(|labels| text(profile.labels(labels), name)).map(str::to_owned);
    let told = key.0.and_then(|trace_id| profile.facts(trace_id, key.1)).copied().unwrap_or_default();
    SpanTime {
        trace_id: key.0.map(str::to_owned),
        span_id: key.1.to_owned(),
        span_name: heaviest(label::SPAN_NAME),
        service: heaviest(label::SERVICE_NAME),
        pid: facts.heaviest(|labels| number(profile.labels(labels), label::PID)),
        thread: heaviest(label::THREAD_NAME),
        destination: heaviest(label::DESTINATION),
        consumer_group: heaviest(label::CONSUMER_GROUP),
        operation: heaviest(label::OPERATION),
        cpu_ns: group.times.cpu_ns,
        off_cpu_ns: group.times.off_cpu_ns,
        run_queue_ns: group.times.run_queue_ns,
        suspended_ns: group.times.suspended_ns,
        ready_ns: group.times.ready_ns,
        unknown_ns: group.times.unknown_ns,
        wall_ns: told.wall_ns,
        children_ns: told.children_ns,
        shared_ns: 0,
        batch_size: told.batch_size,
        head_of_line_ns: told.head_of_line_ns,
        main_kind: group.main_kind.unwrap_or(SampleKind::Cpu),
        main_cause: group.main_cause,
        main_share: group.main_share,
        main_wait: group.main_wait,
    }
}
