//! Turns one profile into the requests that Pyroscope takes.
//!
//! Samples are split by service and kind of time, their labels reduced to the few that may become series, and
//! what became equal by that is added up. Each list of samples is then cut until its message is below the
//! server's limits; cutting halves it, because the size of a message is known only once it is built.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use prost::Message;

use super::config::{LONGEST_VALUE, PyroscopeConfig, is_label_name, series_name};
use super::message::{LabelPair, PushRequest, RawProfileSeries, RawSample};
use crate::filter::{is_id, text};
use crate::pprof::{ProfileBuilder, SampleRow, gzip};
use crate::profile::{Label, LabelValue, Profile, SampleKind, StackId, label};

/// Where values over the cap go.
const OTHER: &str = "other";

/// One request, ready to send.
#[derive(Debug)]
pub(super) struct PreparedProfile {
    pub(super) body: Vec<u8>,
    pub(super) samples: u64,
}

/// Which values of each series label were let through so far. Bounded by the cap.
#[derive(Debug, Default)]
pub(super) struct LabelMemory {
    values: HashMap<String, HashSet<Arc<str>>>,
}

impl LabelMemory {
    fn admits(&mut self, name: &str, value: &str, cap: usize) -> bool {
        if !self.values.contains_key(name) {
            self.values.insert(name.to_owned(), HashSet::new());
        }
        let Some(known) = self.values.get_mut(name) else { return false };
        if known.contains(value) {
            return true;
        }
        known.len() < cap && known.insert(value.into())
    }
}

/// Labels as the server gets them, by name.
type SentLabels = Vec<(String, LabelValue)>;

/// A list of samples of one service and kind: stack, labels (as an index into the plan's), nanoseconds.
struct Part {
    service: usize,
    kind: SampleKind,
    samples: Vec<(StackId, usize, u64)>,
}

/// What is left to send of one profile.
pub(super) struct Plan<'a> {
    profile: &'a Profile,
    config: &'a PyroscopeConfig,
    labels: Vec<SentLabels>,
    services: Vec<String>,
    parts: VecDeque<Part>,
    bad_ids: u64,
    capped_values: u64,
    too_large: u64,
}

/// What became of the labels of one set.
struct Reduced {
    service: usize,
    labels: usize,
    bad_ids: u64,
    capped_values: u64,
}

impl<'a> Plan<'a> {
    /// `default_service` is the service of samples that name none.
    pub(super) fn new(
        profile: &'a Profile,
        config: &'a PyroscopeConfig,
        default_service: &str,
        memory: &mut LabelMemory,
    ) -> Self {
        let mut plan = Plan {
            profile,
            config,
            labels: Vec::new(),
            services: Vec::new(),
            parts: VecDeque::new(),
            bad_ids: 0,
            capped_values: 0,
            too_large: 0,
        };
        let reduced = plan.reduce(default_service, memory);
        let mut sums: BTreeMap<(usize, SampleKind, StackId, usize), u64> = BTreeMap::new();
        for (sample, value) in profile.samples() {
            let reduced = &reduced[sample.labels.index()];
            plan.bad_ids += reduced.bad_ids;
            plan.capped_values += reduced.capped_values;
            if value.nanoseconds > 0 {
                let sum =
                    sums.entry((reduced.service, sample.kind, sample.stack, reduced.labels)).or_default();
                *sum = sum.saturating_add(value.nanoseconds);
            }
        }
        for ((service, kind, stack, labels), nanoseconds) in sums {
            plan.part(service, kind).samples.push((stack, labels, nanoseconds));
        }
        plan
    }

    /// The next request; none once all is sent.
    pub(super) fn next_profile(&mut self) -> Option<PreparedProfile> {
        while let Some(mut part) = self.parts.pop_front() {
            let length = part.samples.len();
            let raw = match length <= self.config.samples_per_profile {
                true => Some(self.encode(&part)).filter(|raw| raw.len() <= self.config.bytes_per_profile),
                false => None,
            };
            if let Some(raw) = raw {
                let body = self.request(&part, &raw);
                return Some(PreparedProfile { body, samples: length as u64 });
            }
            if length <= 1 {
                self.too_large += 1;
                continue;
            }
            let rest = part.samples.split_off(length / 2);
            self.parts.push_front(Part { samples: rest, ..part });
            self.parts.push_front(part);
        }
        None
    }

    /// How many lists of samples are left.
    pub(super) fn left(&self) -> u64 {
        self.parts.len() as u64
    }

    pub(super) fn bad_ids(&self) -> u64 {
        self.bad_ids
    }

    pub(super) fn capped_values(&self) -> u64 {
        self.capped_values
    }

    pub(super) fn too_large(&self) -> u64 {
        self.too_large
    }

    /// Sums come sorted by service and kind, so only the last part can be meant.
    fn part(&mut self, service: usize, kind: SampleKind) -> &mut Part {
        let fits = self.parts.back().is_some_and(|part| part.service == service && part.kind == kind);
        if !fits {
            self.parts.push_back(Part { service, kind, samples: Vec::new() });
        }
        let last = self.parts.len() - 1;
        &mut self.parts[last]
    }

    fn encode(&self, part: &Part) -> Vec<u8> {
        let mut builder = ProfileBuilder::new(self.profile, &[part.kind], part.kind == SampleKind::Cpu);
        builder.bound_stacks();
        for (stack, labels, nanoseconds) in &part.samples {
            let values = vec![i64::try_from(*nanoseconds).unwrap_or(i64::MAX)];
            let labels = self.labels[*labels].iter().map(|(name, value)| (name.as_str(), value)).collect();
            builder.sample(SampleRow { stack: *stack, values, labels });
        }
        builder.finish().encode_to_vec()
    }

    fn request(&self, part: &Part, raw: &[u8]) -> Vec<u8> {
        let name = match part.kind {
            SampleKind::Cpu => "process_cpu",
            other => other.as_str(),
        };
        let pair = |name: &str, value: &str| LabelPair { name: name.to_owned(), value: value.to_owned() };
        let mut labels = vec![pair("__name__", name), pair("service_name", &self.services[part.service])];
        labels.extend(self.config.tags.iter().map(|(name, value)| pair(name, value)));
        // The profile is left bare: the request is compressed as a whole.
        let samples = vec![RawSample { raw_profile: raw.to_vec(), id: String::new() }];
        let request = PushRequest { series: vec![RawProfileSeries { labels, samples }] };
        gzip(&request.encode_to_vec())
    }

    /// Reduces each label set of the profile once.
    fn reduce(&mut self, default_service: &str, memory: &mut LabelMemory) -> Vec<Reduced> {
        let mut label_numbers: HashMap<SentLabels, usize> = HashMap::new();
        let mut service_numbers: HashMap<String, usize> = HashMap::new();
        let mut reduced = Vec::with_capacity(self.profile.label_sets().len());
        for labels in self.profile.label_sets() {
            let service = text(labels, label::SERVICE_NAME).filter(|service| !service.is_empty());
            let service = cut(service.unwrap_or(default_service)).to_owned();
            let services = &mut self.services;
            let service = *service_numbers.entry(service).or_insert_with_key(|service| {
                services.push(service.clone());
                services.len() - 1
            });
            let (sent, bad_ids, capped_values) = self.sent_labels(labels, memory);
            let sent_labels = &mut self.labels;
            let labels = *label_numbers.entry(sent).or_insert_with_key(|sent| {
                sent_labels.push(sent.clone());
                sent_labels.len() - 1
            });
            reduced.push(Reduced { service, labels, bad_ids, capped_values });
        }
        reduced
    }

    fn sent_labels(&self, labels: &[Label], memory: &mut LabelMemory) -> (SentLabels, u64, u64) {
        let mut sent = SentLabels::new();
        let mut bad_ids = 0;
        let mut capped_values = 0;
        for (name, length) in [(label::TRACE_ID, 32), (label::SPAN_ID, 16)] {
            let Some(found) = labels.iter().find(|label| &*label.key == name) else { continue };
            match found.value.as_text().filter(|id| is_id(id, length)) {
                Some(id) => sent.push((name.to_owned(), LabelValue::Text(id.to_ascii_lowercase().into()))),
                None => bad_ids += 1,
            }
        }
        for name in &self.config.series_labels {
            let Some(value) = text(labels, name).map(cut).filter(|value| !value.is_empty()) else { continue };
            let name = series_name(name);
            let is_taken = sent.iter().any(|(other, _)| *other == name) || !is_label_name(&name);
            if is_taken || self.config.tags.iter().any(|(tag, _)| *tag == name) {
                continue;
            }
            if memory.admits(&name, value, self.config.distinct_values) {
                sent.push((name, LabelValue::Text(value.into())));
            } else {
                capped_values += 1;
                sent.push((name, LabelValue::Text(OTHER.into())));
            }
        }
        (sent, bad_ids, capped_values)
    }
}

/// The longest beginning that the server takes as a value.
fn cut(value: &str) -> &str {
    let mut end = value.len().min(LONGEST_VALUE);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}
