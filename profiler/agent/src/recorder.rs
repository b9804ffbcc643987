//! A running capture: targets in, windows out.
//!
//! The glue between the rooms: it tells the capture which code lies where, gives events to the window's
//! fold, and answers what happens to processes meanwhile (exec, fork, exit, new libraries).

mod accounting;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use spanprof_context::locate::{self, Access};
use spanprof_exporter::Profile;

use crate::capture::bpf::{BpfCapture, BpfError, BpfOptions, Visited, monotonic_now};
use crate::capture::{ContextSlot, Event, ProcessId, ThreadId, WalkEnd};
use crate::spans::{IndexLimits, Keeping, KeepingOptions};
use crate::summary::{Summary, loss};
use crate::targets::{CodeMappings, ProcFs, ProcessError, ThreadState, service_name};
use crate::window::{Fold, Programs, Renderer, ScanError};

/// Every process's mappings are read again within this time, for libraries that came and went; at most
/// [`RESCANS`] of them at once.
const RESCANS: usize = 16;
/// A process whose stacks lead to unknown code is looked at again at most this often.
const RESCAN_INTERVAL: Duration = Duration::from_millis(50);
/// What changes without an event is looked at this often: libraries, contexts, losses.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How to capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureOptions {
    /// On-CPU samples per second and CPU.
    pub hz: u32,
    /// Whether threads without a span are shown in full.
    pub idle: bool,
    /// Whether the kernel's part of each stack is kept.
    pub kernel_stacks: bool,
    /// Which spans keep their ids.
    pub spans: KeepingOptions,
    /// Bytes of program text that unwind tables get room for; see [`text_bytes_of`].
    pub text_bytes: u64,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        CaptureOptions {
            hz: 99,
            idle: false,
            kernel_stacks: true,
            spans: KeepingOptions::default(),
            text_bytes: 256 << 20,
        }
    }
}

/// Room for what processes may load after they were looked at, in bytes of text.
const TEXT_TO_COME: u64 = 64 << 20;

/// How much room unwind tables need for these processes: their text, each file once, and some to spare.
/// The kernel's tables have a fixed size and take a ninth of it in memory.
pub fn text_bytes_of(procfs: &ProcFs, processes: &[ProcessId]) -> u64 {
    let mut files = HashSet::new();
    let mut bytes = TEXT_TO_COME;
    for process in processes {
        let Ok(code) = CodeMappings::read(procfs, *process) else { continue };
        for mapping in &code.mappings {
            if mapping.inode != 0 && files.insert((mapping.device, mapping.inode, mapping.offset)) {
                bytes = bytes.saturating_add(mapping.end - mapping.start);
            }
        }
    }
    bytes
}

/// Why a capture could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecorderError {
    /// A privilege is missing.
    #[error("not allowed to {what}: {capability} is missing")]
    NotPermitted {
        /// What was refused.
        what: String,
        /// What would allow it.
        capability: &'static str,
    },
    /// This kernel or this build cannot do it.
    #[error("cannot capture here: {reason}")]
    Unsupported {
        /// What is missing.
        reason: String,
    },
    /// A process cannot be profiled.
    #[error(transparent)]
    Target(#[from] ProcessError),
}

impl From<BpfError> for RecorderError {
    fn from(error: BpfError) -> RecorderError {
        match error {
            BpfError::NotPermitted { what } => {
                RecorderError::NotPermitted { what, capability: "CAP_BPF and CAP_PERFMON" }
            }
            other => RecorderError::Unsupported { reason: other.to_string() },
        }
    }
}

impl From<ScanError> for RecorderError {
    fn from(error: ScanError) -> RecorderError {
        match error {
            ScanError::Process(error) => RecorderError::Target(error),
        }
    }
}

/// What a capture did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Samples in this window.
    pub samples: u64,
    /// Targets that live.
    pub live_targets: usize,
    /// Samples lost in this window.
    pub lost: u64,
}

/// A closed window.
#[derive(Debug)]
pub struct Window {
    /// What was seen.
    pub profile: Profile,
    /// What was seen and lost, in numbers.
    pub summary: Summary,
}

/// A running capture.
pub struct Recorder {
    capture: BpfCapture,
    programs: Programs,
    procfs: ProcFs,
    fold: Fold,
    renderer: Renderer,
    /// Shared with who receives finished spans.
    keeping: Arc<Mutex<Keeping>>,
    options: CaptureOptions,
    /// How long a window that closes waits for the spans that ended in it last.
    last_spans: Duration,
    opened: u64,
    opened_unix: u64,
    checked: Instant,
    /// Threads that have been blocked since before the capture, as they were visited.
    visited: HashMap<ThreadId, Visited>,
    /// Threads that ended in this window.
    ended: Vec<ThreadId>,
    /// Processes whose stacks led to unknown code since they were last looked at.
    with_unknown_code: BTreeSet<ProcessId>,
    lost: u64,
    counted: BTreeMap<&'static str, u64>,
    stacks_truncated: u64,
}

impl Recorder {
    /// Starts a capture without targets.
    ///
    /// # Errors
    /// When a privilege or a feature of the kernel is missing.
    pub fn start(options: &CaptureOptions) -> Result<Recorder, RecorderError> {
        let bpf = BpfOptions {
            hertz: options.hz,
            kernel_stacks: options.kernel_stacks,
            text_bytes: options.text_bytes,
            ..BpfOptions::default()
        };
        Ok(Recorder {
            capture: BpfCapture::start(&bpf)?,
            programs: Programs::default(),
            procfs: ProcFs::host(),
            fold: Fold::default(),
            renderer: Renderer::new(options.idle, unix_now()),
            keeping: Arc::new(Mutex::new(Keeping::new(
                options.spans,
                IndexLimits::default(),
                Instant::now(),
            ))),
            options: options.clone(),
            last_spans: Duration::ZERO,
            opened: monotonic_now(),
            opened_unix: unix_now(),
            checked: Instant::now(),
            visited: HashMap::new(),
            ended: Vec::new(),
            with_unknown_code: BTreeSet::new(),
            lost: 0,
            counted: BTreeMap::new(),
            stacks_truncated: 0,
        })
    }

    /// Where finished spans go, so that windows that close later know them.
    pub fn keeping(&self) -> Arc<Mutex<Keeping>> {
        Arc::clone(&self.keeping)
    }

    /// From now on a window that closes waits so long for the spans that ended in it last, and are told a little later.
    pub fn wait_for_last_spans(&mut self, patience: Duration) {
        self.last_spans = patience;
    }

    /// Adds a process, with all its threads and those to come.
    ///
    /// # Errors
    /// When it is gone or may not be read.
    pub fn add_target(&mut self, pid: u32) -> Result<(), RecorderError> {
        let is_new = self.programs.program(pid).is_none();
        self.look_at(pid)?;
        if is_new {
            self.visit(pid);
        }
        Ok(())
    }

    /// Begins the window anew: what was captured while targets were being added does not count.
    pub fn restart_window(&mut self) {
        let mut events = Vec::new();
        self.opened = self.capture.close_window(&mut |event| events.push(event));
        self.opened_unix = unix_at(self.opened);
        self.renderer.restart(self.opened_unix);
        self.take(events);
        self.stacks_truncated = 0;
        self.fold.next_window();
    }

    /// Waits for samples, at most this long.
    ///
    /// # Errors
    /// When the capture broke.
    pub fn poll(&mut self, timeout: Duration) -> Result<Progress, RecorderError> {
        self.capture.wait(timeout);
        let mut events = Vec::new();
        self.capture.drain(&mut |event| events.push(event));
        self.take(events);
        if self.checked.elapsed() > CHECK_INTERVAL {
            self.checked = Instant::now();
            self.look_at_the_oldest();
            self.look_for_contexts();
            self.lost = self.samples_lost();
        }
        Ok(Progress {
            samples: self.fold.samples,
            live_targets: self.programs.processes().filter(|(_, program)| !program.ended).count(),
            lost: self.lost,
        })
    }

    /// Ends the window and begins the next.
    pub fn close_window(&mut self) -> Window {
        let mut events = Vec::new();
        let now = self.capture.close_window(&mut |event| events.push(event));
        let now_unix = unix_at(now);
        self.take(events);
        self.add_silent_threads(now);
        let next = self.wait();
        let length = now.saturating_sub(self.opened);
        let period = 1_000_000_000 / u64::from(self.options.hz.max(1));
        let rendered = {
            let mut keeping = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
            self.renderer.render(&self.fold, &self.programs, period, now_unix, &mut keeping)
        };
        let mut profile = rendered.profile;
        profile.start_unix_nanoseconds = self.opened_unix;
        profile.duration_nanoseconds = length;
        profile.period_nanoseconds = period;
        let mut losses = self.new_losses();
        for (cause, number) in [
            (loss::SPANS_FOLDED, rendered.spans_folded),
            ("stacks_missing", rendered.stacks_missing),
            ("wakers_not_taken", self.fold.wake_ups.dropped),
            ("relatives_left_out", profile.relatives.number_left_out()),
            ("cpu_ns_between_samples", rendered.cpu_unsampled),
            (loss::STACKS_TRUNCATED, std::mem::take(&mut self.stacks_truncated)),
        ] {
            *losses.entry(cause.to_owned()).or_default() += number;
        }
        losses.retain(|_, number| *number > 0);
        let summary = self.summary(&profile, length, losses);
        self.fold.next_window();
        self.capture.forget_sent();
        self.opened = now;
        self.opened_unix = now_unix;
        for thread in self.ended.drain(..) {
            self.visited.remove(&thread);
        }
        for process in self.programs.forget_ended() {
            self.capture.remove_target(process);
        }
        self.take(next);
        Window { profile, summary }
    }

    /// Waits for the window's last spans; what happens meanwhile is the next window's.
    fn wait(&mut self) -> Vec<Event> {
        let mut next = Vec::new();
        let end = Instant::now() + self.last_spans;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return next;
            }
            self.capture.wait(left);
            self.capture.drain(&mut |event| next.push(event));
        }
    }

    fn take(&mut self, events: Vec<Event>) {
        self.look_again();
        for mut event in events {
            match &mut event {
                Event::Waited { thread, stack: stack @ None, span, .. } => {
                    if let Some(visited) = self.visited.get(thread) {
                        *stack = Some(visited.stack);
                        *span = visited.span;
                    }
                }
                Event::Executed { process } => {
                    let _ = self.look_at(*process);
                }
                Event::Forked { parent, child } => self.follow_fork(*parent, *child),
                Event::ThreadEnded { process, thread, last } => {
                    // Not before the window closes: what it did last is reported after its end.
                    self.ended.push(*thread);
                    if *last && let Some(program) = self.programs.program_mut(*process) {
                        program.ended = true;
                        // At once, and not with the window: the kernel side has room for so many targets.
                        self.capture.remove_target(*process);
                    }
                }
                Event::Stack { process, end, .. } => {
                    if *end == WalkEnd::NoMapping {
                        self.with_unknown_code.insert(*process);
                        self.look_again();
                    }
                    self.stacks_truncated += u64::from(!matches!(end, WalkEnd::Root | WalkEnd::Budget));
                }
                _ => {}
            }
            self.fold.add(event, &self.programs);
        }
    }

    /// Reads a process's mappings and context, and tells the kernel.
    fn look_at(&mut self, pid: ProcessId) -> Result<(), RecorderError> {
        let is_new = self.programs.program(pid).is_none();
        let capture = &mut self.capture;
        let scanned =
            self.programs.scan(&self.procfs, pid, &mut |pages, rows| capture.install(pages, rows))?;
        let context_found = self.look_for_context(pid);
        if scanned.changed || context_found || is_new {
            let context = self.programs.program(pid).map_or(ContextSlot::Absent, |program| program.context);
            self.capture.set_target(pid, &scanned.code, context)?;
        }
        Ok(())
    }

    /// Walks the stacks of threads that have not run since the process was taken on.
    fn visit(&mut self, pid: ProcessId) {
        let Some(program) = self.programs.program(pid) else { return };
        let Some(code) = self.programs.code(pid) else { return };
        let mut stacks = Vec::new();
        // Without an iterator these threads' time stands under a note instead of a stack.
        if let Ok(visited) = self.capture.visit(pid, &code, program.context, &mut |event| stacks.push(event))
        {
            self.visited.extend(visited.into_iter().map(|visited| (visited.thread, visited)));
        }
        self.take(stacks);
    }

    /// A library that took another's place leaves no trace but in the process's mappings.
    fn look_at_the_oldest(&mut self) {
        let mut processes: Vec<(Instant, ProcessId)> = self
            .programs
            .processes()
            .filter(|(_, program)| !program.ended)
            .map(|(process, program)| (program.scanned, process))
            .collect();
        processes.sort();
        for (_, process) in processes.into_iter().take(RESCANS) {
            let _ = self.look_at(process);
        }
    }

    /// Looks again at processes whose stacks led to unknown code, as soon as their last look is long enough ago.
    /// The wish outlives the stack that raised it, which comes only once.
    fn look_again(&mut self) {
        for process in std::mem::take(&mut self.with_unknown_code) {
            let Some(program) = self.programs.program(process).filter(|program| !program.ended) else {
                continue;
            };
            if program.scanned.elapsed() > RESCAN_INTERVAL {
                let _ = self.look_at(process);
            } else {
                self.with_unknown_code.insert(process);
            }
        }
    }

    fn follow_fork(&mut self, parent: ProcessId, child: ProcessId) {
        let context = self.programs.program(parent).map(|program| program.context);
        match (self.programs.fork(&self.procfs, parent, child), context) {
            (Some(code), Some(context)) => {
                let _ = self.capture.set_target(child, &code, context);
            }
            _ => {
                let _ = self.look_at(child);
            }
        }
    }

    /// Processes may begin to publish at any time, so those that do not are asked again.
    fn look_for_contexts(&mut self) {
        let silent: Vec<ProcessId> = self
            .programs
            .processes()
            .filter(|(_, program)| !program.ended && program.context == ContextSlot::Absent)
            .map(|(process, _)| process)
            .collect();
        for process in silent {
            if self.look_for_context(process)
                && let Some(program) = self.programs.program(process)
                && let Some(code) = self.programs.code(process)
            {
                let _ = self.capture.set_target(process, &code, program.context);
            }
        }
    }

    /// Finds how a process publishes its spans; whether that is news.
    fn look_for_context(&mut self, pid: ProcessId) -> bool {
        let Some(program) = self.programs.program_mut(pid) else { return false };
        if program.context != ContextSlot::Absent {
            return false;
        }
        let Ok(Some(slot)) = locate::thread_slot(pid) else { return false };
        program.context = match slot.access {
            Access::Static { offset } => ContextSlot::Static { offset, sequence: slot.has_sequence },
            Access::Dynamic { module, offset, vector } => ContextSlot::Dynamic {
                vector_offset: module.saturating_mul(vector.entry_size),
                offset: offset as i64,
            },
        };
        if let Ok(Some(found)) = spanprof_context::process::read(pid) {
            let published = found.context.service_name().map(str::to_owned);
            program.service = service_name(&self.procfs, &program.process, published);
            program.attribute_keys = found.context.key_map().names().to_vec();
        }
        true
    }

    /// Threads that neither ran nor were woken in the whole window leave no event; they were blocked.
    fn add_silent_threads(&mut self, now: u64) {
        let mut silent = Vec::new();
        for (process, program) in self.programs.processes().filter(|(_, program)| !program.ended) {
            let Ok(threads) = program.process.threads(&self.procfs) else { continue };
            for thread in threads {
                let is_known = self.capture.tracks(thread.thread_id);
                if !is_known && thread.state != ThreadState::Runnable {
                    silent.push((process, thread));
                }
            }
        }
        let length = now.saturating_sub(self.opened);
        for (process, thread) in silent {
            let id = thread.thread_id;
            let ran =
                Event::Ran { process, thread: id, cpu: 0, name: thread.name, since: self.opened, until: now };
            self.fold.add(ran, &self.programs);
            let visited = self.visited.get(&id);
            let waited = Event::Waited {
                process,
                thread: id,
                stack: visited.map(|visited| visited.stack),
                span: visited.and_then(|visited| visited.span),
                off_cpu: length,
                run_queue: 0,
                count: 1,
            };
            self.fold.add(waited, &self.programs);
        }
    }
}

/// A time of the kernel's clock, in nanoseconds since 1970: what is read a moment later is not what was.
fn unix_at(monotonic: u64) -> u64 {
    unix_now().saturating_sub(monotonic_now().saturating_sub(monotonic))
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}
