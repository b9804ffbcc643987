//! What is known of spans beside their samples: a table by span, as their tracers told it and the agent worked it out.

use std::collections::HashMap;

use crate::profile::Profile;

/// A span by its ids, as labels have them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanIds {
    /// 32 lower-case hex characters.
    pub trace_id: String,
    /// 16 lower-case hex characters.
    pub span_id: String,
}

/// A span by its ids, in 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SpanRef {
    /// The trace's id.
    pub trace_id: [u8; 16],
    /// The span's.
    pub span_id: [u8; 8],
}

impl SpanRef {
    /// From ids as labels have them; none where they are not 32 and 16 hex digits.
    pub fn parse(trace_id: &str, span_id: &str) -> Option<SpanRef> {
        Some(SpanRef { trace_id: from_hex(trace_id)?, span_id: from_hex(span_id)? })
    }

    /// The trace's id in 32 hex digits.
    pub fn trace_id_hex(&self) -> String {
        to_hex(&self.trace_id)
    }

    /// The span's id in 16 hex digits.
    pub fn span_id_hex(&self) -> String {
        to_hex(&self.span_id)
    }
}

impl From<SpanRef> for SpanIds {
    fn from(span: SpanRef) -> SpanIds {
        SpanIds { trace_id: span.trace_id_hex(), span_id: span.span_id_hex() }
    }
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |character: u8| char::from(character).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(bytes)
}

/// What is known of a span beside its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpanFacts {
    /// When it began by its service's clock, in nanoseconds since 1970, where its tracer told.
    pub begin_unix_ns: Option<u64>,
    /// From its begin to its end, in nanoseconds, where its tracer told.
    pub wall_ns: Option<u64>,
    /// Whether its tracer told that it failed.
    pub failed: bool,
    /// In which at least one of its children in the same service was open, in nanoseconds: their samples have their
    /// own ids.
    pub children_ns: u64,
    /// How many messages came in one poll with the one that it processes; 0 where no such poll is known.
    pub batch_size: u32,
    /// How long neighbours of that poll were processed before it, in nanoseconds.
    pub head_of_line_ns: u64,
}

impl SpanFacts {
    /// Takes over what another window knows of the same span: what it tells replaces what was told before, and what it does
    /// not know stays.
    fn learn(&mut self, other: &SpanFacts) {
        self.begin_unix_ns = other.begin_unix_ns.or(self.begin_unix_ns);
        self.wall_ns = other.wall_ns.or(self.wall_ns);
        self.failed |= other.failed;
        self.children_ns = self.children_ns.max(other.children_ns);
        self.batch_size = self.batch_size.max(other.batch_size);
        self.head_of_line_ns = self.head_of_line_ns.max(other.head_of_line_ns);
    }
}

impl Profile {
    /// What is known of a span beside its samples.
    pub fn facts(&self, trace_id: &str, span_id: &str) -> Option<&SpanFacts> {
        self.span_facts.get(&SpanIds { trace_id: trace_id.to_owned(), span_id: span_id.to_owned() })
    }

    /// Takes over what another profile knows of spans.
    pub(crate) fn absorb_facts(&mut self, facts: &HashMap<SpanIds, SpanFacts>) {
        for (ids, facts) in facts {
            self.span_facts.entry(ids.clone()).or_default().learn(facts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let span = SpanRef { trace_id: *b"\x00\x01\xfe\xff4567890abcde", span_id: [0xab; 8] };
        let ids = SpanIds::from(span);
        assert_eq!((ids.trace_id.len(), ids.span_id.as_str()), (32, "abababababababab"));
        assert_eq!(SpanRef::parse(&ids.trace_id, &ids.span_id), Some(span));
        for bad in ["", "abababababababa", "abababababababag", "+bababababababab", "ababababababab\u{e9}"] {
            assert_eq!(SpanRef::parse(&ids.trace_id, bad), None, "{bad}");
        }
    }

    #[test]
    fn a_later_window_adds_what_the_earlier_did_not_know() {
        let ids = SpanIds::from(SpanRef::default());
        let mut whole = Profile::default();
        let earlier = SpanFacts { batch_size: 32, head_of_line_ns: 7, ..SpanFacts::default() };
        let later =
            SpanFacts { wall_ns: Some(9), begin_unix_ns: Some(1), failed: true, ..SpanFacts::default() };
        for facts in [earlier, later, SpanFacts::default()] {
            whole.absorb_facts(&HashMap::from([(ids.clone(), facts)]));
        }
        let expected = SpanFacts { batch_size: 32, head_of_line_ns: 7, ..later };
        assert_eq!(whole.facts(&ids.trace_id, &ids.span_id), Some(&expected));
    }
}
