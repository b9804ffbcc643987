//! The records, field by field. Numbers are never given a second meaning; what is added gets a new one.

use crate::durations::Durations;
use crate::facts::{SpanFacts, SpanRef};
use crate::told::{MOST_LINKS, SpanClass, SpanKind, ToldSpan};
use crate::traffic::{Counted, Source, TrafficKey};
use crate::wakers::WokenBy;

/// Bytes of a trace id and a span id, one behind the other.
const REF: usize = 24;
/// Links of a chain of wakers that are read.
const LONGEST_CHAIN: usize = 32;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ClassRecord {
    #[prost(string, tag = "1")]
    service: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    destination: String,
    #[prost(string, tag = "4")]
    group: String,
    #[prost(string, tag = "5")]
    operation: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FactsRecord {
    #[prost(bytes = "vec", tag = "1")]
    span: Vec<u8>,
    #[prost(uint64, optional, tag = "2")]
    begin_unix_ns: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    wall_ns: Option<u64>,
    #[prost(bool, tag = "4")]
    failed: bool,
    #[prost(uint64, tag = "5")]
    children_ns: u64,
    #[prost(uint32, tag = "6")]
    batch_size: u32,
    #[prost(uint64, tag = "7")]
    head_of_line_ns: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ChainRecord {
    #[prost(bytes = "vec", tag = "1")]
    span: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    links: Vec<LinkRecord>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LinkRecord {
    #[prost(uint64, tag = "1")]
    nanoseconds: u64,
    #[prost(string, tag = "2")]
    cause: String,
    #[prost(uint32, optional, tag = "3")]
    pid: Option<u32>,
    #[prost(uint32, optional, tag = "4")]
    tid: Option<u32>,
    #[prost(string, optional, tag = "5")]
    thread: Option<String>,
    #[prost(string, optional, tag = "6")]
    service: Option<String>,
    #[prost(string, optional, tag = "7")]
    trace_id: Option<String>,
    #[prost(string, optional, tag = "8")]
    span_id: Option<String>,
    #[prost(string, repeated, tag = "9")]
    frames: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ToldRecord {
    #[prost(bytes = "vec", tag = "1")]
    span: Vec<u8>,
    /// 8 bytes, or none.
    #[prost(bytes = "vec", tag = "2")]
    parent_id: Vec<u8>,
    /// As OTLP numbers them.
    #[prost(uint32, tag = "3")]
    kind: u32,
    #[prost(uint32, tag = "4")]
    class: u32,
    #[prost(fixed64, tag = "5")]
    begin_unix_ns: u64,
    #[prost(uint64, tag = "6")]
    wall_ns: u64,
    #[prost(bool, tag = "7")]
    failed: bool,
    #[prost(uint32, optional, tag = "8")]
    batch_size: Option<u32>,
    #[prost(uint32, optional, tag = "9")]
    attempt: Option<u32>,
    /// 24 bytes each.
    #[prost(bytes = "vec", tag = "10")]
    links: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TalliedRecord {
    #[prost(uint32, tag = "1")]
    class: u32,
    #[prost(uint32, tag = "2")]
    kind: u32,
    /// Whether the spans were only seen.
    #[prost(bool, tag = "3")]
    only_seen: bool,
    #[prost(uint64, tag = "4")]
    spans: u64,
    #[prost(uint64, tag = "5")]
    messages: u64,
    #[prost(uint64, tag = "6")]
    failed: u64,
    #[prost(uint32, repeated, tag = "7")]
    bins: Vec<u32>,
    /// As many as bins.
    #[prost(uint64, repeated, tag = "8")]
    counts: Vec<u64>,
    #[prost(uint64, tag = "9")]
    sum_ns: u64,
    #[prost(uint64, tag = "10")]
    longest_ns: u64,
}

impl ClassRecord {
    pub(super) fn new(class: &SpanClass) -> ClassRecord {
        ClassRecord {
            service: class.service.to_string(),
            name: class.name.to_string(),
            destination: class.destination.to_string(),
            group: class.group.to_string(),
            operation: class.operation.to_string(),
        }
    }

    pub(super) fn read(self) -> SpanClass {
        SpanClass {
            service: SpanClass::text(&self.service),
            name: SpanClass::text(&self.name),
            destination: SpanClass::text(&self.destination),
            group: SpanClass::text(&self.group),
            operation: SpanClass::text(&self.operation),
        }
    }
}

impl FactsRecord {
    pub(super) fn new(span: SpanRef, facts: &SpanFacts) -> FactsRecord {
        FactsRecord {
            span: to_bytes(span),
            begin_unix_ns: facts.begin_unix_ns,
            wall_ns: facts.wall_ns,
            failed: facts.failed,
            children_ns: facts.children_ns,
            batch_size: facts.batch_size,
            head_of_line_ns: facts.head_of_line_ns,
        }
    }

    pub(super) fn read(self) -> Option<(SpanRef, SpanFacts)> {
        let facts = SpanFacts {
            begin_unix_ns: self.begin_unix_ns,
            wall_ns: self.wall_ns,
            failed: self.failed,
            children_ns: self.children_ns,
            batch_size: self.batch_size,
            head_of_line_ns: self.head_of_line_ns,
        };
        Some((from_bytes(&self.span)?, facts))
    }
}

impl ChainRecord {
    pub(super) fn new(span: SpanRef, chain: &[WokenBy]) -> ChainRecord {
        let links = chain.iter().take(LONGEST_CHAIN).map(|link| LinkRecord {
            nanoseconds: link.nanoseconds,
            cause: link.cause.clone(),
            pid: link.pid,
            tid: link.tid,
            thread: link.thread.clone(),
            service: link.service.clone(),
            trace_id: link.trace_id.clone(),
            span_id: link.span_id.clone(),
            frames: link.frames.clone(),
        });
        ChainRecord { span: to_bytes(span), links: links.collect() }
    }

    /// None where it is broken, empty or longer than any that is written.
    pub(super) fn read(self) -> Option<(SpanRef, Vec<WokenBy>)> {
        let span = from_bytes(&self.span)?;
        let fits = |link: &LinkRecord| link.frames.len() <= crate::wakers::MAX_FRAMES;
        if self.links.is_empty() || self.links.len() > LONGEST_CHAIN || !self.links.iter().all(fits) {
            return None;
        }
        let links = self.links.into_iter().map(|link| WokenBy {
            nanoseconds: link.nanoseconds,
            cause: link.cause,
            pid: link.pid,
            tid: link.tid,
            thread: link.thread,
            service: link.service,
            trace_id: link.trace_id,
            span_id: link.span_id,
            frames: link.frames,
        });
        Some((span, links.collect()))
    }
}

impl ToldRecord {
    pub(super) fn new(told: &ToldSpan, class: u32) -> ToldRecord {
        ToldRecord {
            span: to_bytes(told.span),
            parent_id: told.parent_id.map_or_else(Vec::new, Vec::from),
            kind: told.kind as u32 + 1,
            class,
            begin_unix_ns: told.begin_unix_ns,
            wall_ns: told.wall_ns,
            failed: told.failed,
            batch_size: told.batch_size,
            attempt: told.attempt,
            links: told.links.iter().flat_map(|link| to_bytes(*link)).collect(),
        }
    }

    pub(super) fn read(self, classes: &[SpanClass]) -> Option<ToldSpan> {
        Some(ToldSpan {
            span: from_bytes(&self.span)?,
            parent_id: self.parent_id.try_into().ok(),
            kind: kind(self.kind)?,
            class: classes.get(self.class as usize)?.clone(),
            begin_unix_ns: self.begin_unix_ns,
            wall_ns: self.wall_ns,
            failed: self.failed,
            batch_size: self.batch_size,
            attempt: self.attempt,
            links: self.links.chunks(REF).take(MOST_LINKS).map(from_bytes).collect::<Option<_>>()?,
        })
    }
}

impl TalliedRecord {
    pub(super) fn new(key: &TrafficKey, counted: &Counted, class: u32) -> TalliedRecord {
        let (bins, counts) = counted.durations.bins().map(|(bin, count)| (u32::from(bin), count)).unzip();
        TalliedRecord {
            class,
            kind: key.kind as u32 + 1,
            only_seen: key.source == Source::Seen,
            spans: counted.spans,
            messages: counted.messages,
            failed: counted.failed,
            bins,
            counts,
            sum_ns: counted.durations.sum_ns(),
            longest_ns: counted.durations.longest_ns(),
        }
    }

    pub(super) fn read(self, classes: &[SpanClass]) -> Option<(TrafficKey, Counted)> {
        if self.bins.len() != self.counts.len() {
            return None;
        }
        let key = TrafficKey {
            class: classes.get(self.class as usize)?.clone(),
            kind: kind(self.kind)?,
            source: if self.only_seen { Source::Seen } else { Source::Told },
        };
        let bins = self.bins.into_iter().zip(self.counts);
        let counted = Counted {
            spans: self.spans,
            messages: self.messages,
            failed: self.failed,
            durations: Durations::from_bins(bins, self.sum_ns, self.longest_ns)?,
        };
        Some((key, counted))
    }
}

fn kind(number: u32) -> Option<SpanKind> {
    SpanKind::ALL.get(number.checked_sub(1)? as usize).copied()
}

fn to_bytes(span: SpanRef) -> Vec<u8> {
    [&span.trace_id[..], &span.span_id].concat()
}

fn from_bytes(bytes: &[u8]) -> Option<SpanRef> {
    let (trace_id, span_id) = bytes.split_at_checked(16)?;
    Some(SpanRef { trace_id: trace_id.try_into().ok()?, span_id: span_id.try_into().ok()? })
}
