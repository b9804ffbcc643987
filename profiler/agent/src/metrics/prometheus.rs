//! The text that Prometheus scrapes.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text as text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit as TextUnit};

use super::family::{Family, FamilyKind, Unit, Value, families};
use super::snapshot::Snapshot;

/// What [`prometheus_text`] is, for an answer's header.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of a snapshot in Prometheus' text format 0.0.4.
///
/// Names are OpenTelemetry's as Prometheus spells them: `messaging.process.duration` in seconds is
/// `messaging_process_duration_seconds`, and counters end in `_total`.
pub fn prometheus_text(snapshot: &Snapshot) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(families(snapshot))));
    let mut written = String::new();
    // Writing into a string can't fail.
    let _ = text::encode(&mut written, &registry);
    written
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in self.0.iter().filter(|family| !family.points.is_empty()) {
            write(family, &mut encoder)?;
        }
        Ok(())
    }
}

fn write(family: &Family, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let name = family.name.replace('.', "_");
    let unit = match family.unit {
        Unit::Seconds => Some(TextUnit::Seconds),
        Unit::Bytes => Some(TextUnit::Bytes),
        Unit::Of(_) => None,
    };
    let kind = match family.kind {
        FamilyKind::Counter => MetricType::Counter,
        FamilyKind::Gauge => MetricType::Gauge,
        FamilyKind::Histogram => MetricType::Histogram,
    };
    let mut encoder = encoder.encode_descriptor(&name, family.help, unit.as_ref(), kind)?;
    for point in &family.points {
        let labels: Vec<(String, &str)> =
            point.attributes.iter().map(|(name, value)| (name.replace('.', "_"), value.as_str())).collect();
        match labels.is_empty() {
            true => write_value(&point.value, family.kind, &mut encoder)?,
            false => write_value(&point.value, family.kind, &mut encoder.encode_family(&labels)?)?,
        }
    }
    Ok(())
}

fn write_value(value: &Value, kind: FamilyKind, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
    match (value, kind) {
        (Value::Histogram(histogram), _) => encoder.encode_histogram::<NoLabelSet>(
            histogram.sum_seconds,
            histogram.count,
            &histogram.buckets,
            None,
        ),
        (Value::Whole(number), FamilyKind::Gauge) => encoder.encode_gauge(number),
        (Value::Real(number), FamilyKind::Gauge) => encoder.encode_gauge(number),
        (Value::Whole(number), _) => encoder.encode_counter::<NoLabelSet, u64, f64>(number, None),
        (Value::Real(number), _) => encoder.encode_counter::<NoLabelSet, f64, f64>(number, None),
    }
}

#[cfg(test)]
mod tests;
