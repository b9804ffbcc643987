use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Metric as Read, metric, number_data_point,
};
use spanprof_exporter::{Counted, Source, SpanClass, SpanKind, Traffic, TrafficKey};

use super::*;
use crate::metrics::Metrics;
use crate::summary::Summary;

fn metrics() -> Metrics {
    let metrics = Metrics::new();
    let class = SpanClass {
        service: "billing".into(),
        destination: "or\"ders\n".into(),
        operation: "process".into(),
        ..SpanClass::default()
    };
    let mut counted = Counted::default();
    for milliseconds in [5, 7, 20_000] {
        counted.add(milliseconds * 1_000_000, 1, false);
    }
    let mut traffic = Traffic::default();
    traffic.add(TrafficKey { class, kind: SpanKind::Consumer, source: Source::Told }, &counted);
    metrics.add_traffic(&traffic);
    metrics.add_window(&Summary { samples: 99, ..Summary::default() });
    metrics
}

/// As the protocol's own types read it: the metrics of each service.
fn read(bytes: &[u8]) -> BTreeMap<String, Vec<Read>> {
    let request = ExportMetricsServiceRequest::decode(bytes).expect("a request of OTLP");
    let service = |attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue]| {
        let value = attributes.iter().find(|attribute| attribute.key == "service.name");
        match value.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
            Some(any_value::Value::StringValue(text)) => text.clone(),
            other => panic!("a resource without a service: {other:?}"),
        }
    };
    let resources = request.resource_metrics.into_iter().map(|resource| {
        let name = service(&resource.resource.as_ref().expect("a resource").attributes);
        (name, resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics).collect())
    });
    resources.collect()
}

fn one<'a>(metrics: &'a [Read], name: &str) -> &'a Read {
    metrics.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("{name} of {metrics:#?}"))
}

#[test]
fn the_protocols_own_types_read_it() {
    let snapshot = metrics().snapshot();
    let services = read(&request(&snapshot));
    assert_eq!(services.keys().collect::<Vec<_>>(), ["billing", "spanprof"]);

    let duration = one(&services["billing"], "messaging.process.duration");
    let Some(metric::Data::Histogram(histogram)) = &duration.data else { panic!("{duration:?}") };
    assert_eq!(histogram.aggregation_temporality, AggregationTemporality::Cumulative as i32);
    let point = &histogram.data_points[0];
    assert_eq!((duration.unit.as_str(), point.count, point.sum), ("s", 3, Some(20.012)));
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    assert_eq!(point.bucket_counts.iter().sum::<u64>(), 3);
    assert_eq!((point.bucket_counts[0], point.bucket_counts[1], point.bucket_counts[14]), (1, 1, 1));
    assert_eq!((point.explicit_bounds[0], point.explicit_bounds[13]), (0.005, 10.0));
    let names: Vec<&str> = point.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert_eq!(names, ["messaging.destination.name", "messaging.operation.name"]);

    let samples = one(&services["spanprof"], "spanprof.samples");
    let Some(metric::Data::Sum(sum)) = &samples.data else { panic!("{samples:?}") };
    assert!(sum.is_monotonic);
    assert_eq!(sum.data_points[0].value, Some(number_data_point::Value::AsInt(99)));
    assert_eq!(sum.data_points[0].start_time_unix_nano, snapshot.start_unix_ns);
    assert_eq!(sum.data_points[0].time_unix_nano, snapshot.now_unix_ns);
    let memory = one(&services["spanprof"], "process.memory.usage");
    assert!(matches!(memory.data, Some(metric::Data::Gauge(_))) && memory.unit == "By", "{memory:?}");
}

#[test]
fn both_ways_say_the_same() {
    let snapshot = metrics().snapshot();
    let sent: usize = read(&request(&snapshot)).values().map(Vec::len).sum();
    let text = crate::metrics::prometheus_text(&snapshot);
    assert_eq!(text.lines().filter(|line| line.starts_with("# TYPE")).count(), sent);
}
