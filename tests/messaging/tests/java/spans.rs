//! Spans of both sides in one form, and what has to be true between them.

use std::collections::HashMap;

use opentelemetry::trace::{SpanContext, SpanKind};
use opentelemetry::{SpanId, TraceId};
use opentelemetry_sdk::trace::SpanData;
use serde_json::Value;
use spanprof_brokers::RunningJavaProgram;

use crate::MESSAGES;

/// A span's trace and its own id.
pub(crate) type Ids = (TraceId, SpanId);

/// A span that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) ids: Ids,
    /// Invalid where it has none.
    pub(crate) parent: SpanId,
    pub(crate) links: Vec<Ids>,
    attributes: HashMap<String, String>,
}

/// Which version of the messaging conventions the agent follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conventions {
    /// Those that it follows by itself.
    Old,
    /// Those that it follows if it is told to.
    New,
}

impl Conventions {
    pub(crate) const BOTH: [Self; 2] = [Self::Old, Self::New];

    /// The agent's.
    pub(crate) fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Old => &[],
            Self::New => &[("OTEL_SEMCONV_STABILITY_OPT_IN", "messaging")],
        }
    }

    /// The name of a span that sends to a topic.
    pub(crate) fn send(self, topic: &str) -> String {
        match self {
            Self::Old => format!("{topic} publish"),
            Self::New => format!("send {topic}"),
        }
    }

    /// The name of a span that processes a message of a topic.
    pub(crate) fn process(self, topic: &str) -> String {
        match self {
            Self::Old => format!("{topic} process"),
            Self::New => format!("process {topic}"),
        }
    }

    /// A name for what one test does under these conventions alone.
    pub(crate) fn name(self, test: &str) -> String {
        format!("{test}-{self:?}").to_lowercase()
    }
}

/// All spans of a program that ends by itself.
pub(crate) fn until_its_end(mut program: RunningJavaProgram) -> Vec<Seen> {
    let lines = std::iter::from_fn(|| program.next_span().expect("the program does not fail"));
    lines.flat_map(|line| seen(&line)).collect()
}

/// The next spans of a program that goes on.
pub(crate) fn the_next(program: &mut RunningJavaProgram, number: usize) -> Vec<Seen> {
    let mut spans = Vec::new();
    while spans.len() < number {
        let line = program.next_span().expect("the program does not fail");
        spans.extend(seen(&line.expect("the program goes on")));
    }
    spans
}

/// Each message's process span is in the trace of the span that created the message, as its child, whoever made either.
/// Since the newer conventions it links to it as well.
pub(crate) fn assert_one_trace(created: &[Seen], processed: &[Seen], linked: bool) {
    let mut creators: HashMap<_, _> = created.iter().map(|span| (span.message(), span.ids)).collect();
    assert_eq!(creators.len(), created.len(), "a span for each message: {created:#?}");
    assert_eq!(processed.len(), created.len(), "{processed:#?}");
    for span in processed {
        let creator = creators.remove(span.message()).expect("each message is processed once");
        assert_eq!((span.ids.0, span.parent), creator, "{span:?}");
        assert_eq!(span.links, if linked { vec![creator] } else { Vec::new() }, "{span:?}");
    }
}

/// As many as there are messages, all of a name and a kind.
pub(crate) fn assert_all(spans: &[Seen], name: &str, kind: &SpanKind) {
    assert_eq!(spans.len(), MESSAGES, "{spans:#?}");
    for span in spans {
        assert_eq!((span.name.as_str(), &span.kind), (name, kind), "{span:?}");
    }
}

impl Seen {
    /// What tells the message from others of its topic: RocketMQ's id, or the offset in Kafka's only partition.
    pub(crate) fn message(&self) -> &str {
        ["messaging.message.id", "messaging.kafka.offset", "messaging.kafka.message.offset"]
            .into_iter()
            .find_map(|key| self.attribute(key))
            .unwrap_or_else(|| panic!("about no message: {self:?}"))
    }

    pub(crate) fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).map(String::as_str)
    }

    /// One of OTLP's spans in JSON.
    fn from_json(span: &Value) -> Option<Self> {
        let attributes = span["attributes"].as_array()?.iter().filter_map(|attribute| {
            let (_type, value) = attribute["value"].as_object()?.iter().next()?;
            Some((attribute["key"].as_str()?.to_owned(), value.as_str()?.to_owned()))
        });
        Some(Self {
            name: span["name"].as_str()?.to_owned(),
            kind: match span["kind"].as_u64()? {
                2 => SpanKind::Server,
                3 => SpanKind::Client,
                4 => SpanKind::Producer,
                5 => SpanKind::Consumer,
                _ => SpanKind::Internal,
            },
            ids: ids_in_json(span)?,
            parent: match span["parentSpanId"].as_str() {
                Some(parent) => SpanId::from_hex(parent).ok()?,
                None => SpanId::INVALID,
            },
            links: span["links"].as_array()?.iter().map(ids_in_json).collect::<Option<_>>()?,
            attributes: attributes.collect(),
        })
    }
}

fn ids_in_json(span: &Value) -> Option<Ids> {
    let trace = TraceId::from_hex(span["traceId"].as_str()?).ok()?;
    Some((trace, SpanId::from_hex(span["spanId"].as_str()?).ok()?))
}

/// The spans of a request to export them.
fn seen(line: &str) -> Vec<Seen> {
    let request: Value = serde_json::from_str(line).expect("the agent writes JSON");
    let resources = request["resourceSpans"].as_array().into_iter().flatten();
    let scopes = resources.filter_map(|resource| resource["scopeSpans"].as_array()).flatten();
    let spans = scopes.filter_map(|scope| scope["spans"].as_array()).flatten();
    spans.map(|span| Seen::from_json(span).unwrap_or_else(|| panic!("not a span: {span}"))).collect()
}

impl From<SpanData> for Seen {
    fn from(span: SpanData) -> Self {
        let ids = |context: &SpanContext| (context.trace_id(), context.span_id());
        let attributes = span.attributes.iter();
        Self {
            kind: span.span_kind,
            ids: ids(&span.span_context),
            parent: span.parent_span_id,
            links: span.links.iter().map(|link| ids(&link.span_context)).collect(),
            attributes: attributes.map(|known| (known.key.to_string(), known.value.to_string())).collect(),
            name: span.name.into_owned(),
        }
    }
}

/// The same of our spans.
pub(crate) fn ours(spans: Vec<SpanData>) -> Vec<Seen> {
    spans.into_iter().map(Seen::from).collect()
}
