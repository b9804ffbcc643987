//! What tracers told, as the page reads it: the spans around kept ones, and how many of each class there were.

use std::collections::BTreeMap;

use serde::Serialize;

use super::data::Strings;
use crate::Profile;
use crate::told::SpanKind;
use crate::traffic::{Counted, Source};

/// One entry per finished span that a kept one is surrounded by. Where a column says nothing else it holds positions in the
/// page's strings; -1 where nothing was said.
#[derive(Serialize, Default)]
pub(super) struct ToldTable {
    span_id: Vec<i64>,
    trace_id: Vec<i64>,
    parent_id: Vec<i64>,
    /// Positions in [`SpanKind::ALL`].
    kind: Vec<u8>,
    name: Vec<i64>,
    service: Vec<i64>,
    destination: Vec<i64>,
    operation: Vec<i64>,
    /// Microseconds since 1970.
    begin: Vec<u64>,
    /// Nanoseconds.
    wall: Vec<u64>,
    /// 1 where it failed.
    failed: Vec<u8>,
    /// Ids of the spans that it links to.
    links: Vec<Vec<i64>>,
}

impl ToldTable {
    pub(super) fn of(profile: &Profile, strings: &mut Strings) -> ToldTable {
        let mut table = ToldTable::default();
        for told in profile.relatives.iter() {
            let parent = told.parent().map(|parent| parent.span_id_hex());
            let kind = SpanKind::ALL.iter().position(|kind| *kind == told.kind).unwrap_or_default();
            table.span_id.push(strings.optional(Some(&told.span.span_id_hex())));
            table.trace_id.push(strings.optional(Some(&told.span.trace_id_hex())));
            table.parent_id.push(strings.optional(parent.as_deref()));
            table.kind.push(kind as u8);
            table.name.push(strings.optional(Some(&told.class.name)));
            table.service.push(strings.optional(Some(&told.class.service)));
            table.destination.push(strings.optional(Some(&told.class.destination)));
            table.operation.push(strings.optional(Some(&told.class.operation)));
            table.begin.push(told.begin_unix_ns / 1_000);
            table.wall.push(told.wall_ns);
            table.failed.push(u8::from(told.failed));
            let links = told.links.iter().map(|link| strings.optional(Some(&link.span_id_hex())));
            table.links.push(links.collect());
        }
        table
    }
}

/// One entry per destination, group, operation and service, and per span name where no destination was said. Columns as above.
#[derive(Serialize, Default)]
pub(super) struct TrafficTable {
    destination: Vec<i64>,
    group: Vec<i64>,
    operation: Vec<i64>,
    service: Vec<i64>,
    name: Vec<i64>,
    /// How many messages, or spans where they are about none.
    count: Vec<u64>,
    /// How many spans failed.
    failed: Vec<u64>,
    /// 1 where tracers told of all of them; 0 where those that were seen are counted.
    told: Vec<u8>,
    /// Half of the spans took no longer, in nanoseconds; -1 where none is known.
    median: Vec<i64>,
    /// 99 of 100 took no longer, in nanoseconds.
    tail: Vec<i64>,
}

impl TrafficTable {
    pub(super) fn of(profile: &Profile, strings: &mut Strings) -> TrafficTable {
        let mut classes: BTreeMap<[&str; 5], BTreeMap<Source, Counted>> = BTreeMap::new();
        for (key, counted) in profile.traffic.iter() {
            let class = &key.class;
            let name = if class.destination.is_empty() { &*class.name } else { "" };
            let texts = [&*class.destination, &*class.group, &*class.operation, &*class.service, name];
            classes.entry(texts).or_default().entry(key.source).or_default().merge(counted);
        }
        let mut table = TrafficTable::default();
        for ([destination, group, operation, service, name], sources) in classes {
            // What tracers told has all spans; what was seen has fewer of the same.
            let told = sources.get(&Source::Told);
            let Some(counted) = told.or_else(|| sources.get(&Source::Seen)) else { continue };
            for (column, text) in [
                (&mut table.destination, destination),
                (&mut table.group, group),
                (&mut table.operation, operation),
                (&mut table.service, service),
                (&mut table.name, name),
            ] {
                column.push(strings.optional(Some(text)));
            }
            let quantile = |part| counted.durations.quantile(part).and_then(|time| i64::try_from(time).ok());
            table.count.push(counted.messages.max(counted.spans));
            table.failed.push(counted.failed);
            table.told.push(u8::from(told.is_some()));
            table.median.push(quantile(0.5).unwrap_or(-1));
            table.tail.push(quantile(0.99).unwrap_or(-1));
        }
        table
    }
}
