//! The profile as the page's program reads it: compact, columnar JSON.
//!
//! Columns rather than objects: a window of 100,000 samples is a few arrays of small numbers, parsed by the
//! browser in milliseconds. Stacks are a prefix tree, parents before children, so that one forward pass
//! folds and one backward pass sums. Functions are told apart by name, file and flags but not by line: a
//! flame graph merges call sites, and each tree node carries the line it was seen at.
//!
//! Numbers are nanoseconds. JavaScript keeps integers exact to 2^53, which is 104 days.

use std::collections::HashMap;

use serde::Serialize;
use spanprof_symbolizer::{Frame, FrameKind};

use super::owners::{Owner, Owners, SpanTable, ThreadTable};
use super::told::{ToldTable, TrafficTable};
use super::{LossAmount, PageDetails};
use crate::analysis::Waits;
use crate::idle::IdleSamples;
use crate::links::LinkTemplate;
use crate::waits::Wait;
use crate::{Location, Profile, SampleKind, StackId, runtime};

/// The number of the layout below; the page's program refuses another.
const FORMAT: u32 = 4;

/// The longest text that is given to the page, in characters. C++ and Rust names of real programs stay
/// under it; a hostile one of 64 KB on every frame would make the page unusable.
pub(super) const LONGEST_TEXT: usize = 2048;

/// A frame of the language's runtime, hidden by default.
const FLAG_RUNTIME: u8 = 1;
/// A frame of the kernel.
const FLAG_KERNEL: u8 = 2;
/// A frame that names something that is not code.
const FLAG_SYNTHETIC: u8 = 4;

#[derive(Serialize)]
struct PageData<'a> {
    format: u32,
    title: String,
    source: String,
    start_unix_milliseconds: u64,
    duration_nanoseconds: u64,
    period_nanoseconds: u64,
    comments: Vec<String>,
    /// Words, amount and unit: `count` or `nanoseconds`.
    losses: Vec<(String, u64, &'static str)>,
    strings: &'a [String],
    functions: FunctionTable,
    nodes: NodeTable,
    samples: SampleTable,
    /// The positions in `samples` of idle threads' time.
    idle_samples: Vec<usize>,
    /// The positions in `samples` of messages' shares of what was done for a whole batch, beside their own time.
    shares: Vec<usize>,
    spans: SpanTable,
    threads: ThreadTable,
    told: ToldTable,
    traffic: TrafficTable,
    links: &'a [LinkTemplate],
}

/// One entry per distinct function.
#[derive(Serialize, Default)]
struct FunctionTable {
    /// Positions in `strings`.
    name: Vec<u32>,
    /// Positions in `strings`; -1 where no file is known.
    file: Vec<i64>,
    /// The `FLAG_` bits.
    flags: Vec<u8>,
}

/// The prefix tree of all stacks, root first; a node comes after its parent.
#[derive(Serialize, Default)]
struct NodeTable {
    /// The node above; -1 for a thread's first frame.
    parent: Vec<i64>,
    /// Positions in `functions`.
    function: Vec<u32>,
    /// The line, from 1; 0 where unknown.
    line: Vec<u32>,
}

/// One entry per distinct (node, kind, owner, wait, idle).
#[derive(Serialize, Default)]
struct SampleTable {
    /// The leaf's position in `nodes`; -1 for time without any stack.
    node: Vec<i64>,
    /// The kind's position in [`SampleKind::ALL`].
    kind: Vec<u8>,
    nanoseconds: Vec<u64>,
    count: Vec<u64>,
    /// Positions in `spans`; -1 outside any span.
    span: Vec<i64>,
    /// Positions in `threads`.
    thread: Vec<u32>,
    /// What was waited for, positions in `strings`; -1 where nothing was.
    wait: Vec<i64>,
}

/// Texts stored once, readable and bounded.
#[derive(Default)]
pub(super) struct Strings {
    values: Vec<String>,
    positions: HashMap<String, u32>,
}

impl Strings {
    /// The position of a text, cut to [`LONGEST_TEXT`].
    pub(super) fn position(&mut self, text: &str) -> u32 {
        if let Some(position) = self.positions.get(text) {
            return *position;
        }
        let bounded = bounded(text);
        *self.positions.entry(bounded).or_insert_with_key(|bounded| {
            self.values.push(bounded.clone());
            self.values.len() as u32 - 1
        })
    }

    /// The text at a position; `None` for -1.
    pub(super) fn text(&self, position: i64) -> Option<&str> {
        self.values.get(usize::try_from(position).ok()?).map(String::as_str)
    }

    /// Like [`Strings::position`], with -1 for no text and for an empty one.
    pub(super) fn optional(&mut self, text: Option<&str>) -> i64 {
        match text {
            Some(text) if !text.is_empty() => i64::from(self.position(text)),
            _ => -1,
        }
    }
}

/// The text itself, or its beginning with its length where it is longer than [`LONGEST_TEXT`].
fn bounded(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
    }
}

/// Builds the prefix tree and remembers which stack ends at which node.
#[derive(Default)]
struct Tree {
    functions: FunctionTable,
    function_positions: HashMap<(u32, i64, u8), u32>,
    nodes: NodeTable,
    node_positions: HashMap<(i64, u32, u32), i64>,
    leaves: HashMap<StackId, i64>,
}

impl Tree {
    /// The node at which a stack ends; -1 for an empty stack.
    fn leaf(&mut self, profile: &Profile, stack: StackId, strings: &mut Strings) -> i64 {
        if let Some(leaf) = self.leaves.get(&stack) {
            return *leaf;
        }
        let mut node = -1;
        for id in profile.stack(stack).iter().rev() {
            let Location { frames, .. } = profile.location(*id);
            for frame in frames.iter().rev() {
                node = self.child(node, frame, strings);
            }
        }
        self.leaves.insert(stack, node);
        node
    }

    fn child(&mut self, parent: i64, frame: &Frame, strings: &mut Strings) -> i64 {
        let function = self.function(frame, strings);
        let nodes = &mut self.nodes;
        *self.node_positions.entry((parent, function, frame.line)).or_insert_with(|| {
            nodes.parent.push(parent);
            nodes.function.push(function);
            nodes.line.push(frame.line);
            nodes.parent.len() as i64 - 1
        })
    }

    fn function(&mut self, frame: &Frame, strings: &mut Strings) -> u32 {
        let key = (strings.position(&frame.function), strings.optional(frame.file.as_deref()), flags(frame));
        let functions = &mut self.functions;
        *self.function_positions.entry(key).or_insert_with(|| {
            functions.name.push(key.0);
            functions.file.push(key.1);
            functions.flags.push(key.2);
            functions.name.len() as u32 - 1
        })
    }
}

fn flags(frame: &Frame) -> u8 {
    match frame.kind {
        FrameKind::Kernel => FLAG_KERNEL,
        FrameKind::Synthetic => FLAG_SYNTHETIC,
        _ if runtime::is_runtime(frame) => FLAG_RUNTIME,
        _ => 0,
    }
}

/// The profile as JSON in which no `<` is left, so that it can stand inside a `script` element.
pub(super) fn to_json(profile: &Profile, details: &PageDetails) -> String {
    let mut strings = Strings::default();
    let mut tree = Tree::default();
    let mut owners = Owners::default();
    let idle_threads = IdleSamples::of(profile);
    let (mut idle_samples, mut shares) = (Vec::new(), Vec::new());
    let mut waits = Waits::default();
    let mut sums: HashMap<(i64, u8, Owner, i64, bool), usize> = HashMap::new();
    let mut samples = SampleTable::default();
    for (key, value) in profile.samples() {
        let node = tree.leaf(profile, key.stack, &mut strings);
        let owner = owners.of(profile, key.labels, &mut strings);
        let kind = position_of(key.kind);
        let (wait, _) = waits.of(profile, &key);
        let wait = strings.optional(wait.map(Wait::as_str));
        let idle = idle_threads.contains(&key);
        let at = *sums.entry((node, kind, owner, wait, idle)).or_insert_with(|| {
            if idle {
                idle_samples.push(samples.node.len());
            }
            if owner.is_share {
                shares.push(samples.node.len());
            }
            samples.node.push(node);
            samples.kind.push(kind);
            samples.nanoseconds.push(0);
            samples.count.push(0);
            samples.span.push(owner.span);
            samples.thread.push(owner.thread);
            samples.wait.push(wait);
            samples.node.len() - 1
        });
        samples.nanoseconds[at] = samples.nanoseconds[at].saturating_add(value.nanoseconds);
        samples.count[at] = samples.count[at].saturating_add(value.count);
    }
    let (spans, threads) = owners.into_tables(profile, &mut strings);
    let (told, traffic) = (ToldTable::of(profile, &mut strings), TrafficTable::of(profile, &mut strings));
    let data = PageData {
        format: FORMAT,
        title: bounded(&details.title),
        source: bounded(&details.source),
        start_unix_milliseconds: profile.start_unix_nanoseconds / 1_000_000,
        duration_nanoseconds: profile.duration_nanoseconds,
        period_nanoseconds: profile.period_nanoseconds,
        comments: profile.comments.iter().map(|comment| bounded(comment)).collect(),
        losses: details.losses.iter().map(|loss| amount(&loss.cause, loss.amount)).collect(),
        strings: &strings.values,
        functions: tree.functions,
        nodes: tree.nodes,
        samples,
        idle_samples,
        shares,
        spans,
        threads,
        told,
        traffic,
        links: &details.links,
    };
    // Only numbers, texts and arrays of them: there is nothing that serialising can refuse.
    let json = serde_json::to_string(&data).expect("numbers and texts always have a JSON form");
    // Outside of strings JSON has no `<`, so this changes texts only, and `\u003c` is the same character.
    json.replace('<', "\\u003c")
}

/// A loss as the page reads it.
fn amount(cause: &str, amount: LossAmount) -> (String, u64, &'static str) {
    match amount {
        LossAmount::Count(count) => (bounded(cause), count, "count"),
        LossAmount::Nanoseconds(nanoseconds) => (bounded(cause), nanoseconds, "nanoseconds"),
    }
}

/// A kind's position in [`SampleKind::ALL`].
pub(super) fn position_of(kind: SampleKind) -> u8 {
    match kind {
        SampleKind::Cpu => 0,
        SampleKind::OffCpu => 1,
        SampleKind::RunQueue => 2,
        SampleKind::Suspended => 3,
        SampleKind::Ready => 4,
        SampleKind::Unknown => 5,
    }
}

#[cfg(test)]
mod tests;
