//! What is shown: the last windows added up, as rows.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use spanprof_exporter::analysis::{self, FunctionTime, Times};
use spanprof_exporter::{Label, Profile, SampleFilter, WokenBy, label};

use crate::cli::words;
use crate::recorder::Window;
use crate::summary::Summary;

/// Messages in the list; nobody scrolls further.
const MOST_MESSAGES: usize = 200;
/// Functions of one message.
const MOST_FUNCTIONS: usize = 12;

/// The windows of the last while.
#[derive(Debug)]
pub(super) struct History {
    length: Duration,
    windows: VecDeque<Profile>,
    summary: Summary,
}

impl History {
    /// Nothing yet; keeps windows of so much time together.
    pub(super) fn new(length: Duration) -> History {
        History { length, windows: VecDeque::new(), summary: Summary::default() }
    }

    /// Takes one window; the oldest go.
    pub(super) fn add(&mut self, window: Window) {
        self.windows.push_back(window.profile);
        self.summary = window.summary;
        let limit = self.length.as_nanos();
        let sum = |windows: &VecDeque<Profile>| -> u128 {
            windows.iter().map(|window| u128::from(window.duration_nanoseconds)).sum()
        };
        while self.windows.len() > 1 && sum(&self.windows) > limit {
            self.windows.pop_front();
        }
    }
}

/// One destination with a group, an operation and a service.
#[derive(Debug, Clone)]
pub(super) struct DestinationRow {
    pub(super) name: String,
    pub(super) about: String,
    /// Spans of it that kept their ids.
    pub(super) spans: usize,
    pub(super) times: Times,
    pub(super) wait: &'static str,
    pub(super) cause: String,
}

/// One message.
#[derive(Debug, Clone)]
pub(super) struct MessageRow {
    pub(super) span_id: String,
    pub(super) trace_id: String,
    pub(super) name: String,
    pub(super) about: String,
    /// `slow` or `failed`; empty for normal ones.
    pub(super) kept: String,
    /// From its begin to its end, where its tracer told; else what was seen of it.
    pub(super) took_ns: u64,
    pub(super) times: Times,
    pub(super) wait: &'static str,
    pub(super) cause: String,
    pub(super) woken_by: Vec<WokenBy>,
}

/// All that one picture shows.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) seconds: f64,
    pub(super) processes: usize,
    pub(super) services: Vec<String>,
    /// What the last window lost, in words.
    pub(super) losses: String,
    pub(super) destinations: Vec<DestinationRow>,
    pub(super) messages: Vec<MessageRow>,
    profile: Profile,
}

impl View {
    /// The picture of what was captured so far.
    pub(super) fn of(history: &History) -> View {
        let mut profile = Profile::default();
        for window in &history.windows {
            profile.absorb(window);
        }
        let seconds: f64 =
            history.windows.iter().map(|window| window.duration_nanoseconds as f64 / 1e9).sum();
        let mut services: Vec<String> = history
            .summary
            .targets
            .iter()
            .map(|target| target.service.clone())
            .filter(|name| !name.is_empty())
            .collect();
        services.sort();
        services.dedup();
        View {
            // The sum of nothing is -0.
            seconds: seconds.abs(),
            processes: history.summary.targets.len(),
            services,
            losses: words::losses(&history.summary),
            destinations: destinations(&profile),
            messages: messages(&profile),
            profile,
        }
    }

    /// Where one message's time went, function by function, with what they called.
    pub(super) fn functions(&self, message: &MessageRow) -> Vec<FunctionTime> {
        let mut functions = analysis::functions(&self.profile, &SampleFilter::span(message.span_id.clone()));
        functions.retain(|function| !function.is_runtime);
        functions.sort_by_key(|function| std::cmp::Reverse(function.total.total_ns()));
        functions.truncate(MOST_FUNCTIONS);
        functions
    }
}

fn destinations(profile: &Profile) -> Vec<DestinationRow> {
    let is_span = |row: &analysis::DestinationTime| row.destination.is_some() || row.operation.is_some();
    analysis::destinations(profile)
        .into_iter()
        .filter(is_span)
        .map(|row| DestinationRow {
            name: row.destination.clone().unwrap_or_else(|| "(no destination)".into()),
            about: joined([row.operation, row.consumer_group, row.service]),
            spans: row.spans,
            times: row.times,
            wait: row.main_wait.map_or("", |wait| wait.as_str()),
            cause: row.main_cause,
        })
        .collect()
}

fn messages(profile: &Profile) -> Vec<MessageRow> {
    let reasons = reasons(profile);
    let mut rows: Vec<MessageRow> = analysis::spans(profile)
        .into_iter()
        .map(|span| {
            let trace_id = span.trace_id.clone().unwrap_or_default();
            let fallback = joined([span.operation.clone(), span.destination.clone()]);
            MessageRow {
                name: span.span_name.clone().unwrap_or(fallback),
                about: joined([span.destination.clone(), span.consumer_group.clone(), span.service.clone()]),
                kept: reasons.get(span.span_id.as_str()).copied().unwrap_or_default().to_owned(),
                took_ns: span.wall_ns.unwrap_or_else(|| span.total_ns()),
                times: span.times(),
                wait: span.main_wait.map_or("", |wait| wait.as_str()),
                woken_by: profile.wakers.of(span.trace_id.as_deref(), &span.span_id).to_vec(),
                cause: span.main_cause,
                span_id: span.span_id,
                trace_id,
            }
        })
        .collect();
    // Slow and failed ones first of all; where nothing is marked yet, the longest.
    rows.sort_by_key(|row| (row.kept.is_empty(), std::cmp::Reverse(row.took_ns)));
    rows.truncate(MOST_MESSAGES);
    rows
}

/// Why spans keep their ids, where that is another reason than to be compared with.
fn reasons(profile: &Profile) -> HashMap<&str, &str> {
    let place = |labels: &[Label], key: &str| labels.iter().position(|label| &*label.key == key);
    let mut reasons = HashMap::new();
    for labels in profile.label_sets() {
        let (Some(span), Some(kept)) = (place(labels, label::SPAN_ID), place(labels, label::KEPT)) else {
            continue;
        };
        if let (Some(span), Some(kept)) = (labels[span].value.as_text(), labels[kept].value.as_text()) {
            reasons.insert(span, kept);
        }
    }
    reasons
}

fn joined<const N: usize>(parts: [Option<String>; N]) -> String {
    parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
}
