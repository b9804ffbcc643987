//! Turns a closed window into a profile: makes times add up, names each distinct address once, and gives samples the ids of
//! the spans that keep theirs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use spanprof_exporter::analysis::BEFORE_CAPTURE;
use spanprof_exporter::idle::{BLOCKED_BEFORE_CAPTURE, WAITING_WITHOUT_SPAN};
use spanprof_exporter::{
    Label, LabelSetId, Location, LocationId, Module, ModuleId as ProfileModuleId, Profile, SampleKey,
    SampleKind, StackId, WokenBy, label,
};
use spanprof_symbolizer::{Frame, FrameKind, Symbolizer};

use super::attributes;
use super::balance::{self, Balance, Remainder, SpanSums};
use super::fold::{Fold, FoldKey, PlacedStack, Sums, ThreadKey};
use super::overruns::Overruns;
use super::programs::{ModuleId, ObjectId, Place, Programs};
use super::shares::{BatchShares, Charged};
use super::waits::{Waits, processes_with_spans};
use super::wakers::{Chains, Link, Waker};
use super::weights::Weights;
use crate::capture::{ActiveSpan, ProcessId, StackHash, WalkEnd};
use crate::spans::{Keeping, Kept, Reason, SeenSpan, in_batches, relatives};

/// Names addresses; keeps what it learned from window to window.
pub struct Renderer {
    symbolizer: Symbolizer,
    idle: bool,
    balance: Balance,
}

/// A window's profile and what was left out of it.
pub struct Rendered {
    /// The profile, without its times of begin and length.
    pub profile: Profile,
    /// Spans that folded into their destination.
    pub spans_folded: u64,
    /// Samples whose stack never arrived.
    pub stacks_missing: u64,
    /// CPU time of threads that no sample hit, in nanoseconds.
    pub cpu_unsampled: u64,
}

/// What stands where a stack does not reach: a frame for people.
fn end_note(end: WalkEnd) -> Option<&'static str> {
    match end {
        WalkEnd::Root => None,
        WalkEnd::NoMapping => Some("[stack ends: unknown code]"),
        WalkEnd::NoRule => Some("[stack ends: no unwind rule]"),
        WalkEnd::Fault => Some("[stack ends: memory not readable]"),
        WalkEnd::TooDeep => Some("[stack ends: deeper than 1024 frames]"),
        WalkEnd::Stuck => Some("[stack ends: unwinding got nowhere]"),
        WalkEnd::Budget => Some("[stack not taken: the thread blocks too often]"),
    }
}

const NOT_SAMPLED: &str = "[on CPU between samples]";
const ON_NO_THREAD: &str = "[on no thread]";
const NOT_SEEN: &str = "[not seen of what the span took]";
const NEVER_RAN: &str = "[ready to run for the first time]";
const STACK_LOST: &str = "[stack lost]";

impl Renderer {
    /// A renderer for a capture that began then, in nanoseconds since 1970; `idle` shows threads without a span in full.
    pub fn new(idle: bool, began_unix_ns: u64) -> Renderer {
        Renderer { symbolizer: Symbolizer::new(), idle, balance: Balance::new(began_unix_ns) }
    }

    /// The capture begins anew, then: what is known of spans before does not count.
    pub fn restart(&mut self, began_unix_ns: u64) {
        self.balance = Balance::new(began_unix_ns);
    }

    /// Renders what `fold` holds; `keeping` decides which spans keep their ids. `period` is the sampling period in
    /// nanoseconds, `until_unix_ns` the window's end in nanoseconds since 1970.
    pub fn render(
        &mut self,
        fold: &Fold,
        programs: &Programs,
        period: u64,
        until_unix_ns: u64,
        keeping: &mut Keeping,
    ) -> Rendered {
        let mut weights = Weights::new(fold, period);
        let spans = balance::sums_by_span(fold, &weights);
        let seen = seen_spans(fold, programs, &spans, period, keeping);
        let kept = keeping.choose(&seen, Duration::from_nanos(period), Instant::now());
        let settled = self.balance.settle(&spans, &kept, keeping, until_unix_ns, &mut weights);
        let in_batches = in_batches(keeping.index(), kept.keys().copied(), Instant::now());
        let chains = chains(fold, &kept);
        let mut writer = Writer {
            profile: Profile::default(),
            names: self.name_addresses(fold, programs, &chains),
            fold,
            programs,
            kept: &kept,
            shares: BatchShares::new(&in_batches),
            coarse: if self.idle { HashSet::new() } else { processes_with_spans(fold) },
            modules: HashMap::new(),
            stacks: HashMap::new(),
            notes: HashMap::new(),
            waits: Waits::of(fold),
            folded: HashSet::new(),
            stacks_missing: 0,
        };
        let mut sums: Vec<(&FoldKey, &Sums)> = fold.sums.iter().collect();
        sums.sort_by_key(|(key, _)| **key);
        let mut shares = weights.shares();
        let overruns = Overruns::new(fold, &settled.overruns);
        for (key, sums) in sums {
            let cpu = shares.take(key.thread, key.span, sums.samples);
            let (within, beyond) = overruns.part(key, sums);
            writer.write(key, &within, cpu);
            if beyond != Sums::default() {
                writer.write(&FoldKey { span: None, ..*key }, &beyond, 0);
            }
        }
        let mut cpu_unsampled = 0;
        for (thread, span, cpu) in weights.unsampled() {
            cpu_unsampled += cpu;
            writer.write_unsampled(thread, span, cpu);
        }
        for remainder in &settled.remainders {
            writer.write_remainder(remainder);
        }
        let told = settled.told.into_iter();
        writer.profile.span_facts = told
            .map(|(span, told)| told.facts(span, keeping.index().get(&span), in_batches.get(&span)))
            .collect();
        writer.profile.relatives = relatives(keeping.index(), &kept, Instant::now());
        writer.profile.traffic = keeping.take_traffic();
        writer.write_wakers(&chains);
        Rendered {
            spans_folded: fold.spans_folded + writer.folded.len() as u64,
            stacks_missing: writer.stacks_missing,
            cpu_unsampled,
            profile: writer.profile,
        }
    }

    /// Names every address of every stack that the window used, one batch per object.
    fn name_addresses(
        &mut self,
        fold: &Fold,
        programs: &Programs,
        chains: &[(ActiveSpan, Vec<Link>)],
    ) -> Names {
        let mut wanted: BTreeMap<ObjectId, BTreeSet<u64>> = BTreeMap::new();
        let mut kernel: BTreeSet<u64> = BTreeSet::new();
        let of_wakers = chains.iter().flat_map(|(_, links)| links).filter_map(|link| link.stack);
        let used: HashSet<StackHash> =
            fold.sums.keys().filter_map(|key| key.stack).chain(of_wakers).collect();
        for stack in used.iter().filter_map(|stack| fold.stacks.get(stack)) {
            kernel.extend(&stack.kernel);
            for place in &stack.user {
                if let Some((object, address)) = object_address(programs, *place) {
                    wanted.entry(object).or_default().insert(address);
                }
            }
        }
        let mut names = Names::default();
        for (object, addresses) in wanted {
            let addresses: Vec<u64> = addresses.into_iter().collect();
            let frames = self.symbolizer.symbolize(programs.object(object), &addresses);
            names.user.extend(addresses.iter().map(|address| (object, *address)).zip(frames));
        }
        let kernel: Vec<u64> = kernel.into_iter().collect();
        let frames = self.symbolizer.symbolize_kernel(&kernel);
        names.kernel.extend(kernel.into_iter().zip(frames));
        names
    }
}

/// Who made the spans wait that keep their ids, as far as it was told.
fn chains(fold: &Fold, kept: &HashMap<ActiveSpan, Kept>) -> Vec<(ActiveSpan, Vec<Link>)> {
    let chains = Chains::new(&fold.wake_ups);
    let with_links = kept.keys().map(|span| (*span, chains.of(*span)));
    with_links.filter(|(_, links)| !links.is_empty()).collect()
}

#[derive(Default)]
struct Names {
    user: HashMap<(ObjectId, u64), Vec<Frame>>,
    kernel: HashMap<u64, Vec<Frame>>,
}

fn object_address(programs: &Programs, place: Place) -> Option<(ObjectId, u64)> {
    let module = place.module?;
    let object = programs.mapped(module).object?;
    Some((object, programs.address_in_object(module, place.address)?))
}

/// The window's spans, with what their threads' records said of them, how many samples hit each, and what it took at least.
/// Waits are exact. Of running, what lies between two samples is certain: one alone says nothing of how long.
fn seen_spans(
    fold: &Fold,
    programs: &Programs,
    spans: &HashMap<ActiveSpan, SpanSums>,
    period: u64,
    keeping: &mut Keeping,
) -> Vec<SeenSpan> {
    let mut classes = attributes::Classes::new(fold, programs);
    let seen = spans.iter().map(|(span, sums)| SeenSpan {
        span: *span,
        class: classes.of(*span, keeping),
        seen: Duration::from_nanos(sums.at_least(period)),
        samples: sums.samples(),
    });
    seen.collect()
}

struct Writer<'a> {
    profile: Profile,
    names: Names,
    fold: &'a Fold,
    programs: &'a Programs,
    kept: &'a HashMap<ActiveSpan, Kept>,
    shares: BatchShares,
    coarse: HashSet<ProcessId>,
    modules: HashMap<ModuleId, ProfileModuleId>,
    stacks: HashMap<StackHash, StackId>,
    notes: HashMap<Arc<str>, LocationId>,
    waits: Waits,
    folded: HashSet<ActiveSpan>,
    stacks_missing: u64,
}

impl Writer<'_> {
    fn write(&mut self, key: &FoldKey, sums: &Sums, cpu: u64) {
        let parts = self.shares.part(key.span, sums, cpu);
        for (charged, sums, cpu) in &parts.charged {
            let labels = self.labels_of(key.thread.process, Some(key.thread), key.span, Some(charged));
            self.write_as(key, sums, *cpu, labels, Some(charged));
        }
        let (sums, cpu) = parts.rest;
        let labels = self.labels(key.thread, key.span);
        self.write_as(key, &sums, cpu, labels, None);
    }

    fn write_as(
        &mut self,
        key: &FoldKey,
        sums: &Sums,
        cpu: u64,
        labels: LabelSetId,
        charged: Option<&Charged>,
    ) {
        let stack = key.stack.map(|stack| self.stack(stack));
        if let Some(stack) = stack {
            let stack = self.marked(stack, charged);
            self.profile.add(SampleKey { stack, labels, kind: SampleKind::Cpu }, cpu, sums.samples);
        }
        let is_idle = key.span.is_none() && self.coarse.contains(&key.thread.process);
        let waits = [
            (SampleKind::OffCpu, sums.off_cpu, BLOCKED_BEFORE_CAPTURE),
            (SampleKind::RunQueue, sums.run_queue, NEVER_RAN),
        ];
        for (kind, nanoseconds, without_stack) in waits.into_iter().filter(|(_, time, _)| *time > 0) {
            let seen = stack.unwrap_or_else(|| self.note_stack(without_stack));
            let labels = self.waits.extend(&mut self.profile, labels, seen, kind, key);
            let stack = if is_idle { self.note_stack(WAITING_WITHOUT_SPAN) } else { seen };
            let stack = self.marked(stack, charged);
            self.profile.add(SampleKey { stack, labels, kind }, nanoseconds, sums.blocks);
        }
    }

    /// A share's stack says so at its root: where labels are lost, as in a flame graph, it is still no time of the message's own.
    fn marked(&mut self, stack: StackId, charged: Option<&Charged>) -> StackId {
        let Some((_, share)) = charged else { return stack };
        let mark = self.note(&format!("[share of a batch of {}]", share.of));
        let locations = self.profile.stack(stack).iter().copied().chain([mark]).collect();
        self.profile.intern_stack(locations)
    }

    fn write_unsampled(&mut self, thread: ThreadKey, span: Option<ActiveSpan>, cpu: u64) {
        let labels = self.labels(thread, span);
        let stack = self.note_stack(NOT_SAMPLED);
        self.profile.add(SampleKey { stack, labels, kind: SampleKind::Cpu }, cpu, 0);
    }

    fn write_remainder(&mut self, remainder: &Remainder) {
        let labels = self.labels_of(remainder.process, None, Some(remainder.span), None);
        let note = match remainder.kind {
            SampleKind::Suspended => ON_NO_THREAD,
            _ if remainder.is_before_capture => BEFORE_CAPTURE,
            _ => NOT_SEEN,
        };
        let stack = self.note_stack(note);
        self.profile.add(SampleKey { stack, labels, kind: remainder.kind }, remainder.nanoseconds, 1);
    }

    fn write_wakers(&mut self, chains: &[(ActiveSpan, Vec<Link>)]) {
        for (span, links) in chains {
            let chain = links.iter().map(|link| self.woken_by(link)).collect();
            self.profile.wakers.insert(&hex(&span.trace_id), &hex(&span.span_id), chain);
        }
    }

    fn woken_by(&self, link: &Link) -> WokenBy {
        let Waker::Thread(ThreadKey { process, thread }, span) = link.waker else {
            return WokenBy::interrupt(link.nanoseconds);
        };
        let placed = link.stack.and_then(|stack| self.fold.stacks.get(&stack));
        let frames: Vec<Frame> = placed
            .iter()
            .flat_map(|placed| &placed.user)
            .filter_map(|place| self.names.user.get(&object_address(self.programs, *place)?))
            .flatten()
            .cloned()
            .collect();
        WokenBy {
            service: self.programs.program(process).map(|program| program.service.clone()),
            trace_id: span.map(|span| hex(&span.trace_id)),
            span_id: span.map(|span| hex(&span.span_id)),
            ..WokenBy::thread(link.nanoseconds, process, thread, &link.name, &frames)
        }
    }

    fn labels(&mut self, thread: ThreadKey, span: Option<ActiveSpan>) -> LabelSetId {
        self.labels_of(thread.process, Some(thread), span, None)
    }

    /// Of a share the ids are the message's that is charged, and all else the batch's.
    fn labels_of(
        &mut self,
        process: ProcessId,
        thread: Option<ThreadKey>,
        span: Option<ActiveSpan>,
        charged: Option<&Charged>,
    ) -> LabelSetId {
        let mut labels = vec![Label::number(label::PID, i64::from(process))];
        if let Some(thread) = thread {
            labels.push(Label::number(label::THREAD_ID, i64::from(thread.thread)));
            if let Some(sums) = self.fold.threads.get(&thread).filter(|sums| !sums.name.is_empty()) {
                labels.push(Label::text(label::THREAD_NAME, sums.name.as_str()));
            }
        }
        if let Some(program) = self.programs.program(process) {
            labels.push(Label::text(label::SERVICE_NAME, program.service.as_str()));
        }
        if let Some((_, share)) = charged {
            labels.push(Label::text(label::SHARE, format!("1/{}", share.of)));
        }
        if let Some(span) = span {
            let owner = charged.map_or(span, |(message, _)| *message);
            if let Some(kept) = self.kept.get(&owner) {
                labels.push(Label::text(label::TRACE_ID, hex(&owner.trace_id)));
                labels.push(Label::text(label::SPAN_ID, hex(&owner.span_id)));
                if kept.reason != Reason::Normal {
                    labels.push(Label::text(label::KEPT, kept.reason.as_str()));
                }
            } else {
                self.folded.insert(span);
            }
            let said = attributes::shown(self.fold, self.programs, span);
            labels.extend(said.into_iter().map(|(name, value)| Label::text(name, value)));
        }
        self.profile.intern_labels(labels)
    }

    fn stack(&mut self, hash: StackHash) -> StackId {
        if let Some(stack) = self.stacks.get(&hash) {
            return *stack;
        }
        let fold = self.fold;
        let stack = match fold.stacks.get(&hash) {
            Some(placed) => {
                let locations = self.locations(placed);
                self.profile.intern_stack(locations)
            }
            None => {
                self.stacks_missing += 1;
                self.note_stack(STACK_LOST)
            }
        };
        self.stacks.insert(hash, stack);
        stack
    }

    fn locations(&mut self, stack: &PlacedStack) -> Vec<LocationId> {
        let mut locations = Vec::with_capacity(stack.kernel.len() + stack.user.len() + 1);
        let names = |address: &u64| self.names.kernel.get(address).cloned().unwrap_or_default();
        let kernel: Vec<(u64, Vec<Frame>)> = stack
            .kernel
            .iter()
            .map(|address| (*address, names(address)))
            .skip_while(|(_, frames)| frames.iter().any(is_of_the_capture))
            .collect();
        if let Some(peer) = stack.peer {
            locations.push(self.note(&format!("[{peer}]")));
        }
        for (address, frames) in kernel {
            locations.push(self.location(None, address, frames));
        }
        for place in &stack.user {
            let frames = object_address(self.programs, *place)
                .and_then(|key| self.names.user.get(&key).cloned())
                .unwrap_or_default();
            let module = place.module.map(|module| self.module(module));
            locations.push(self.location(module, place.address, frames));
        }
        if let Some(note) = end_note(stack.end) {
            locations.push(self.note(note));
        }
        locations
    }

    fn location(
        &mut self,
        module: Option<ProfileModuleId>,
        address: u64,
        mut frames: Vec<Frame>,
    ) -> LocationId {
        if frames.is_empty() {
            frames.push(unnamed(address));
        }
        self.profile.intern_location(Location { module, address, frames })
    }

    fn module(&mut self, module: ModuleId) -> ProfileModuleId {
        if let Some(known) = self.modules.get(&module) {
            return *known;
        }
        let mapped = self.programs.mapped(module);
        let build_id = mapped.object.and_then(|object| self.programs.object(object).build_id());
        let id = self.profile.intern_module(Module {
            start: mapped.start,
            end: mapped.end,
            file_offset: mapped.file_offset,
            path: mapped.path.as_str().into(),
            build_id: build_id.unwrap_or_default().into(),
        });
        self.modules.insert(module, id);
        id
    }

    fn note_stack(&mut self, text: &str) -> StackId {
        let location = self.note(text);
        self.profile.intern_stack(vec![location])
    }

    fn note(&mut self, text: &str) -> LocationId {
        if let Some(known) = self.notes.get(text) {
            return *known;
        }
        let name: Arc<str> = text.into();
        let frame = Frame {
            function: name.clone(),
            system_name: name.clone(),
            file: None,
            line: 0,
            kind: FrameKind::Synthetic,
        };
        let id = self.profile.intern_location(Location { module: None, address: 0, frames: vec![frame] });
        self.notes.insert(name, id);
        id
    }
}

/// The kernel's frames between the scheduler and our program: how a stack was taken, not where the
/// thread was.
fn is_of_the_capture(frame: &Frame) -> bool {
    ["bpf_prog_", "bpf_trace_run", "__bpf_trace_", "__traceiter_", "trace_call_bpf"]
        .iter()
        .any(|prefix| frame.function.starts_with(prefix))
}

fn unnamed(address: u64) -> Frame {
    let name: Arc<str> = format!("[unknown]+{address:#x}").into();
    Frame { function: name.clone(), system_name: name, file: None, line: 0, kind: FrameKind::Native }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
