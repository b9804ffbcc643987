//! The metrics' names, units, bounds and attributes; and that each message counts once.

use std::time::{Duration, Instant, SystemTime};

use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use spanprof_messaging::{Instrumentation, Message, Settlement, System};

const OPERATION: &str = "messaging.client.operation.duration";
const PROCESS: &str = "messaging.process.duration";
const SENT: &str = "messaging.client.sent.messages";
const CONSUMED: &str = "messaging.client.consumed.messages";
const QUEUEING: &str = "spanprof.messaging.queueing.duration";
const AWAIT: &str = "spanprof.messaging.await.duration";

struct Measured {
    provider: SdkMeterProvider,
    exporter: InMemoryMetricExporter,
}

/// One series: its attributes in order, how many values, their sum, and the bounds of a histogram.
#[derive(Debug)]
struct Series {
    attributes: Vec<(String, String)>,
    count: u64,
    sum: f64,
    bounds: Vec<f64>,
}

impl Series {
    fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

impl Measured {
    fn new() -> Self {
        let exporter = InMemoryMetricExporter::default();
        let reader = PeriodicReader::builder(exporter.clone()).build();
        Self { provider: SdkMeterProvider::builder().with_reader(reader).build(), exporter }
    }

    fn instrumentation(&self, system: System) -> Instrumentation {
        Instrumentation::new(system).with_meter_provider(&self.provider)
    }

    /// The series of a metric, and its unit.
    fn series(&self, name: &str) -> (Vec<Series>, String) {
        self.provider.force_flush().expect("the reader runs");
        let exported: Vec<ResourceMetrics> =
            self.exporter.get_finished_metrics().expect("the exporter is there");
        let last = exported.last().expect("something was exported");
        let mut scopes = last.scope_metrics();
        let metrics = scopes.next().expect("one scope");
        assert_eq!(metrics.scope().name(), "spanprof-messaging");
        let Some(metric) = metrics.metrics().find(|metric| metric.name() == name) else {
            return (Vec::new(), String::new());
        };
        let series = match metric.data() {
            AggregatedMetrics::F64(MetricData::Histogram(histogram)) => histogram
                .data_points()
                .map(|point| Series {
                    attributes: pairs(point.attributes()),
                    count: point.count(),
                    sum: point.sum(),
                    bounds: point.bounds().collect(),
                })
                .collect(),
            AggregatedMetrics::U64(MetricData::Sum(sum)) => sum
                .data_points()
                .map(|point| Series {
                    attributes: pairs(point.attributes()),
                    count: point.value(),
                    sum: 0.0,
                    bounds: Vec::new(),
                })
                .collect(),
            other => panic!("{name}: {other:?}"),
        };
        (series, metric.unit().to_owned())
    }

    fn one(&self, name: &str) -> Series {
        let (mut series, _) = self.series(name);
        assert_eq!(series.len(), 1, "{name}: {series:?}");
        series.remove(0)
    }

    fn is_absent(&self, name: &str) -> bool {
        self.series(name).0.is_empty()
    }
}

fn pairs<'a>(attributes: impl Iterator<Item = &'a opentelemetry::KeyValue>) -> Vec<(String, String)> {
    let mut pairs: Vec<_> =
        attributes.map(|attribute| (attribute.key.to_string(), attribute.value.to_string())).collect();
    pairs.sort();
    pairs
}

fn two() -> [(&'static (), Message<'static>); 2] {
    [(&(), Message::new().id("a")), (&(), Message::new().id("b"))]
}

#[test]
fn sending_is_timed_and_counted() {
    let measured = Measured::new();
    let kafka = measured.instrumentation(System::Kafka).server("broker", 9092).client_id("7");
    let producer = kafka.producer("orders");
    producer.send(&mut (), &Message::new().id("a")).done();
    let mut batch = producer.batch();
    batch.add(&mut (), &Message::new());
    batch.add(&mut (), &Message::new());
    // Created, and not sent yet.
    assert_eq!(measured.one(SENT).count, 1);
    batch.send().done();
    let (duration, sent) = (measured.one(OPERATION), measured.one(SENT));
    assert_eq!((duration.count, sent.count), (2, 3));
    let low_in_cardinality = [
        ("messaging.destination.name", "orders"),
        ("messaging.operation.name", "send"),
        ("messaging.operation.type", "send"),
        ("messaging.system", "kafka"),
        ("server.address", "broker"),
        ("server.port", "9092"),
    ];
    assert_eq!(
        duration.attributes,
        low_in_cardinality.map(|(key, value)| (key.to_owned(), value.to_owned()))
    );
    assert_eq!(sent.attributes, duration.attributes);
    assert_eq!(measured.series(OPERATION).1, "s");
    assert_eq!(measured.series(SENT).1, "{message}");
    let advised = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
    assert_eq!(duration.bounds, advised);
}

#[test]
fn errors_are_told_as_on_spans() {
    let measured = Measured::new();
    let producer = measured.instrumentation(System::RocketMq).producer("orders");
    producer.send(&mut (), &Message::new()).failed("SYSTEM_BUSY", "[OVERLOAD]system busy");
    assert_eq!(measured.one(OPERATION).attribute("error.type"), Some("SYSTEM_BUSY"));
    assert_eq!(measured.one(SENT).attribute("error.type"), Some("SYSTEM_BUSY"));
}

#[test]
fn a_listeners_messages_count_where_they_are_processed() {
    let measured = Measured::new();
    let consumer = measured.instrumentation(System::RocketMq).consumer("orders", "billing");
    consumer.process(&(), &Message::new()).done();
    consumer.process_batch(two()).done();
    consumer.settle(Settlement::Acknowledge, &(), &Message::new()).done();
    let (processed, consumed) = (measured.one(PROCESS), measured.one(CONSUMED));
    assert_eq!((processed.count, consumed.count), (2, 3));
    assert_eq!(processed.attribute("messaging.consumer.group.name"), Some("billing"));
    assert_eq!(measured.one(OPERATION).attribute("messaging.operation.name"), Some("ack"));
    assert!(measured.is_absent(SENT));
    assert_eq!(measured.series(PROCESS).1, "s");
}

#[test]
fn a_loops_messages_count_where_they_are_received() {
    let measured = Measured::new();
    let consumer = measured.instrumentation(System::Kafka).consumer("orders", "billing");
    consumer.poll().empty();
    consumer.poll().many(two());
    consumer.process(&(), &Message::new()).done();
    consumer.process(&(), &Message::new()).done();
    let consumed = measured.one(CONSUMED);
    assert_eq!(consumed.count, 2);
    assert_eq!(consumed.attribute("messaging.operation.name"), Some("poll"));
    // The empty poll is not in it.
    assert_eq!(measured.one(OPERATION).count, 1);
    assert_eq!(measured.one(PROCESS).count, 2);
}

#[test]
fn a_batch_whose_messages_are_processed_one_by_one_counts_once() {
    let measured = Measured::new();
    let consumer = measured.instrumentation(System::RocketMq).consumer("orders", "billing");
    let batch = consumer.process_batch(two());
    batch.enter(|| {
        consumer.process(&(), &Message::new().id("a")).done();
        consumer.process(&(), &Message::new().id("b")).done();
    });
    batch.done();
    assert_eq!(measured.one(CONSUMED).count, 2);
    assert_eq!(measured.one(PROCESS).count, 3);
    // What comes later is something else.
    consumer.process(&(), &Message::new()).done();
    assert_eq!(measured.one(CONSUMED).count, 3);
}

#[test]
fn consumers_of_several_topics_count_together() {
    let measured = Measured::new();
    let consumers = measured.instrumentation(System::Kafka).consumers("billing");
    // Made before anybody polls.
    let orders = consumers.of("orders");
    consumers.poll().many(two());
    orders.process(&(), &Message::new()).done();
    consumers.of("refunds").process(&(), &Message::new()).done();
    assert_eq!(measured.one(CONSUMED).count, 2);
}

#[test]
fn a_destination_of_many_names_is_told_by_its_template() {
    let measured = Measured::new();
    let mqtt = measured.instrumentation(System::Mqtt);
    let topic = spanprof_messaging::Destination::from("sensors/7").template("sensors/{sensor}");
    mqtt.producer(topic).send(&mut (), &Message::new()).done();
    let sent = measured.one(SENT);
    assert_eq!(sent.attribute("messaging.destination.template"), Some("sensors/{sensor}"));
    assert_eq!(sent.attribute("messaging.destination.name"), None);
}

#[test]
fn waiting_is_told_by_where_it_was() {
    let measured = Measured::new();
    let consumer = measured.instrumentation(System::RocketMq).consumer("orders", "billing");
    let now = Instant::now();
    let received = now.checked_sub(Duration::from_secs(2)).expect("the machine runs for longer");
    let message = Message::new().stored(SystemTime::now() - Duration::from_secs(5)).received(received);
    consumer.process(&(), &message).done();
    consumer.process(&(), &Message::new()).done();
    let (queueing, awaited) = (measured.one(QUEUEING), measured.one(AWAIT));
    assert_eq!((queueing.count, awaited.count), (1, 1));
    // Three seconds at the broker and two in the client; a busy machine only makes the second longer.
    assert!((0.1..=3.1).contains(&queueing.sum), "{queueing:?}");
    assert!(awaited.sum >= 2.0, "{awaited:?}");
    assert_eq!(queueing.attribute("messaging.consumer.group.name"), Some("billing"));
    assert!(queueing.bounds.contains(&3600.0));
}

#[test]
fn a_polled_message_queues_once() {
    let measured = Measured::new();
    let consumer = measured.instrumentation(System::RocketMq).consumer("orders", "billing");
    let message = || Message::new().stored(SystemTime::now() - Duration::from_secs(1));
    let poll = consumer.poll();
    poll.many([(&(), message())]);
    consumer.process(&(), &message().received(Instant::now())).done();
    assert_eq!(measured.one(QUEUEING).count, 1);
    assert_eq!(measured.one(AWAIT).count, 1);
}
