//! The same as one request of OTLP: an `ExportMetricsServiceRequest`.
//!
//! What was counted of a service's spans is told as that service's, as if its own client had counted; the rest is the
//! agent's. All sums are cumulative, so that a request that was lost loses nothing but time.

mod message;

use std::collections::BTreeMap;

use prost::Message;

use super::family::{Family, FamilyKind, Histogram, Point, Unit, Value, families};
use super::snapshot::Snapshot;
use message::{
    CUMULATIVE, Data, ExportRequest, GaugeData, HistogramData, HistogramPoint, KeyValue, Metric, Number,
    NumberPoint, Resource, ResourceMetrics, Scope, ScopeMetrics, SumData,
};

/// The attribute that is the resource's.
const SERVICE: &str = "service.name";
/// The agent itself.
const AGENT: &str = "spanprof";

/// All metrics of a snapshot, not compressed.
pub fn request(snapshot: &Snapshot) -> Vec<u8> {
    let mut services: BTreeMap<String, Vec<Metric>> = BTreeMap::new();
    for family in families(snapshot) {
        let mut points: BTreeMap<String, Vec<Point>> = BTreeMap::new();
        for mut point in family.points.iter().cloned() {
            let service = point.attributes.iter().position(|(name, _)| *name == SERVICE);
            let service = service.map_or_else(|| AGENT.to_owned(), |place| point.attributes.remove(place).1);
            points.entry(service).or_default().push(point);
        }
        for (service, points) in points {
            services.entry(service).or_default().push(metric(&family, &points, snapshot));
        }
    }
    let scope = Scope { name: AGENT.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let resource_metrics = services.into_iter().map(|(service, metrics)| ResourceMetrics {
        resource: Some(Resource { attributes: vec![KeyValue::text(SERVICE, &service)] }),
        scope_metrics: vec![ScopeMetrics { scope: Some(scope.clone()), metrics }],
    });
    ExportRequest { resource_metrics: resource_metrics.collect() }.encode_to_vec()
}

fn metric(family: &Family, points: &[Point], snapshot: &Snapshot) -> Metric {
    let numbers = || points.iter().filter_map(|point| number(point, snapshot)).collect();
    let data = match family.kind {
        FamilyKind::Gauge => Data::Gauge(GaugeData { data_points: numbers() }),
        FamilyKind::Counter => Data::Sum(SumData {
            data_points: numbers(),
            aggregation_temporality: CUMULATIVE,
            is_monotonic: true,
        }),
        FamilyKind::Histogram => Data::Histogram(HistogramData {
            data_points: points.iter().filter_map(|point| histogram(point, snapshot)).collect(),
            aggregation_temporality: CUMULATIVE,
        }),
    };
    let unit = match family.unit {
        Unit::Seconds => "s",
        Unit::Bytes => "By",
        Unit::Of(things) => things,
    };
    let (name, description) = (family.name.to_owned(), family.help.to_owned());
    Metric { name, description, unit: unit.to_owned(), data: Some(data) }
}

fn number(point: &Point, snapshot: &Snapshot) -> Option<NumberPoint> {
    let value = match &point.value {
        Value::Whole(number) => Number::Whole(i64::try_from(*number).unwrap_or(i64::MAX)),
        Value::Real(number) => Number::Real(*number),
        Value::Histogram(_) => return None,
    };
    Some(NumberPoint {
        attributes: attributes(point),
        start_time_unix_nano: snapshot.start_unix_ns,
        time_unix_nano: snapshot.now_unix_ns,
        value: Some(value),
    })
}

fn histogram(point: &Point, snapshot: &Snapshot) -> Option<HistogramPoint> {
    let Value::Histogram(Histogram { count, sum_seconds, buckets }) = &point.value else { return None };
    let within = buckets.iter().map(|(_, number)| *number);
    // The last has no bound.
    let beyond = count - within.clone().sum::<u64>().min(*count);
    Some(HistogramPoint {
        attributes: attributes(point),
        start_time_unix_nano: snapshot.start_unix_ns,
        time_unix_nano: snapshot.now_unix_ns,
        count: *count,
        sum: Some(*sum_seconds),
        bucket_counts: within.chain([beyond]).collect(),
        explicit_bounds: buckets.iter().map(|(bound, _)| *bound).collect(),
    })
}

fn attributes(point: &Point) -> Vec<KeyValue> {
    point.attributes.iter().map(|(name, value)| KeyValue::text(name, value)).collect()
}

#[cfg(test)]
mod tests;
