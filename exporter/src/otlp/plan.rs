//! Turns one profile into the requests that OTLP servers take.
//!
//! Samples are split by service and kind of time; what became equal by leaving labels out is added up. A list of samples
//! is then cut until its message is below the limits; cutting halves it, because the size of a message is known only
//! once it is built.

use std::collections::{BTreeMap, HashMap, VecDeque};

use prost::Message;

use super::config::OtlpConfig;
use super::dictionary::Dictionary;
use super::message::{
    AnyValue, ExportProfilesServiceRequest, InstrumentationScope, KeyValue, Link, ProfileMessage, Resource,
    ResourceProfiles, Sample, ScopeProfiles, ValueType,
};
use crate::filter::{is_id, text};
use crate::profile::{Label, LabelValue, Profile, SampleKind, StackId, label};

const NANOSECONDS: &str = "nanoseconds";

/// One request, not compressed yet.
#[derive(Debug)]
pub(super) struct PreparedRequest {
    pub(super) body: Vec<u8>,
    pub(super) samples: u64,
}

/// What is left of a set of labels.
#[derive(PartialEq, Eq, Hash)]
struct Reduced<'a> {
    attributes: Vec<(&'a str, &'a LabelValue)>,
    link: Option<Link>,
}

/// A list of samples of one service and kind: stack, reduced labels (by their number), nanoseconds.
struct Part<'a> {
    service: &'a str,
    kind: SampleKind,
    samples: Vec<(StackId, usize, u64)>,
}

/// What is left to send of one profile.
pub(super) struct Plan<'a> {
    profile: &'a Profile,
    config: &'a OtlpConfig,
    resource: &'a [(String, String)],
    reduced: Vec<Reduced<'a>>,
    parts: VecDeque<Part<'a>>,
    bad_ids: u64,
    too_large: u64,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        profile: &'a Profile,
        config: &'a OtlpConfig,
        resource: &'a [(String, String)],
    ) -> Self {
        let mut plan = Plan {
            profile,
            config,
            resource,
            reduced: Vec::new(),
            parts: VecDeque::new(),
            bad_ids: 0,
            too_large: 0,
        };
        let sets = plan.reduce();
        let mut sums: BTreeMap<(&str, SampleKind, StackId, usize), u64> = BTreeMap::new();
        for (sample, value) in profile.samples() {
            let (service, reduced, bad_ids) = sets[sample.labels.index()];
            plan.bad_ids += bad_ids;
            if value.nanoseconds > 0 {
                let sum = sums.entry((service, sample.kind, sample.stack, reduced)).or_default();
                *sum = sum.saturating_add(value.nanoseconds);
            }
        }
        for ((service, kind, stack, reduced), nanoseconds) in sums {
            // Sums come sorted by service and kind, so only the last part can be meant.
            match plan.parts.back_mut().filter(|part| part.service == service && part.kind == kind) {
                Some(part) => part.samples.push((stack, reduced, nanoseconds)),
                None => {
                    let samples = vec![(stack, reduced, nanoseconds)];
                    plan.parts.push_back(Part { service, kind, samples });
                }
            }
        }
        plan
    }

    /// The next request; none once all is sent.
    pub(super) fn next_request(&mut self) -> Option<PreparedRequest> {
        while let Some(mut part) = self.parts.pop_front() {
            let length = part.samples.len();
            let body = match length <= self.config.samples_per_profile {
                true => Some(self.encode(&part)).filter(|body| body.len() <= self.config.bytes_per_request),
                false => None,
            };
            if let Some(body) = body {
                return Some(PreparedRequest { body, samples: length as u64 });
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

    pub(super) fn too_large(&self) -> u64 {
        self.too_large
    }

    /// Each label set of the profile as its service, the number of what is left of it, and its bad ids.
    fn reduce(&mut self) -> Vec<(&'a str, usize, u64)> {
        let named = self.resource.iter().find(|(key, _)| key == label::SERVICE_NAME);
        let named = named.map(|(_, name)| name.as_str()).filter(|name| !name.is_empty());
        let default_service = named.unwrap_or(&self.config.default_service);
        let mut numbers: HashMap<Reduced<'a>, usize> = HashMap::new();
        let sets = self.profile.label_sets().iter().map(|labels| {
            let service = text(labels, label::SERVICE_NAME).filter(|service| !service.is_empty());
            let (link, bad_ids) = link(labels);
            let reduced = Reduced { attributes: self.attributes(labels), link };
            let next = numbers.len();
            (service.unwrap_or(default_service), *numbers.entry(reduced).or_insert(next), bad_ids)
        });
        let sets = sets.collect();
        let mut reduced: Vec<_> = numbers.into_iter().collect();
        reduced.sort_by_key(|(_, number)| *number);
        self.reduced = reduced.into_iter().map(|(reduced, _)| reduced).collect();
        sets
    }

    fn attributes(&self, labels: &'a [Label]) -> Vec<(&'a str, &'a LabelValue)> {
        let is_empty = |value: &LabelValue| value.as_text().is_some_and(str::is_empty);
        labels
            .iter()
            .filter(|label| self.config.attributes.iter().any(|name| **name == *label.key))
            .filter(|label| !label.key.is_empty() && !is_empty(&label.value))
            .map(|label| (&*label.key, &label.value))
            .collect()
    }

    fn encode(&self, part: &Part<'a>) -> Vec<u8> {
        let profile = self.profile;
        let mut dictionary = Dictionary::new(profile);
        let kind = part.kind.as_str();
        let sample_type = value_type(&mut dictionary, kind);
        // Everything but CPU time is counted to the nanosecond. Pyroscope knows blocked time by an empty type and no
        // period, others insist on the message being there; of all other kinds it takes the period's name.
        let (period_type, period) = match part.kind {
            SampleKind::Cpu => (sample_type, i64::try_from(profile.period_nanoseconds).unwrap_or(i64::MAX)),
            SampleKind::OffCpu => (ValueType::default(), 0),
            SampleKind::RunQueue | SampleKind::Suspended | SampleKind::Ready | SampleKind::Unknown => {
                (sample_type, 1)
            }
        };
        let samples = self.samples(part, &mut dictionary);
        let message = ProfileMessage {
            sample_type: Some(sample_type),
            samples,
            time_unix_nano: profile.start_unix_nanoseconds,
            duration_nano: profile.duration_nanoseconds,
            period_type: Some(period_type),
            period,
            attribute_indices: dictionary.comments().into_iter().collect(),
        };
        let scope = InstrumentationScope {
            name: "spanprof".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let scope_profiles = vec![ScopeProfiles { scope: Some(scope), profiles: vec![message] }];
        let resource = Some(self.resource(part.service));
        let request = ExportProfilesServiceRequest {
            resource_profiles: vec![ResourceProfiles { resource, scope_profiles }],
            dictionary: Some(dictionary.finish()),
        };
        request.encode_to_vec()
    }

    /// The part's samples, each stack, set of attributes and link once: different stacks of the profile can become one
    /// when their middle or their mappings are left out.
    fn samples(&self, part: &Part<'a>, dictionary: &mut Dictionary<'a>) -> Vec<Sample> {
        let mut samples: Vec<Sample> = Vec::with_capacity(part.samples.len());
        let mut positions = HashMap::new();
        for (stack, number, nanoseconds) in &part.samples {
            let reduced = &self.reduced[*number];
            let value = i64::try_from(*nanoseconds).unwrap_or(i64::MAX);
            let stack_index = dictionary.stack(*stack);
            if let Some(position) = positions.get(&(stack_index, *number)) {
                let sample: &mut Sample = &mut samples[*position];
                sample.values[0] = sample.values[0].saturating_add(value);
                continue;
            }
            positions.insert((stack_index, *number), samples.len());
            let attributes = reduced.attributes.iter();
            samples.push(Sample {
                stack_index,
                attribute_indices: attributes.map(|(key, value)| dictionary.attribute(key, value)).collect(),
                link_index: dictionary.link(reduced.link.as_ref()),
                values: vec![value],
            });
        }
        samples
    }

    fn resource(&self, service: &str) -> Resource {
        let pair =
            |key: &str, value: &str| KeyValue { key: key.to_owned(), value: Some(AnyValue::text(value)) };
        let given = self.resource.iter().filter(|(key, _)| key != label::SERVICE_NAME && !key.is_empty());
        let mut attributes = vec![pair(label::SERVICE_NAME, service)];
        for (key, value) in given {
            // A key must not repeat; the first counts.
            if attributes.iter().all(|attribute: &KeyValue| attribute.key != *key) {
                attributes.push(pair(key, value));
            }
        }
        Resource { attributes }
    }
}

fn value_type(dictionary: &mut Dictionary<'_>, kind: &'static str) -> ValueType {
    ValueType { type_strindex: dictionary.string(kind), unit_strindex: dictionary.string(NANOSECONDS) }
}

/// The span that labels name, and how many ids of it can't be meant. A link needs both ids.
fn link(labels: &[Label]) -> (Option<Link>, u64) {
    let mut bad_ids = 0;
    let mut id = |key: &str, length: usize| {
        let label = labels.iter().find(|label| &*label.key == key)?;
        let id = label.value.as_text().filter(|id| is_id(id, length)).map(bytes_of);
        bad_ids += u64::from(id.is_none());
        id
    };
    let (trace_id, span_id) = (id(label::TRACE_ID, 32), id(label::SPAN_ID, 16));
    let link = match (trace_id, span_id) {
        (Some(trace_id), Some(span_id)) => Some(Link { trace_id, span_id }),
        _ => None,
    };
    (link, bad_ids)
}

/// The bytes of a text of hex digits, which is of even length.
fn bytes_of(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
    hex.as_bytes().chunks(2).map(|pair| pair.iter().fold(0, |byte, hex| byte << 4 | digit(*hex))).collect()
}
