//! How many spans there were, how long they took and how many failed: by class, also of those that folded.
//!
//! Samples say where time went, and nothing of how often something was done. That is counted here: of spans that tracers
//! told of, exactly; where no tracer tells anything, of those that were seen, which are fewer than there were.

use std::collections::BTreeMap;

use crate::durations::Durations;
use crate::profile::Profile;
use crate::told::{SpanClass, SpanKind};

/// How spans became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Their tracer told of them when they ended.
    Told,
    /// They were seen on a thread. Short ones may have been missed; durations are what each took at least in one window; a
    /// failure is not known.
    Seen,
}

impl Source {
    /// As in files: `told` or `seen`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Source::Told => "told",
            Source::Seen => "seen",
        }
    }
}

/// What is counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrafficKey {
    /// What the spans share.
    pub class: SpanClass,
    /// Their kind; `Internal` where they were only seen.
    pub kind: SpanKind,
    /// How they became known.
    pub source: Source,
}

/// Spans of one class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// How many.
    pub spans: u64,
    /// How many messages these were about: more where one is about a batch.
    pub messages: u64,
    /// How many of the spans failed.
    pub failed: u64,
    /// How long they took.
    pub durations: Durations,
}

impl Counted {
    /// Counts one span that was about so many messages.
    pub fn add(&mut self, wall_ns: u64, messages: u64, failed: bool) {
        self.spans = self.spans.saturating_add(1);
        self.messages = self.messages.saturating_add(messages);
        self.failed = self.failed.saturating_add(u64::from(failed));
        self.durations.add(wall_ns);
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: &Counted) {
        self.spans = self.spans.saturating_add(other.spans);
        self.messages = self.messages.saturating_add(other.messages);
        self.failed = self.failed.saturating_add(other.failed);
        self.durations.merge(&other.durations);
    }
}

/// Rows that a table may have: the agent's 1,024 classes, as they are told and seen, and those of others'. A row takes 4.6 KB
/// at most, and mostly a few hundred bytes.
const MOST: usize = 4_096;

/// Spans counted by class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    rows: BTreeMap<TrafficKey, Counted>,
}

impl Traffic {
    /// Adds to a class; to the one for all others where there is no room for one more.
    pub fn add(&mut self, key: TrafficKey, counted: &Counted) {
        let has_room = self.rows.len() < MOST || self.rows.contains_key(&key);
        let key = if has_room { key } else { TrafficKey { class: SpanClass::other(), ..key } };
        self.rows.entry(key).or_default().merge(counted);
    }

    /// Adds all of another's.
    pub fn absorb(&mut self, other: &Traffic) {
        for (key, counted) in &other.rows {
            self.add(key.clone(), counted);
        }
    }

    /// All rows, by class.
    pub fn iter(&self) -> impl Iterator<Item = (&TrafficKey, &Counted)> {
        self.rows.iter()
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Profile {
    /// Adds what another profile counted.
    pub(crate) fn absorb_traffic(&mut self, other: &Traffic) {
        self.traffic.absorb(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> TrafficKey {
        let class = SpanClass { name: name.into(), ..SpanClass::default() };
        TrafficKey { class, kind: SpanKind::Consumer, source: Source::Told }
    }

    fn one() -> Counted {
        let mut counted = Counted::default();
        counted.add(7_000_000, 32, true);
        counted
    }

    #[test]
    fn windows_add_up() {
        let mut whole = Traffic::default();
        for name in ["a", "b", "a"] {
            let mut window = Traffic::default();
            window.add(key(name), &one());
            whole.absorb(&window);
        }
        let of = |traffic: &Traffic| -> Vec<(u64, u64, u64, u64)> {
            let rows =
                traffic.iter().map(|(_, row)| (row.spans, row.messages, row.failed, row.durations.count()));
            rows.collect()
        };
        assert_eq!(of(&whole), [(2, 64, 2, 2), (1, 32, 1, 1)]);
    }

    #[test]
    fn a_full_table_puts_what_is_new_together() {
        let mut traffic = Traffic::default();
        for number in 0..MOST + 10 {
            traffic.add(key(&number.to_string()), &one());
        }
        traffic.add(key("0"), &one());
        assert_eq!(traffic.len(), MOST + 1);
        let other = TrafficKey { class: SpanClass::other(), ..key("") };
        let rows: Vec<u64> =
            traffic.iter().filter(|(row, _)| **row == other).map(|(_, row)| row.spans).collect();
        assert_eq!(rows, [10]);
    }
}
