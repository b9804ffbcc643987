use prometheus_parse::{Sample, Scrape, Value as Read};
use spanprof_exporter::{Counted, Source, SpanClass, SpanKind, Traffic, TrafficKey};

use super::*;
use crate::metrics::{Metrics, SinkCounts, SpanCounts};
use crate::spans::SpanLosses;
use crate::spans::otlp::IntakeCounts;
use crate::summary::{Summary, loss};

fn class(operation: &str, destination: &str) -> SpanClass {
    SpanClass {
        service: "billing".into(),
        name: format!("{operation} {destination}").as_str().into(),
        destination: destination.into(),
        group: "invoices".into(),
        operation: operation.into(),
    }
}

/// Three sent, one of them failed; two processed in 7 ms and 20 s; four seen.
fn traffic(destination: &str) -> Traffic {
    let mut traffic = Traffic::default();
    let mut add = |operation, kind, source, milliseconds: &[u64], failed| {
        let mut counted = Counted::default();
        for (number, time) in milliseconds.iter().enumerate() {
            counted.add(time * 1_000_000, 1, number < failed);
        }
        traffic.add(TrafficKey { class: class(operation, destination), kind, source }, &counted);
    };
    add("send", SpanKind::Producer, Source::Told, &[5, 6, 2_500], 1);
    add("process", SpanKind::Consumer, Source::Told, &[7, 20_000], 0);
    add("create", SpanKind::Producer, Source::Told, &[1], 0);
    add("process", SpanKind::Internal, Source::Seen, &[1, 1, 1, 1], 0);
    traffic
}

fn metrics(destination: &str) -> Metrics {
    let metrics = Metrics::new();
    let losses = [(loss::SAMPLES_LOST.to_owned(), 3), (loss::STACKS_TRUNCATED.to_owned(), 2)].into();
    metrics.add_window(&Summary { samples: 99, losses, ..Summary::default() });
    metrics.add_traffic(&traffic(destination));
    metrics.set_sink("http://user:word@localhost:4040", SinkCounts { arrived: 5, lost: 1 });
    let intake = IntakeCounts { requests: 2, spans: 40, malformed: 1, busy: 0 };
    metrics.set_spans(SpanCounts { intake, losses: SpanLosses { evicted: 6, ..SpanLosses::default() } });
    metrics
}

/// As a reader of the format that isn't ours sees it.
fn read(text: &str) -> Vec<Sample> {
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    Scrape::parse(lines).expect("Prometheus' text").samples
}

/// The only sample of a name with this value of a label.
fn one<'a>(samples: &'a [Sample], name: &str, label: (&str, &str)) -> &'a Sample {
    let has = |sample: &&Sample| label.0.is_empty() || sample.labels.get(label.0) == Some(label.1);
    let found: Vec<&Sample> = samples.iter().filter(|sample| sample.metric == name).filter(has).collect();
    assert_eq!(found.len(), 1, "{name} {label:?} of {samples:#?}");
    found[0]
}

fn number(samples: &[Sample], name: &str, label: (&str, &str)) -> f64 {
    match one(samples, name, label).value {
        Read::Counter(number) | Read::Gauge(number) | Read::Untyped(number) => number,
        ref other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn another_reader_finds_every_number() {
    let samples = read(&prometheus_text(&metrics("orders").snapshot()));
    let none = ("", "");
    for (name, label, expected) in [
        ("messaging_client_sent_messages_total", ("messaging_operation_name", "send"), 3.0),
        ("messaging_client_consumed_messages_total", ("messaging_operation_name", "process"), 2.0),
        ("spanprof_spans_total", ("messaging_operation_name", "send"), 3.0),
        ("spanprof_spans_failed_total", ("messaging_operation_name", "send"), 1.0),
        ("spanprof_spans_seen_total", ("messaging_consumer_group_name", "invoices"), 4.0),
        ("spanprof_samples_total", none, 99.0),
        ("spanprof_losses_total", ("cause", "samples_lost"), 3.0),
        ("spanprof_stacks_truncated_total", none, 2.0),
        ("spanprof_windows_total", none, 1.0),
        ("spanprof_windows_shipped_total", ("outcome", "arrived"), 5.0),
        ("spanprof_windows_shipped_total", ("outcome", "lost"), 1.0),
        ("spanprof_spans_received_total", none, 40.0),
        ("spanprof_span_requests_refused_total", ("cause", "malformed"), 1.0),
        ("spanprof_spans_evicted_total", none, 6.0),
        ("spanprof_targets", none, 0.0),
    ] {
        assert_eq!(number(&samples, name, label), expected, "{name}");
    }
    assert!(number(&samples, "process_memory_usage_bytes", none) > 100_000.0);
    assert!(number(&samples, "process_cpu_time_seconds_total", none) > 0.0);
    let shipped = one(&samples, "spanprof_windows_shipped_total", ("outcome", "lost"));
    assert_eq!(shipped.labels.get("sink"), Some("http://localhost:4040"));
}

#[test]
fn durations_are_cumulative_in_the_conventions_buckets() {
    let text = prometheus_text(&metrics("orders").snapshot());
    let samples = read(&text);
    let sent = one(
        &samples,
        "messaging_client_operation_duration_seconds",
        ("messaging_destination_name", "orders"),
    );
    let Read::Histogram(buckets) = &sent.value else { panic!("{sent:?}") };
    let at = |bound: f64| buckets.iter().find(|bucket| bucket.less_than == bound).map(|bucket| bucket.count);
    assert_eq!([at(0.005), at(0.01), at(1.0), at(2.5)], [Some(1.0), Some(2.0), Some(2.0), Some(3.0)]);
    assert_eq!((at(f64::INFINITY), buckets.len()), (Some(3.0), 15));
    let processed =
        one(&samples, "messaging_process_duration_seconds", ("messaging_operation_name", "process"));
    let Read::Histogram(buckets) = &processed.value else { panic!("{processed:?}") };
    let at = |bound: f64| buckets.iter().find(|bucket| bucket.less_than == bound).map(|bucket| bucket.count);
    assert_eq!([at(0.005), at(0.01), at(10.0), at(f64::INFINITY)], [0.0, 1.0, 1.0, 2.0].map(Some));
    assert!(text.contains("# TYPE messaging_process_duration_seconds histogram"), "{text}");
    assert_eq!(
        number(&samples, "messaging_process_duration_seconds_count", ("service_name", "billing")),
        2.0
    );
}

#[test]
fn hostile_names_stay_values() {
    let hostile = "or\"ders\\\n# TYPE evil counter\nevil{a=\"b\"} 1\n<script>\u{1f4a9}\u{0}";
    let text = prometheus_text(&metrics(hostile).snapshot());
    let lines = |text: &str| text.lines().count();
    assert_eq!(lines(&text), lines(&prometheus_text(&metrics("orders").snapshot())));
    assert!(text.lines().all(|line| !line.starts_with("evil") && !line.starts_with("# TYPE evil")), "{text}");
    let escaped = hostile.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    assert!(text.contains(&format!("messaging_destination_name=\"{escaped}\"")), "{text}");
}

#[test]
fn nothing_counted_is_a_valid_answer() {
    let text = prometheus_text(&Metrics::new().snapshot());
    assert_eq!(number(&read(&text), "spanprof_samples_total", ("", "")), 0.0);
    assert!(!text.contains("messaging_"), "{text}");
}

#[test]
fn numbers_only_grow() {
    let metrics = metrics("orders");
    let before = read(&prometheus_text(&metrics.snapshot()));
    metrics.add_traffic(&traffic("audit"));
    metrics.add_window(&Summary::default());
    let after = read(&prometheus_text(&metrics.snapshot()));
    for sample in &before {
        let Read::Counter(earlier) = sample.value else { continue };
        let same = |other: &&Sample| other.metric == sample.metric && *other.labels == *sample.labels;
        let Some(Read::Counter(later)) = after.iter().find(same).map(|sample| &sample.value) else {
            panic!("{sample:?} is gone")
        };
        assert!(*later >= earlier, "{sample:?} became {later}");
    }
}
