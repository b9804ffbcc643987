//! The one profile model: what was seen, interned, before any format is chosen.
//!
//! Capture and window fill it through the `intern_*` methods; every encoder reads it. Each string-like
//! thing is stored once, so that a million samples of the same stack cost one stack. A model per format
//! was refused: sums would have to be kept right three times.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use foldhash::fast::RandomState;
use spanprof_symbolizer::Frame;

use crate::facts::{SpanFacts, SpanIds};
use crate::told::Relatives;
use crate::traffic::Traffic;
use crate::wakers::Wakers;

/// A profile of one or more processes over one window of time.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    /// When the window began, in nanoseconds since the Unix epoch.
    pub start_unix_nanoseconds: u64,
    /// How long the window was, in nanoseconds.
    pub duration_nanoseconds: u64,
    /// The interval between two on-CPU samples of one CPU, in nanoseconds; 0 where nothing was sampled.
    pub period_nanoseconds: u64,
    /// Lines for people, written into pprof's comments: version, backend, losses.
    pub comments: Vec<String>,
    /// What is known of spans beside their samples.
    pub span_facts: HashMap<SpanIds, SpanFacts>,
    /// Who made spans wait.
    pub wakers: Wakers,
    /// Finished spans around those that kept their ids.
    pub relatives: Relatives,
    /// How many spans there were, by class.
    pub traffic: Traffic,
    modules: Interner<Module>,
    locations: Interner<Location>,
    stacks: Interner<Vec<LocationId>>,
    label_sets: Interner<Vec<Label>>,
    samples: HashMap<SampleKey, SampleValue, RandomState>,
}

/// What kind of time a sample counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SampleKind {
    /// Running on a CPU.
    Cpu,
    /// Blocked: from switch-out to wake-up.
    OffCpu,
    /// Runnable and not running: from wake-up or preemption to running.
    RunQueue,
    /// A task that no thread has, at an await: from there to its wake-up.
    Suspended,
    /// A task that was woken: from there to its next poll.
    Ready,
    /// Of a span's wall time what nothing above accounts for.
    Unknown,
}

impl SampleKind {
    /// All kinds, in the order in which pprof files hold their values.
    pub const ALL: [SampleKind; 6] = [
        SampleKind::Cpu,
        SampleKind::OffCpu,
        SampleKind::RunQueue,
        SampleKind::Suspended,
        SampleKind::Ready,
        SampleKind::Unknown,
    ];

    /// What a thread's time is made of.
    pub const OF_THREADS: [SampleKind; 3] = [SampleKind::Cpu, SampleKind::OffCpu, SampleKind::RunQueue];

    /// And what the time of tasks is made of that no thread has.
    const OF_TASKS: [SampleKind; 5] =
        [SampleKind::Cpu, SampleKind::OffCpu, SampleKind::RunQueue, SampleKind::Suspended, SampleKind::Ready];

    /// The name in files and on the command line: `cpu`, `off_cpu`, `run_queue`, `suspended`, `ready` or `unknown`.
    pub const fn as_str(self) -> &'static str {
        match self {
            SampleKind::Cpu => "cpu",
            SampleKind::OffCpu => "off_cpu",
            SampleKind::RunQueue => "run_queue",
            SampleKind::Suspended => "suspended",
            SampleKind::Ready => "ready",
            SampleKind::Unknown => "unknown",
        }
    }
}

/// A part of an object file that was mapped as code.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Module {
    /// Where the mapping began in the process's address space.
    pub start: u64,
    /// Where it ended (exclusive).
    pub end: u64,
    /// The offset in the file of the mapping's first byte.
    pub file_offset: u64,
    /// The path as the process saw it, or `[vdso]`, `[kernel]`.
    pub path: Arc<str>,
    /// The GNU build id in lower-case hex; empty where the object has none.
    pub build_id: Arc<str>,
}

/// One address with what it means.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Location {
    /// The mapping that holds the address.
    pub module: Option<ModuleId>,
    /// The address in the process (already moved into the call for non-leaf frames).
    pub address: u64,
    /// The functions at this address, the innermost inlined one first. Never empty.
    pub frames: Vec<Frame>,
}

/// One label on a sample: a contract name such as `span_id`, or an OpenTelemetry attribute.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    /// The key; see the constants in [`label`].
    pub key: Arc<str>,
    /// The value.
    pub value: LabelValue,
}

/// A label's value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LabelValue {
    /// Text.
    Text(Arc<str>),
    /// A number without unit, such as a process id.
    Number(i64),
}

/// The keys that spanprof's files use.
pub mod label {
    /// 32 lower-case hex characters.
    pub const TRACE_ID: &str = "trace_id";
    /// 16 lower-case hex characters.
    pub const SPAN_ID: &str = "span_id";
    /// The span's name, where a finished span told it.
    pub const SPAN_NAME: &str = "span_name";
    /// The thread's name (`comm`).
    pub const THREAD_NAME: &str = "thread.name";
    /// The thread's id, a number.
    pub const THREAD_ID: &str = "thread.id";
    /// The process id, a number.
    pub const PID: &str = "pid";
    /// Why the span keeps its ids, where it is not a normal one: `slow` or `failed`.
    pub const KEPT: &str = "kept";
    /// The part of a batch's time that a message is charged, such as `1/32`: no part of the message's own wall time.
    pub const SHARE: &str = "share";
    /// What a thread or task waited for, in messaging words: a value of [`Wait`](crate::waits::Wait).
    pub const WAIT: &str = "wait";
    /// The service, from the process context or the executable's name.
    pub const SERVICE_NAME: &str = "service.name";
    /// The topic or queue.
    pub const DESTINATION: &str = "messaging.destination.name";
    /// The consumer group.
    pub const CONSUMER_GROUP: &str = "messaging.consumer.group.name";
    /// The messaging operation in the system's own word.
    pub const OPERATION: &str = "messaging.operation.name";
}

macro_rules! id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u32);

        impl $name {
            /// The position in the profile's table, from 0.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(/// A module of one profile.
    ModuleId);
id!(/// A location of one profile.
    LocationId);
id!(/// A stack of one profile.
    StackId);
id!(/// A set of labels of one profile.
    LabelSetId);

/// What makes two observations the same sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SampleKey {
    /// The stack, leaf first.
    pub stack: StackId,
    /// The labels.
    pub labels: LabelSetId,
    /// The kind of time.
    pub kind: SampleKind,
}

/// How much was observed under one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SampleValue {
    /// The time, in nanoseconds.
    pub nanoseconds: u64,
    /// How many samples or blocks it came from.
    pub count: u64,
}

impl Profile {
    /// Stores a module once and gives its id.
    pub fn intern_module(&mut self, module: Module) -> ModuleId {
        ModuleId(self.modules.intern(module))
    }

    /// Stores a location once and gives its id.
    pub fn intern_location(&mut self, location: Location) -> LocationId {
        LocationId(self.locations.intern(location))
    }

    /// Stores a stack (leaf first) once and gives its id.
    pub fn intern_stack(&mut self, stack: Vec<LocationId>) -> StackId {
        StackId(self.stacks.intern(stack))
    }

    /// Stores a set of labels once and gives its id. The order given does not matter; of two labels with
    /// the same key the first is kept, because pprof forbids a key to repeat.
    pub fn intern_labels(&mut self, mut labels: Vec<Label>) -> LabelSetId {
        labels.sort_by(|a, b| a.key.cmp(&b.key));
        labels.dedup_by(|later, earlier| later.key == earlier.key);
        LabelSetId(self.label_sets.intern(labels))
    }

    /// Adds time to a sample; zero time and zero count add nothing.
    pub fn add(&mut self, key: SampleKey, nanoseconds: u64, count: u64) {
        if nanoseconds == 0 && count == 0 {
            return;
        }
        let value = self.samples.entry(key).or_default();
        value.nanoseconds = value.nanoseconds.saturating_add(nanoseconds);
        value.count = value.count.saturating_add(count);
    }

    /// All modules, in the order of their ids.
    pub fn modules(&self) -> &[Module] {
        self.modules.values()
    }

    /// All locations, in the order of their ids.
    pub fn locations(&self) -> &[Location] {
        self.locations.values()
    }

    /// The id of the module at a position of [`Profile::modules`].
    pub fn module_id(&self, position: usize) -> Option<ModuleId> {
        (position < self.modules.values().len()).then_some(ModuleId(position as u32))
    }

    /// The id of the label set at a position of [`Profile::label_sets`].
    pub fn label_set_id(&self, position: usize) -> Option<LabelSetId> {
        (position < self.label_sets.values().len()).then_some(LabelSetId(position as u32))
    }

    /// All stacks (leaf first), in the order of their ids.
    pub fn stacks(&self) -> &[Vec<LocationId>] {
        self.stacks.values()
    }

    /// All sets of labels (each sorted by key), in the order of their ids.
    pub fn label_sets(&self) -> &[Vec<Label>] {
        self.label_sets.values()
    }

    /// The locations of a stack, leaf first.
    pub fn stack(&self, id: StackId) -> &[LocationId] {
        &self.stacks.values()[id.index()]
    }

    /// The labels of a set, sorted by key.
    pub fn labels(&self, id: LabelSetId) -> &[Label] {
        &self.label_sets.values()[id.index()]
    }

    /// A location by its id.
    pub fn location(&self, id: LocationId) -> &Location {
        &self.locations.values()[id.index()]
    }

    /// All samples in a stable order.
    pub fn samples(&self) -> Vec<(SampleKey, SampleValue)> {
        let mut samples: Vec<_> = self.samples.iter().map(|(key, value)| (*key, *value)).collect();
        samples.sort_by_key(|(key, _)| *key);
        samples
    }

    /// The sum of one kind of time over all samples, in nanoseconds.
    pub fn total(&self, kind: SampleKind) -> u64 {
        let of_kind = self.samples.iter().filter(|(key, _)| key.kind == kind);
        of_kind.fold(0, |sum, (_, value)| sum.saturating_add(value.nanoseconds))
    }

    /// The kinds that a file of this profile has columns for: those of threads always, so that readers find
    /// them where they were; behind them those of tasks, and behind these what is unknown, up to the last of
    /// which the profile has any time.
    pub fn kinds(&self) -> &'static [SampleKind] {
        let with_time = self.samples.iter().filter(|(_, value)| value.nanoseconds > 0);
        match with_time.map(|(key, _)| key.kind).max() {
            Some(SampleKind::Unknown) => &SampleKind::ALL,
            Some(SampleKind::Suspended | SampleKind::Ready) => &SampleKind::OF_TASKS,
            _ => &SampleKind::OF_THREADS,
        }
    }

    /// Whether nothing was observed.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}

impl Label {
    /// A label with text.
    pub fn text(key: &str, value: impl Into<Arc<str>>) -> Label {
        Label { key: key.into(), value: LabelValue::Text(value.into()) }
    }

    /// A label with a number.
    pub fn number(key: &str, value: i64) -> Label {
        Label { key: key.into(), value: LabelValue::Number(value) }
    }
}

impl LabelValue {
    /// The text, where it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            LabelValue::Text(text) => Some(text),
            LabelValue::Number(_) => None,
        }
    }

    /// The number, where it is one.
    pub fn as_number(&self) -> Option<i64> {
        match self {
            LabelValue::Text(_) => None,
            LabelValue::Number(number) => Some(*number),
        }
    }
}

/// Stores equal values once and numbers them from 0.
#[derive(Debug, Clone)]
struct Interner<T> {
    values: Vec<T>,
    positions: HashMap<T, u32, RandomState>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Interner { values: Vec::new(), positions: HashMap::default() }
    }
}

impl<T: Clone + Eq + Hash> Interner<T> {
    fn intern(&mut self, value: T) -> u32 {
        if let Some(position) = self.positions.get(&value) {
            return *position;
        }
        let position = self.values.len() as u32;
        self.positions.insert(value.clone(), position);
        self.values.push(value);
        position
    }

    fn values(&self) -> &[T] {
        &self.values
    }
}
