//! Metrics as data: a name, a meaning, and a number for each set of attributes.

use std::collections::BTreeMap;

use spanprof_exporter::{BUCKETS_NS, Counted, Durations, Source, SpanKind, TrafficKey};

use super::snapshot::{Snapshot, is_messaging, is_poll, is_processing};

/// One metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// By OpenTelemetry's conventions, with dots.
    pub name: &'static str,
    /// What it counts, for people.
    pub help: &'static str,
    /// In which unit.
    pub unit: Unit,
    /// How its numbers behave.
    pub kind: FamilyKind,
    /// Its numbers.
    pub points: Vec<Point>,
}

/// The unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// `s`
    Seconds,
    /// `By`
    Bytes,
    /// Things that are counted, in UCUM's braces, such as `{message}`.
    Of(&'static str),
}

/// How the numbers of a metric behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FamilyKind {
    /// They only grow, from 0 at the agent's start.
    Counter,
    /// They go up and down.
    Gauge,
    /// They are counted by how large they are.
    Histogram,
}

/// A number with its attributes.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// By OpenTelemetry's names, none empty.
    pub attributes: Vec<(&'static str, String)>,
    /// The number.
    pub value: Value,
}

/// A number of a metric.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of things.
    Whole(u64),
    /// Of seconds.
    Real(f64),
    /// Of a histogram.
    Histogram(Histogram),
}

/// How many durations fell into which bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// All.
    pub count: u64,
    /// Added up, in seconds.
    pub sum_seconds: f64,
    /// The conventions' buckets by their upper bounds in seconds, each with how many are in it and in none before; what is
    /// longer than the last is in none.
    pub buckets: Vec<(f64, u64)>,
}

impl Histogram {
    fn of(durations: &Durations) -> Histogram {
        let mut before = 0;
        let buckets = BUCKETS_NS.map(|bound| {
            let until = durations.at_most(bound);
            let within = until - before;
            before = until;
            (bound as f64 / 1e9, within)
        });
        let sum_seconds = durations.sum_ns() as f64 / 1e9;
        Histogram { count: durations.count(), sum_seconds, buckets: buckets.into() }
    }
}

/// All metrics of a snapshot, always the same ones in the same order.
pub fn families(snapshot: &Snapshot) -> Vec<Family> {
    let mut families = of_messages(snapshot);
    families.extend(of_the_agent(snapshot));
    families
}

/// The clients' metrics of the conventions 1.44, and how many spans there were.
fn of_messages(snapshot: &Snapshot) -> Vec<Family> {
    let told = |wanted: fn(&TrafficKey) -> bool| {
        rows(snapshot, move |key| key.source == Source::Told && is_messaging(key) && wanted(key))
    };
    let durations = |rows: BTreeMap<Attributes, Counted>| {
        points(rows, |row| Value::Histogram(Histogram::of(&row.durations)))
    };
    let consumed = snapshot.consumed.iter().map(|([service, destination, group, operation], number)| Point {
        attributes: attributes(&[service, destination, group, operation]),
        value: Value::Whole(*number),
    });
    let spans = |source, of: fn(&Counted) -> u64| {
        points(rows(snapshot, move |key| key.source == source), move |row| Value::Whole(of(row)))
    };
    vec![
        Family {
            name: "messaging.client.operation.duration",
            help: "How long sending, receiving and settling took",
            unit: Unit::Seconds,
            kind: FamilyKind::Histogram,
            points: durations(told(|key| is_poll(key) || is_sending(key) || key.kind == SpanKind::Client)),
        },
        Family {
            name: "messaging.process.duration",
            help: "How long processing took",
            unit: Unit::Seconds,
            kind: FamilyKind::Histogram,
            points: durations(told(is_processing)),
        },
        counter(
            "messaging.client.sent.messages",
            "Messages that were tried to be sent",
            "{message}",
            points(told(is_sending), |row| Value::Whole(row.messages)),
        ),
        counter(
            "messaging.client.consumed.messages",
            "Messages that came to the application: at the poll, or at their processing where nobody polls",
            "{message}",
            consumed.collect(),
        ),
        counter(
            "spanprof.spans",
            "Finished spans that tracers told of",
            "{span}",
            spans(Source::Told, |row| row.spans),
        ),
        counter(
            "spanprof.spans.failed",
            "Of these the ones that failed",
            "{span}",
            spans(Source::Told, |row| row.failed),
        ),
        counter(
            "spanprof.spans.seen",
            "Distinct spans that were seen in windows, where no tracer tells of any; short ones may be missing",
            "{span}",
            spans(Source::Seen, |row| row.spans),
        ),
    ]
}

fn of_the_agent(snapshot: &Snapshot) -> Vec<Family> {
    let whole = |number| vec![Point { attributes: Vec::new(), value: Value::Whole(number) }];
    let losses = snapshot.losses.iter().map(|(cause, number)| Point {
        attributes: vec![("cause", cause.clone())],
        value: Value::Whole(*number),
    });
    let shipped = snapshot.sinks.iter().flat_map(|(sink, counts)| {
        [("arrived", counts.arrived), ("lost", counts.lost)].map(|(outcome, number)| Point {
            attributes: vec![("sink", sink.clone()), ("outcome", outcome.to_owned())],
            value: Value::Whole(number),
        })
    });
    let (intake, lost) = (snapshot.spans.intake, snapshot.spans.losses);
    let refused = [("malformed", intake.malformed), ("busy", intake.busy)].map(|(cause, number)| Point {
        attributes: vec![("cause", cause.to_owned())],
        value: Value::Whole(number),
    });
    let gauge = |name, help, unit, number| Family {
        name,
        help,
        unit,
        kind: FamilyKind::Gauge,
        points: whole(number),
    };
    vec![
        counter("spanprof.samples", "Samples taken", "{sample}", whole(snapshot.samples)),
        counter(
            "spanprof.losses",
            "What is missing by cause; causes with ns in their names count nanoseconds",
            "{loss}",
            losses.collect(),
        ),
        counter(
            "spanprof.stacks.truncated",
            "Stacks that end before the start of their thread",
            "{stack}",
            whole(snapshot.stacks_truncated()),
        ),
        counter("spanprof.windows", "Windows captured", "{window}", whole(snapshot.windows)),
        counter("spanprof.windows.shipped", "Windows by where they went", "{window}", shipped.collect()),
        counter("spanprof.spans.received", "Finished spans received", "{span}", whole(intake.spans)),
        counter(
            "spanprof.span.requests.refused",
            "Requests with finished spans that were not taken",
            "{request}",
            refused.into(),
        ),
        counter(
            "spanprof.spans.evicted",
            "Finished spans that were given up for want of room before their time",
            "{span}",
            whole(lost.evicted),
        ),
        gauge("spanprof.targets", "Processes that are profiled", Unit::Of("{process}"), snapshot.targets),
        Family {
            name: "process.cpu.time",
            help: "CPU time of the agent itself",
            unit: Unit::Seconds,
            kind: FamilyKind::Counter,
            points: vec![Point {
                attributes: Vec::new(),
                value: Value::Real(snapshot.own.cpu_ns as f64 / 1e9),
            }],
        },
        gauge("process.memory.usage", "Memory of the agent itself", Unit::Bytes, snapshot.own.resident_bytes),
    ]
}

fn counter(name: &'static str, help: &'static str, of: &'static str, points: Vec<Point>) -> Family {
    Family { name, help, unit: Unit::Of(of), kind: FamilyKind::Counter, points }
}

fn is_sending(key: &TrafficKey) -> bool {
    key.kind == SpanKind::Producer && &*key.class.operation != "create"
}

type Attributes = Vec<(&'static str, String)>;

/// The rows of traffic that are wanted, added up by what is told of them: span names are not.
fn rows(snapshot: &Snapshot, wanted: impl Fn(&TrafficKey) -> bool) -> BTreeMap<Attributes, Counted> {
    let mut rows: BTreeMap<Attributes, Counted> = BTreeMap::new();
    for (key, counted) in snapshot.traffic.iter().filter(|(key, _)| wanted(key)) {
        let class = &key.class;
        let attributes = attributes(&[&class.service, &class.destination, &class.group, &class.operation]);
        rows.entry(attributes).or_default().merge(counted);
    }
    rows
}

fn attributes(values: &[&str; 4]) -> Attributes {
    const NAMES: [&str; 4] = [
        "service.name",
        "messaging.destination.name",
        "messaging.consumer.group.name",
        "messaging.operation.name",
    ];
    let said = NAMES.into_iter().zip(values).filter(|(_, value)| !value.is_empty());
    said.map(|(name, value)| (name, (*value).to_owned())).collect()
}

fn points(rows: BTreeMap<Attributes, Counted>, value: impl Fn(&Counted) -> Value) -> Vec<Point> {
    rows.into_iter().map(|(attributes, row)| Point { value: value(&row), attributes }).collect()
}
