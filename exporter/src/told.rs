//! Finished spans as their tracers told them: what a kept span is surrounded by.
//!
//! A message's story has more spans than the one that kept its ids: where it was created, perhaps in another service, how it
//! was received and settled, and what came in the same poll. Most of them have no sample here. This table has them, as far
//! as they were told to the agent.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::facts::SpanRef;
use crate::profile::Profile;

/// Who waits for whom: OpenTelemetry's kinds of span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum SpanKind {
    /// Work within a process.
    #[default]
    Internal,
    /// Answers a request.
    Server,
    /// Waits for an answer.
    Client,
    /// Hands a message on.
    Producer,
    /// Takes a message.
    Consumer,
}

impl SpanKind {
    /// All kinds.
    pub const ALL: [SpanKind; 5] =
        [SpanKind::Internal, SpanKind::Server, SpanKind::Client, SpanKind::Producer, SpanKind::Consumer];

    /// In OpenTelemetry's word: `internal`, `server`, `client`, `producer`, `consumer`.
    pub const fn as_str(self) -> &'static str {
        match self {
            SpanKind::Internal => "internal",
            SpanKind::Server => "server",
            SpanKind::Client => "client",
            SpanKind::Producer => "producer",
            SpanKind::Consumer => "consumer",
        }
    }
}

/// Service, name, destination, group and operation: what folded spans are told apart by. An empty text is "not said".
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SpanClass {
    /// `service.name`.
    pub service: Arc<str>,
    /// The span's name.
    pub name: Arc<str>,
    /// `messaging.destination.name`.
    pub destination: Arc<str>,
    /// `messaging.consumer.group.name`.
    pub group: Arc<str>,
    /// `messaging.operation.name`.
    pub operation: Arc<str>,
}

/// The longest text of a class that is kept, in bytes.
pub(crate) const LONGEST_TEXT: usize = 256;

impl SpanClass {
    /// As `text`, no longer than what is kept of any: cut at a character's edge.
    pub fn text(text: &str) -> Arc<str> {
        let mut end = text.len().min(LONGEST_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text[..end].into()
    }

    /// What stands for all classes that had no room of their own.
    pub fn other() -> SpanClass {
        SpanClass { name: "[other]".into(), ..SpanClass::default() }
    }
}

/// A finished span.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToldSpan {
    /// Itself.
    pub span: SpanRef,
    /// Its parent's id, in the same trace.
    pub parent_id: Option<[u8; 8]>,
    /// Its kind.
    pub kind: SpanKind,
    /// What it shares with others.
    pub class: SpanClass,
    /// When it began by its service's clock, in nanoseconds since 1970.
    pub begin_unix_ns: u64,
    /// How long it took, in nanoseconds.
    pub wall_ns: u64,
    /// Whether its status is an error.
    pub failed: bool,
    /// How many messages it is about, where it said so.
    pub batch_size: Option<u32>,
    /// Which delivery of its message it is about, from 1, where it said so.
    pub attempt: Option<u32>,
    /// The spans that it links to: a batch's messages, a message's creation. At most [`MOST_LINKS`].
    pub links: Vec<SpanRef>,
}

impl ToldSpan {
    /// Its parent.
    pub fn parent(&self) -> Option<SpanRef> {
        self.parent_id.map(|span_id| SpanRef { span_id, ..self.span })
    }

    /// In which its message was created, as far as it says: its only link, or its parent.
    pub fn creation(&self) -> Option<SpanRef> {
        match &*self.links {
            [] => self.parent(),
            [creation] => Some(*creation),
            _ => None,
        }
    }
}

/// Links that are kept of one span.
pub const MOST_LINKS: usize = 64;
/// Finished spans around one kept span.
pub const MOST_AROUND: usize = 100;
/// Finished spans in one window.
pub const MOST_IN_WINDOW: usize = 20_000;
/// Finished spans in a profile of many windows: 30 MB.
const MOST: usize = 100_000;

/// Finished spans around those that kept their ids, these included; by their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relatives {
    spans: BTreeMap<SpanRef, ToldSpan>,
    left_out: u64,
}

impl Relatives {
    /// Takes a span in, cut to its limits; what is told again replaces what was told before. What there is no room for is
    /// counted.
    pub fn insert(&mut self, mut span: ToldSpan) {
        if self.spans.len() >= MOST && !self.spans.contains_key(&span.span) {
            self.left_out(1);
            return;
        }
        span.links.truncate(MOST_LINKS);
        self.spans.insert(span.span, span);
    }

    /// So many more there were than had room.
    pub fn left_out(&mut self, number: u64) {
        self.left_out = self.left_out.saturating_add(number);
    }

    /// How many there was no room for.
    pub fn number_left_out(&self) -> u64 {
        self.left_out
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// All, by trace.
    pub fn iter(&self) -> impl Iterator<Item = &ToldSpan> {
        self.spans.values()
    }

    /// One of them.
    pub fn get(&self, span: &SpanRef) -> Option<&ToldSpan> {
        self.spans.get(span)
    }

    /// Those of one trace.
    pub fn of_trace(&self, trace_id: [u8; 16]) -> impl Iterator<Item = &ToldSpan> {
        let first = SpanRef { trace_id, span_id: [0; 8] };
        let last = SpanRef { trace_id, span_id: [0xff; 8] };
        self.spans.range(first..=last).map(|(_, span)| span)
    }
}

impl Profile {
    /// Takes over what another profile knows of finished spans.
    pub(crate) fn absorb_relatives(&mut self, other: &Relatives) {
        for span in other.iter() {
            self.relatives.insert(span.clone());
        }
        self.relatives.left_out(other.left_out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(trace: u8, number: u8) -> ToldSpan {
        ToldSpan { span: SpanRef { trace_id: [trace; 16], span_id: [number; 8] }, ..ToldSpan::default() }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(&*SpanClass::text("short"), "short");
        let long = "ä".repeat(200);
        assert_eq!(&*SpanClass::text(&long), "ä".repeat(128));
        assert_eq!(SpanClass::text(&format!("x{long}")).len(), 255);
    }

    #[test]
    fn a_trace_is_found_with_all_its_spans_and_no_others() {
        let mut relatives = Relatives::default();
        for (trace, number) in [(1, 1), (2, 0), (2, 0xff), (3, 1), (2, 0xff)] {
            relatives.insert(span(trace, number));
        }
        let numbers: Vec<u8> = relatives.of_trace([2; 16]).map(|span| span.span.span_id[0]).collect();
        assert_eq!((numbers, relatives.len()), (vec![0, 0xff], 4));
    }

    #[test]
    fn links_beyond_the_limit_are_cut() {
        let mut relatives = Relatives::default();
        let links = vec![SpanRef::default(); MOST_LINKS + 1];
        relatives.insert(ToldSpan { links, ..span(1, 1) });
        assert_eq!(relatives.iter().map(|span| span.links.len()).sum::<usize>(), MOST_LINKS);
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let mut relatives = Relatives::default();
        for number in 0..MOST as u64 + 3 {
            let id = SpanRef { trace_id: [1; 16], span_id: number.to_be_bytes() };
            relatives.insert(ToldSpan { span: id, ..ToldSpan::default() });
        }
        relatives
            .insert(ToldSpan { span: SpanRef { span_id: [0; 8], trace_id: [1; 16] }, ..ToldSpan::default() });
        assert_eq!((relatives.len(), relatives.number_left_out()), (MOST, 3));
    }
}
