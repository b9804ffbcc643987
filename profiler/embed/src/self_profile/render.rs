//! Turns an attributed window into a profile: names each distinct address once, and says with labels who it was.
//!
//! As with the agent outside, spans with the most time keep their ids, up to a budget, and the others fold by their
//! attributes: a profile stays small however many messages flow.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use spanprof_context::attributes::KEYS;
use spanprof_context::record::AttributeIterator;
use spanprof_context::{SpanContext, SpanId, TraceId};
use spanprof_exporter::waits::{Activity, WaitLabels};
use spanprof_exporter::{
    Label, LabelSetId, Location, LocationId, Module, ModuleId, Profile, SampleKey, StackId, label,
};
use spanprof_symbolizer::{Frame, FrameKind, Symbolizer};

use super::attribution::{Place, Share};
use super::clock::ThreadId;
use super::modules::LoadedModules;
use super::window::{AttributesNumber, StackEnd, StackNumber, Window};

/// Spans per window that keep their ids.
const SPAN_BUDGET: usize = 1_000;

type Ids = (TraceId, SpanId);

/// Makes profiles; keeps the names that it has learned.
pub(super) struct Renderer {
    symbolizer: Symbolizer,
    service: Arc<str>,
}

impl Renderer {
    pub(super) fn new(service: &str) -> Renderer {
        Renderer { symbolizer: Symbolizer::with_debug_directories(Vec::new()), service: service.into() }
    }

    /// Renders a window; `shares` is what its attribution gave.
    pub(super) fn render(&mut self, window: &Window, shares: &[Share], modules: &LoadedModules) -> Profile {
        let names = self.name_addresses(window, shares, modules);
        let mut profile = Profile::default();
        profile.start_unix_nanoseconds = window.begin_unix;
        profile.duration_nanoseconds = window.length;
        profile.period_nanoseconds = window.period;
        let mut writer = Writer {
            profile,
            window,
            modules,
            names,
            kept: choose_spans(shares),
            pid: std::process::id().into(),
            service: Arc::clone(&self.service),
            stacks: HashMap::default(),
            module_ids: HashMap::new(),
            folded_attributes: window.folded_attributes(),
            label_sets: HashMap::default(),
            waits: WaitLabels::default(),
        };
        for share in shares {
            writer.write(share);
        }
        // Memory matters more inside somebody's service than the time of the next window.
        self.symbolizer.pack();
        writer.profile
    }

    fn name_addresses(&mut self, window: &Window, shares: &[Share], modules: &LoadedModules) -> Names {
        let used: BTreeSet<StackNumber> = shares
            .iter()
            .filter_map(|share| match share.place {
                Place::Stack(number) => Some(number),
                Place::Unseen(_) => None,
            })
            .collect();
        let mut wanted: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
        for number in used {
            for address in window.stack_of(number).addresses.iter() {
                if let Some(module) = modules.find(*address) {
                    wanted.entry(module).or_default().insert(*address);
                }
            }
        }
        let mut names = Names::default();
        for (module, addresses) in wanted {
            let module = &modules.all()[module];
            let Some(object) = &module.object else { continue };
            let addresses: Vec<u64> = addresses.into_iter().collect();
            let in_object: Vec<u64> =
                addresses.iter().map(|address| address.wrapping_sub(module.bias)).collect();
            let frames = self.symbolizer.symbolize(object, &in_object);
            names.extend(addresses.into_iter().zip(frames));
        }
        names
    }
}

type Names = HashMap<u64, Vec<Frame>, RandomState>;

/// The spans with the most time; ties go to the smaller id.
fn choose_spans(shares: &[Share]) -> HashSet<Ids, RandomState> {
    let mut seen: HashMap<Ids, u64, RandomState> = HashMap::default();
    for share in shares {
        if let Some(span) = share.span {
            *seen.entry(ids(&span)).or_default() += share.nanoseconds;
        }
    }
    let mut all: Vec<(Ids, u64)> = seen.into_iter().collect();
    if all.len() > SPAN_BUDGET {
        all.select_nth_unstable_by(SPAN_BUDGET, |a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    }
    all.into_iter().take(SPAN_BUDGET).map(|(ids, _)| ids).collect()
}

fn ids(span: &SpanContext) -> Ids {
    (span.trace_id, span.span_id)
}

/// What labels tell: the thread, the ids of a span that keeps them, and the attributes as they stand in a record.
type Labelled<'a> = (Option<ThreadId>, Option<Ids>, &'a [u8]);

struct Writer<'a> {
    profile: Profile,
    window: &'a Window,
    modules: &'a LoadedModules,
    names: Names,
    kept: HashSet<Ids, RandomState>,
    pid: i64,
    service: Arc<str>,
    stacks: HashMap<Place, StackId, RandomState>,
    module_ids: HashMap<usize, ModuleId>,
    folded_attributes: HashMap<AttributesNumber, &'a [u8]>,
    label_sets: HashMap<Labelled<'a>, LabelSetId, RandomState>,
    waits: WaitLabels,
}

impl Writer<'_> {
    fn write(&mut self, share: &Share) {
        let labels = self.labels(share);
        let stack = self.stack(share.place);
        let activity = self.activity(share, labels);
        let labels = self.waits.extend(&mut self.profile, labels, stack, share.kind, activity);
        let key = SampleKey { stack, labels, kind: share.kind };
        self.profile.add(key, share.nanoseconds, share.count);
    }

    /// What it worked on: this process publishes its spans.
    fn activity(&self, share: &Share, labels: LabelSetId) -> Activity {
        if share.span.is_none() && share.attributes.is_none() {
            return Activity::Idle;
        }
        Activity::in_span_with(self.profile.labels(labels))
    }

    fn labels(&mut self, share: &Share) -> LabelSetId {
        let (thread, span) = (share.thread, share.span);
        let kept = span.as_ref().map(ids).filter(|ids| self.kept.contains(ids));
        let attributes = match (&span, share.attributes) {
            (Some(span), _) => self.window.attributes_of(span),
            (None, Some(number)) => self.folded_attributes.get(&number).copied().unwrap_or_default(),
            (None, None) => &[],
        };
        let key: Labelled<'_> = (thread, kept, attributes);
        if let Some(known) = self.label_sets.get(&key) {
            return *known;
        }
        let mut labels = vec![
            Label::number(label::PID, self.pid),
            Label::text(label::SERVICE_NAME, Arc::clone(&self.service)),
        ];
        if let Some(thread) = thread {
            labels.push(Label::number(label::THREAD_ID, i64::from(thread)));
            let name = self.window.threads.get(&thread).map_or("", |times| &times.name);
            if !name.is_empty() {
                labels.push(Label::text(label::THREAD_NAME, name));
            }
        }
        if let Some((trace_id, span_id)) = kept {
            labels.push(Label::text(label::TRACE_ID, trace_id.to_string()));
            labels.push(Label::text(label::SPAN_ID, span_id.to_string()));
        }
        add_attributes(attributes, &mut labels);
        let set = self.profile.intern_labels(labels);
        self.label_sets.insert(key, set);
        set
    }

    fn stack(&mut self, place: Place) -> StackId {
        if let Some(known) = self.stacks.get(&place) {
            return *known;
        }
        let locations = match place {
            Place::Unseen(words) => vec![self.words(words)],
            Place::Stack(number) => {
                let window = self.window;
                let stack = window.stack_of(number);
                let mut locations: Vec<LocationId> =
                    stack.addresses.iter().map(|address| self.location(*address)).collect();
                locations.extend(end_in_words(stack.end).map(|words| self.words(words)));
                locations
            }
        };
        let stack = self.profile.intern_stack(locations);
        self.stacks.insert(place, stack);
        stack
    }

    fn location(&mut self, address: u64) -> LocationId {
        let module = self.modules.find(address);
        let frames = match self.names.get(&address).filter(|frames| !frames.is_empty()) {
            Some(frames) => frames.clone(),
            None => vec![frame(&format!("[unknown]+{address:#x}"), FrameKind::Native)],
        };
        let module = module.map(|module| self.module(module));
        self.profile.intern_location(Location { module, address, frames })
    }

    fn module(&mut self, number: usize) -> ModuleId {
        if let Some(known) = self.module_ids.get(&number) {
            return *known;
        }
        let module = &self.modules.all()[number];
        let build_id = module.object.as_ref().and_then(|object| object.build_id()).unwrap_or_default();
        let id = self.profile.intern_module(Module {
            start: module.start,
            end: module.end,
            file_offset: module.file_offset,
            path: Arc::clone(&module.path),
            build_id: build_id.into(),
        });
        self.module_ids.insert(number, id);
        id
    }

    fn words(&mut self, words: &str) -> LocationId {
        let frames = vec![frame(words, FrameKind::Synthetic)];
        self.profile.intern_location(Location { module: None, address: 0, frames })
    }
}

fn frame(name: &str, kind: FrameKind) -> Frame {
    let name: Arc<str> = name.into();
    Frame { function: Arc::clone(&name), system_name: name, file: None, line: 0, kind }
}

/// The messaging attributes become labels. Others could hold anything, and make every sample its own series.
fn add_attributes(bytes: &[u8], labels: &mut Vec<Label>) {
    const SHOWN: [&str; 3] = [label::DESTINATION, label::CONSUMER_GROUP, label::OPERATION];
    let mut last: BTreeMap<&str, String> = BTreeMap::new();
    for (key, value) in AttributeIterator::over(bytes) {
        if let Some(name) = KEYS.get(usize::from(key)).filter(|name| SHOWN.contains(*name)) {
            last.insert(name, String::from_utf8_lossy(value).into_owned());
        }
    }
    labels.extend(last.into_iter().map(|(name, value)| Label::text(name, value)));
}

/// What stands where a stack does not reach.
fn end_in_words(end: StackEnd) -> Option<&'static str> {
    match end {
        StackEnd::Root => None,
        StackEnd::NoRule => Some("[stack ends: no unwind rule]"),
        StackEnd::NotCopied => Some("[stack ends: deeper than is copied]"),
        StackEnd::Stuck => Some("[stack ends: unwinding got nowhere]"),
        StackEnd::Depth => Some("[stack ends: too many frames]"),
        StackEnd::NoFramePointer => Some("[stack ends: a register is not known from outside]"),
    }
}
