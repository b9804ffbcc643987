//! speedscope's own file format: <https://www.speedscope.app/file-format-schema.json>.
//!
//! One profile inside per kind of time, each stack with its time; speedscope reads pprof too, but shows of functions that were
//! inlined into one another the outermost alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use crate::filter::{SampleFilter, text};
use crate::folded::NO_STACK;
use crate::profile::{LabelSetId, Profile, SampleKind, StackId, label};

const SCHEMA: &str = "https://www.speedscope.app/file-format-schema.json";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(rename = "$schema")]
    schema: &'static str,
    name: String,
    exporter: &'static str,
    active_profile_index: usize,
    shared: Shared,
    profiles: Vec<Sampled>,
}

#[derive(Serialize)]
struct Shared {
    frames: Vec<FrameOfFile>,
}

#[derive(Serialize, Clone, PartialEq, Eq, Hash)]
struct FrameOfFile {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sampled {
    r#type: &'static str,
    name: &'static str,
    unit: &'static str,
    start_value: u64,
    end_value: u64,
    /// Positions of frames, the root first.
    samples: Vec<Vec<usize>>,
    weights: Vec<u64>,
}

/// The samples that the filter means as a speedscope file: one profile per kind of time that has any, or of one kind alone.
/// None where there is no such time, as the format has no file without a profile.
///
/// Where several services are in it, stacks begin with their service's name. Equal profiles give equal files.
pub fn encode(
    profile: &Profile,
    kind: Option<SampleKind>,
    filter: &SampleFilter,
    name: &str,
) -> Option<String> {
    let mut frames = Frames::default();
    let kinds = SampleKind::ALL.into_iter().filter(|one| kind.is_none_or(|kind| kind == *one));
    let profiles: Vec<Sampled> =
        kinds.filter_map(|kind| sampled(profile, kind, filter, &mut frames)).collect();
    if profiles.is_empty() {
        return None;
    }
    let file = File {
        schema: SCHEMA,
        name: name.to_owned(),
        exporter: concat!("spanprof ", env!("CARGO_PKG_VERSION")),
        active_profile_index: 0,
        shared: Shared { frames: frames.all },
        profiles,
    };
    // Only numbers and texts: there is nothing that serialising can refuse.
    Some(serde_json::to_string(&file).expect("numbers and texts always have a JSON form"))
}

fn sampled(
    profile: &Profile,
    kind: SampleKind,
    filter: &SampleFilter,
    frames: &mut Frames,
) -> Option<Sampled> {
    let meant = filter.over(profile);
    let service = |labels: LabelSetId| text(profile.labels(labels), label::SERVICE_NAME);
    let chosen = profile
        .samples()
        .into_iter()
        .filter(|(key, value)| key.kind == kind && meant[key.labels.index()] && value.nanoseconds > 0);
    let mut stacks: BTreeMap<(Option<&str>, StackId), u64> = BTreeMap::new();
    for (key, value) in chosen {
        let sum = stacks.entry((service(key.labels), key.stack)).or_default();
        *sum = sum.saturating_add(value.nanoseconds);
    }
    let services: BTreeSet<_> = stacks.keys().map(|(service, _)| *service).collect();
    let (mut samples, mut weights) = (Vec::new(), Vec::new());
    for ((service, stack), nanoseconds) in stacks {
        let below = (services.len() > 1).then(|| service.unwrap_or("[unknown service]"));
        samples.push(frames.of(profile, stack, below));
        weights.push(nanoseconds);
    }
    let end_value = weights.iter().fold(0, |sum: u64, weight| sum.saturating_add(*weight));
    (end_value > 0).then_some(Sampled {
        r#type: "sampled",
        name: kind.as_str(),
        unit: "nanoseconds",
        start_value: 0,
        end_value,
        samples,
        weights,
    })
}

/// Frames stored once.
#[derive(Default)]
struct Frames {
    all: Vec<FrameOfFile>,
    positions: HashMap<FrameOfFile, usize>,
}

impl Frames {
    /// A stack's frames, the root first.
    fn of(&mut self, profile: &Profile, stack: StackId, below: Option<&str>) -> Vec<usize> {
        let mut positions: Vec<usize> = below.into_iter().map(|service| self.named(service)).collect();
        for location in profile.stack(stack).iter().rev() {
            for frame in profile.location(*location).frames.iter().rev() {
                positions.push(self.position(FrameOfFile {
                    name: frame.function.to_string(),
                    file: frame.file.as_deref().map(str::to_owned),
                    line: (frame.line > 0).then_some(frame.line),
                }));
            }
        }
        if profile.stack(stack).is_empty() {
            positions.push(self.named(NO_STACK));
        }
        positions
    }

    fn named(&mut self, name: &str) -> usize {
        self.position(FrameOfFile { name: name.to_owned(), file: None, line: None })
    }

    fn position(&mut self, frame: FrameOfFile) -> usize {
        *self.positions.entry(frame).or_insert_with_key(|frame| {
            self.all.push(frame.clone());
            self.all.len() - 1
        })
    }
}
