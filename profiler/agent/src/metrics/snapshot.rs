//! What is counted, and by whom it is set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use spanprof_exporter::{Source, SpanKind, Traffic, TrafficKey};

use crate::spans::SpanLosses;
use crate::spans::otlp::IntakeCounts;
use crate::summary::{AgentCost, Summary, loss};

/// All that is counted since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// When the agent started, in nanoseconds since 1970.
    pub start_unix_ns: u64,
    /// When this was taken.
    pub now_unix_ns: u64,
    /// Windows captured.
    pub windows: u64,
    /// Samples in them.
    pub samples: u64,
    /// What is missing, by cause as in `summary.json`.
    pub losses: BTreeMap<String, u64>,
    /// Processes in the last window.
    pub targets: u64,
    /// Windows by where they go.
    pub sinks: BTreeMap<String, SinkCounts>,
    /// Finished spans that were told.
    pub spans: SpanCounts,
    /// Spans by class.
    pub traffic: Traffic,
    /// Messages that came to the application, by service, destination, group and the operation that counts them.
    pub consumed: BTreeMap<[Arc<str>; 4], u64>,
    /// The agent's own cost.
    pub own: Own,
}

/// What became of windows on their way to one place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SinkCounts {
    /// That arrived.
    pub arrived: u64,
    /// That did not, and won't.
    pub lost: u64,
}

/// What came in of finished spans.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpanCounts {
    /// Requests and spans.
    pub intake: IntakeCounts,
    /// What of them is not in the index.
    pub losses: SpanLosses,
}

/// What the agent takes itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Own {
    /// CPU time since it started, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory that it has now, in bytes.
    pub resident_bytes: u64,
}

/// The counters, shared by the capture and whoever tells of them.
#[derive(Debug)]
pub struct Metrics {
    counted: Mutex<Counted>,
}

#[derive(Debug)]
struct Counted {
    snapshot: Snapshot,
    /// Services, destinations and groups of which a poll was told: there that counts messages, and not their processing.
    polling: BTreeSet<[Arc<str>; 3]>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// Nothing is counted yet.
    pub fn new() -> Metrics {
        let snapshot = Snapshot { start_unix_ns: unix_now(), ..Snapshot::default() };
        Metrics { counted: Mutex::new(Counted { snapshot, polling: BTreeSet::new() }) }
    }

    /// Counts a captured window.
    pub fn add_window(&self, summary: &Summary) {
        let mut counted = self.locked();
        let snapshot = &mut counted.snapshot;
        snapshot.windows += 1;
        snapshot.samples = snapshot.samples.saturating_add(summary.samples);
        snapshot.targets = summary.targets.len() as u64;
        for (cause, number) in &summary.losses {
            let sum = snapshot.losses.entry(cause.clone()).or_default();
            *sum = sum.saturating_add(*number);
        }
    }

    /// Counts the spans of a window, captured or received.
    pub fn add_traffic(&self, traffic: &Traffic) {
        self.locked().add_traffic(traffic);
    }

    /// Sets what became of the windows that go to one place. A name and a password in its address are left out.
    pub fn set_sink(&self, name: &str, counts: SinkCounts) {
        self.locked().snapshot.sinks.insert(without_user(name), counts);
    }

    /// Sets what came of finished spans.
    pub fn set_spans(&self, counts: SpanCounts) {
        self.locked().snapshot.spans = counts;
    }

    /// All that is counted up to now, and what the agent costs now.
    pub fn snapshot(&self) -> Snapshot {
        let snapshot = self.locked().snapshot.clone();
        Snapshot { now_unix_ns: unix_now(), own: Own::now(), ..snapshot }
    }

    fn locked(&self) -> MutexGuard<'_, Counted> {
        // Each number is set whole.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn add_traffic(&mut self, traffic: &Traffic) {
        self.snapshot.traffic.absorb(traffic);
        let told = || traffic.iter().filter(|(key, _)| key.source == Source::Told && is_messaging(key));
        for (key, _) in told().filter(|(key, _)| is_poll(key)) {
            if !self.polling.contains(&place(key)) && self.polling.len() < MOST_PLACES {
                self.polling.insert(place(key));
            }
        }
        for (key, counted) in told() {
            let counts = match is_poll(key) {
                true => true,
                false => is_processing(key) && !self.polling.contains(&place(key)),
            };
            if counts {
                let [service, destination, group] = place(key);
                let of = [service, destination, group, Arc::clone(&key.class.operation)];
                let has_room = self.snapshot.consumed.len() < MOST_PLACES;
                if has_room || self.snapshot.consumed.contains_key(&of) {
                    let sum = self.snapshot.consumed.entry(of).or_default();
                    *sum = sum.saturating_add(counted.messages);
                }
            }
        }
    }
}

/// As many as a table of traffic has rows.
const MOST_PLACES: usize = 4_096;

fn place(key: &TrafficKey) -> [Arc<str>; 3] {
    [&key.class.service, &key.class.destination, &key.class.group].map(Arc::clone)
}

/// Whether spans of this class are about messages.
pub(super) fn is_messaging(key: &TrafficKey) -> bool {
    !key.class.destination.is_empty() || !key.class.operation.is_empty()
}

/// Whether they fetch messages.
pub(super) fn is_poll(key: &TrafficKey) -> bool {
    matches!(key.kind, SpanKind::Consumer | SpanKind::Client)
        && matches!(&*key.class.operation, "receive" | "poll")
}

/// Whether they process one that came.
pub(super) fn is_processing(key: &TrafficKey) -> bool {
    key.kind == SpanKind::Consumer && !is_poll(key)
}

impl Own {
    fn now() -> Own {
        // The second number is what is resident, in pages.
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
        // SAFETY: the call reads nothing of ours; it gives -1 where it does not know.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let resident_bytes = pages.saturating_mul(u64::try_from(page).unwrap_or(0));
        Own { cpu_ns: AgentCost::now().cpu_ns, resident_bytes }
    }
}

/// An address as it was given without what signs in: metrics are read by more people than command lines.
fn without_user(name: &str) -> String {
    let Some((scheme, rest)) = name.split_once("://") else { return name.to_owned() };
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.rsplit_once('@') {
        Some((user, _)) => format!("{scheme}://{}", &rest[user.len() + 1..]),
        None => name.to_owned(),
    }
}

impl Snapshot {
    /// Stacks that end before their thread's start.
    pub fn stacks_truncated(&self) -> u64 {
        self.losses.get(loss::STACKS_TRUNCATED).copied().unwrap_or(0)
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use spanprof_exporter::{Counted, SpanClass};

    use super::*;

    fn window(rows: &[(SpanKind, &str, u64)]) -> Traffic {
        let mut traffic = Traffic::default();
        for (kind, operation, messages) in rows {
            let class = SpanClass {
                service: "billing".into(),
                destination: "orders".into(),
                operation: (*operation).into(),
                ..SpanClass::default()
            };
            let mut counted = Counted::default();
            counted.add(5_000_000, *messages, false);
            traffic.add(TrafficKey { class, kind: *kind, source: Source::Told }, &counted);
        }
        traffic
    }

    fn consumed(metrics: &Metrics) -> Vec<(String, u64)> {
        let consumed = metrics.snapshot().consumed;
        consumed.into_iter().map(|([.., operation], number)| (operation.to_string(), number)).collect()
    }

    #[test]
    fn messages_count_at_the_poll_and_where_nobody_polls_at_their_processing() {
        let metrics = Metrics::new();
        metrics.add_traffic(&window(&[(SpanKind::Consumer, "process", 1), (SpanKind::Producer, "send", 9)]));
        assert_eq!(consumed(&metrics), [("process".to_owned(), 1)]);
        metrics
            .add_traffic(&window(&[(SpanKind::Client, "receive", 32), (SpanKind::Consumer, "process", 32)]));
        metrics.add_traffic(&window(&[(SpanKind::Consumer, "process", 7), (SpanKind::Client, "ack", 7)]));
        assert_eq!(consumed(&metrics), [("process".to_owned(), 1), ("receive".to_owned(), 32)]);
    }

    #[test]
    fn windows_add_up_and_the_last_says_how_many_targets_there_are() {
        let metrics = Metrics::new();
        let summary = Summary {
            samples: 7,
            losses: [(loss::STACKS_TRUNCATED.to_owned(), 2)].into(),
            targets: vec![Default::default(); 3],
            ..Summary::default()
        };
        metrics.add_window(&summary);
        metrics.add_window(&Summary { targets: Vec::new(), ..summary });
        let snapshot = metrics.snapshot();
        assert_eq!((snapshot.windows, snapshot.samples, snapshot.targets), (2, 14, 0));
        assert_eq!(snapshot.stacks_truncated(), 4);
        assert!(snapshot.own.resident_bytes > 100_000 && snapshot.now_unix_ns >= snapshot.start_unix_ns);
    }

    #[test]
    fn addresses_are_told_without_passwords() {
        for (given, told) in [
            ("https://me:secret@example.org/a@b", "https://example.org/a@b"),
            ("http://localhost:4040", "http://localhost:4040"),
            ("/var/lib/me@home", "/var/lib/me@home"),
        ] {
            assert_eq!(without_user(given), told);
        }
    }
}
