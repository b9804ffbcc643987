//! The best rung: programs in the kernel that sample, time and unwind.
//!
//! Needs CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN) and a kernel with BTF. What runs there is in
//! `bpf/`, with the reasons; here it is loaded, told what to watch, and listened to.

mod accounts;
mod error;
mod layout;
mod ring;
mod shared;
mod tables;
mod visit;

use std::collections::HashMap;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use aya::maps::{Map, MapData, PerCpuArray, RingBuf};
use aya::programs::perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent};
use aya::programs::{BtfTracePoint, Iter, PerfEvent};
use aya::{Btf, Ebpf, EbpfLoader, VerifierLogLevel};

use self::accounts::Accounts;
use self::layout::{
    BLOCK_CELLS, COUNT_WALK_ENDS, COUNTER_NAMES, Entry, Mapping, SEEN_SLOTS, Settings, Shared, Target, Thread,
};
use self::shared::SharedArray;
use self::tables::{Run, Tables};
use super::{ContextSlot, Counters, Event, ProcessId, ThreadId, WalkEnd};

pub use self::error::BpfError;
pub use self::tables::{CodeMapping, InstalledSegment};
pub use self::visit::Visited;

/// The programs, as built by `bpf/build.sh`.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/spanprof.bpf.o"));

/// One walk per thread and this time on the average: at a walk's 1 to 2 microseconds at most 2 %.
/// Benchmark: `benches/pingpong.sh`.
const WALK_INTERVAL: Duration = Duration::from_micros(100);
/// How much of that a thread can save up: 64 walks in a row.
const WALK_BURST: Duration = Duration::from_micros(6_400);
/// Waits that sum to less than this fold together when their entry is evicted ...
const FOLD_BELOW: Duration = Duration::from_micros(20);
/// ... once a thread has had more such evictions than one per this time ...
const RECORD_INTERVAL: Duration = Duration::from_micros(50);
/// ... and has spent what it had saved up: 100 of them.
const RECORD_BURST: Duration = Duration::from_micros(5_000);

/// Who ended a wait is asked of waits within a span that are at least this long: slow messages wait long, and short waits
/// are told by their stacks ...
const WAKER_ABOVE: Duration = Duration::from_millis(1);
/// ... once per CPU and this time on the average, each at the price of a walk ...
const WAKER_INTERVAL: Duration = Duration::from_micros(200);
/// ... with 1,000 of them saved up, as one thread can wake many.
const WAKER_BURST: Duration = Duration::from_millis(200);

/// After so many processes have gone, the filter is rebuilt; it has 4,096 bits.
const MAX_STALE_BITS: usize = 256;

/// How a capture is dimensioned and what it takes.
#[derive(Debug, Clone)]
pub struct BpfOptions {
    /// Samples per second and CPU.
    pub hertz: u32,
    /// Whether kernel frames are taken.
    pub kernel_stacks: bool,
    /// Threads that can be tracked at once; rounded up to a power of two.
    pub threads: usize,
    /// Bytes of program text that unwind tables must have room for.
    pub text_bytes: u64,
    /// Executable mappings, over all targets.
    pub mappings: usize,
    /// Bytes of the ring that carries records; rounded up to a power of two.
    pub ring_bytes: usize,
}

impl Default for BpfOptions {
    fn default() -> Self {
        BpfOptions {
            hertz: 99,
            kernel_stacks: true,
            threads: 4096,
            text_bytes: 256 << 20,
            mappings: 32 << 10,
            ring_bytes: 4 << 20,
        }
    }
}

/// A running capture. Dropping it detaches everything: nothing stays in the kernel.
pub struct BpfCapture {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
    targets: aya::maps::HashMap<MapData, u32, Target>,
    counters: PerCpuArray<MapData, u64>,
    settings: SharedArray<Settings>,
    threads: SharedArray<Thread>,
    seen: SharedArray<u64>,
    tables: Tables,
    placed: HashMap<ProcessId, Run>,
    accounts: Accounts,
    ended: Vec<ThreadId>,
    /// Targets let go since the filter was last rebuilt.
    stale_bits: usize,
}

impl BpfCapture {
    /// Loads and attaches the programs. Nothing is captured until a target is added.
    ///
    /// # Errors
    /// [`BpfError`] says which privilege or kernel feature is missing.
    pub fn start(options: &BpfOptions) -> Result<BpfCapture, BpfError> {
        Self::start_object(OBJECT, options)
    }

    /// Like [`start`](Self::start) with an object of the caller's, such as one rebuilt by a test.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_object(object: &[u8], options: &BpfOptions) -> Result<BpfCapture, BpfError> {
        let btf =
            Btf::from_sys_fs().map_err(|cause| BpfError::NoTypeInformation { cause: cause.to_string() })?;
        let online = aya::util::online_cpus()
            .map_err(|(what, cause)| BpfError::Map { what: what.to_owned(), cause })?;
        let cpus = online.iter().max().map_or(1, |last| last + 1);
        let thread_slots = options.threads.max(64).next_power_of_two() as u32;
        let ring_bytes = options.ring_bytes.max(64 << 10).next_power_of_two() as u32;
        let page_blocks = (options.text_bytes / 256).div_ceil(BLOCK_CELLS as u64) as u32 + 8;
        // Measured: rows take up to 11 % of text (4 bytes each), less the pages' 1.6 %.
        let row_blocks = (options.text_bytes / 9).div_ceil(4 * BLOCK_CELLS as u64) as u32 + 64;
        let mut ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .verifier_log_level(VerifierLogLevel::DISABLE)
            .map_max_entries("threads", thread_slots)
            .map_max_entries("ring", ring_bytes)
            .map_max_entries("pages", page_blocks)
            .map_max_entries("rows", row_blocks)
            .map_max_entries("mappings", options.mappings as u32)
            .map_max_entries("rule_caches", cpus)
            .override_global("thread_mask", &(thread_slots - 1), true)
            .override_global("wake_above", &(u64::from(ring_bytes) / 8), true)
            .load(object)
            .map_err(BpfError::from_load)?;
        let settings = share::<Settings>(&mut ebpf, "settings", 1)?;
        let threads = share::<Thread>(&mut ebpf, "threads", thread_slots as usize)?;
        let seen = share::<u64>(&mut ebpf, "seen", SEEN_SLOTS)?;
        let tables = Tables::new(
            share(&mut ebpf, "pages", page_blocks as usize)?,
            share(&mut ebpf, "rows", row_blocks as usize)?,
            share::<Mapping>(&mut ebpf, "mappings", options.mappings)?,
        );
        let mut initial = settings.read(0);
        initial.walk_interval = WALK_INTERVAL.as_nanos() as u64;
        initial.walk_burst = WALK_BURST.as_nanos() as u64;
        initial.fold_below = FOLD_BELOW.as_nanos() as u64;
        initial.record_interval = RECORD_INTERVAL.as_nanos() as u64;
        initial.record_burst = RECORD_BURST.as_nanos() as u64;
        initial.waker_above = WAKER_ABOVE.as_nanos() as u64;
        initial.waker_interval = WAKER_INTERVAL.as_nanos() as u64;
        initial.waker_burst = WAKER_BURST.as_nanos() as u64;
        initial.version = 1;
        initial.flags = if options.kernel_stacks { layout::SETTING_KERNEL_STACKS } else { 0 };
        settings.write(0, initial);
        let ring = RingBuf::try_from(take(&mut ebpf, "ring")?).map_err(BpfError::map("ring"))?;
        let targets =
            aya::maps::HashMap::try_from(take(&mut ebpf, "targets")?).map_err(BpfError::map("targets"))?;
        let counters =
            PerCpuArray::try_from(take(&mut ebpf, "counters")?).map_err(BpfError::map("counters"))?;
        let mut capture = BpfCapture {
            ebpf,
            ring,
            targets,
            counters,
            settings,
            threads,
            seen,
            tables,
            placed: HashMap::new(),
            accounts: Accounts::default(),
            ended: Vec::new(),
            stale_bits: 0,
        };
        capture.attach(&btf, &online, options.hertz)?;
        drop(btf);
        // Reading the kernel's types took tens of megabytes that nothing needs any more.
        // SAFETY: glibc's call to give free memory back.
        #[cfg(target_env = "gnu")]
        unsafe {
            libc::malloc_trim(0);
        }
        Ok(capture)
    }

    fn attach(&mut self, btf: &Btf, cpus: &[u32], hertz: u32) -> Result<(), BpfError> {
        for (program, tracepoint) in [
            ("on_fork", "sched_process_fork"),
            ("on_exec", "sched_process_exec"),
            ("on_exit", "sched_process_exit"),
            ("on_waking", "sched_waking"),
            ("on_switch", "sched_switch"),
        ] {
            let program: &mut BtfTracePoint = self
                .ebpf
                .program_mut(program)
                .ok_or(BpfError::Object { what: program })?
                .try_into()
                .map_err(BpfError::program(tracepoint))?;
            program.load(tracepoint, btf).map_err(BpfError::program(tracepoint))?;
            program.attach().map_err(BpfError::program(tracepoint))?;
        }
        let visitor: &mut Iter = self
            .ebpf
            .program_mut("on_visit")
            .ok_or(BpfError::Object { what: "on_visit" })?
            .try_into()
            .map_err(BpfError::program("task iterator"))?;
        visitor.load("task", btf).map_err(BpfError::program("task iterator"))?;
        let sampler: &mut PerfEvent = self
            .ebpf
            .program_mut("on_sample")
            .ok_or(BpfError::Object { what: "on_sample" })?
            .try_into()
            .map_err(BpfError::program("cpu-clock"))?;
        sampler.load().map_err(BpfError::program("cpu-clock"))?;
        let period = 1_000_000_000 / u64::from(hertz.max(1));
        for cpu in cpus {
            sampler
                .attach(
                    PerfEventConfig::Software(SoftwareEvent::CpuClock),
                    PerfEventScope::AllProcessesOneCpu { cpu: *cpu },
                    SamplePolicy::Period(period),
                    false,
                )
                .map_err(BpfError::program("cpu-clock"))?;
        }
        Ok(())
    }

    /// Copies an unwind table in. `None` if there is no room left for it: its code will not unwind.
    pub fn install(&mut self, pages: &[u32], rows: &[u32]) -> Option<InstalledSegment> {
        self.tables.install(pages, rows)
    }

    /// Frees a table that no target's mappings use any more.
    pub fn remove_table(&mut self, segment: InstalledSegment) {
        self.tables.remove(segment);
    }

    /// Takes a process on, or changes what is known of it. `mappings` must be sorted by start.
    ///
    /// # Errors
    /// [`BpfError`] if the kernel refuses another target or there is no room for its mappings.
    pub fn set_target(
        &mut self,
        process: ProcessId,
        mappings: &[CodeMapping],
        context: ContextSlot,
    ) -> Result<(), BpfError> {
        let run = self.tables.place_mappings(mappings).ok_or(BpfError::NoRoom { process })?;
        let since = self.targets.get(&process, 0).map_or_else(|_| monotonic_now(), |known| known.since);
        let (context_kind, context_offset, context_module) = match context {
            ContextSlot::Absent => (layout::CONTEXT_NONE, 0, 0),
            ContextSlot::Static { offset, sequence: true } => (layout::CONTEXT_SEQUENCE, offset, 0),
            ContextSlot::Static { offset, sequence: false } => (layout::CONTEXT_STATIC, offset, 0),
            ContextSlot::Dynamic { vector_offset, offset } => {
                (layout::CONTEXT_DYNAMIC, offset, vector_offset)
            }
        };
        let generation =
            self.settings.word(0, offset_of!(Settings, generation)).fetch_add(1, Ordering::SeqCst) + 1;
        let target = Target {
            since,
            context_offset,
            context_module,
            context_kind,
            first_mapping: run.first,
            mapping_count: run.length,
            generation,
        };
        self.targets.insert(process, target, 0).map_err(BpfError::map("targets"))?;
        self.pass_filter(process);
        self.settings.word(0, offset_of!(Settings, version)).fetch_add(1, Ordering::SeqCst);
        if let Some(old) = self.placed.insert(process, run) {
            // A walk that began before may still read the old run; it ends within microseconds, and a
            // run is handed out again at the earliest by the next call.
            self.tables.free_mappings(old);
        }
        Ok(())
    }

    /// Lets a process go; what it did so far was or will be reported.
    pub fn remove_target(&mut self, process: ProcessId) {
        let _ = self.targets.remove(&process);
        if let Some(run) = self.placed.remove(&process) {
            self.tables.free_mappings(run);
        }
        self.stale_bits += 1;
        if self.stale_bits > MAX_STALE_BITS {
            self.rebuild_filter();
        }
    }

    /// Takes the bits of processes that are gone out of the filter, before everybody passes it.
    ///
    /// The kernel side adds a forked child to the targets before it sets the child's bit, so a bit that
    /// is overwritten here is set again from the targets.
    fn rebuild_filter(&mut self) {
        self.stale_bits = 0;
        let mut filter = [0; layout::FILTER_WORDS];
        for process in self.targets.keys().flatten() {
            filter[filter_word(process)] |= 1 << (process & 63);
        }
        for (word, bits) in filter.into_iter().enumerate() {
            self.settings.long(0, word * 8).store(bits, Ordering::SeqCst);
        }
        for process in self.targets.keys().flatten() {
            self.pass_filter(process);
        }
    }

    fn pass_filter(&self, process: ProcessId) {
        self.settings.long(0, filter_word(process) * 8).fetch_or(1 << (process & 63), Ordering::SeqCst);
    }

    /// Waits until records pile up, at most `timeout`. Being interrupted by a signal is not an error.
    pub fn wait(&self, timeout: Duration) {
        let mut poll = libc::pollfd { fd: self.ring.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        unsafe { libc::poll(&mut poll, 1, timeout.as_millis().min(i32::MAX as u128) as i32) };
    }

    /// Reports everything that has arrived.
    pub fn drain(&mut self, report: &mut dyn FnMut(Event)) {
        while let Some(record) = self.ring.next() {
            ring::decode(&record, &mut self.accounts, &mut self.ended, report);
        }
        for thread in std::mem::take(&mut self.ended) {
            self.collect_ended(thread, report);
        }
    }

    /// Reports all times up to now, those of blocks under way included. Gives the clock's reading.
    ///
    /// Each thread's times end when that thread is read: while the agent goes through them it can lose
    /// its CPU, and one common end would cut off or add what happened meanwhile. Entries that gave way to others since the
    /// first drain are in the ring by then, and belong to this window as well.
    pub fn close_window(&mut self, report: &mut dyn FnMut(Event)) -> u64 {
        self.drain(report);
        for index in 0..self.threads.len() {
            if let Some((thread, now)) = self.read_thread(index) {
                self.accounts.collect(&thread, now, report);
            }
        }
        self.drain(report);
        monotonic_now()
    }

    /// Forgets which stacks and spans were sent, so that the kernel side sends those it meets again.
    pub fn forget_sent(&mut self) {
        self.seen.clear();
    }

    /// Whether a thread is being accounted for.
    pub fn tracks(&self, thread: ThreadId) -> bool {
        self.slot_of(thread).is_some()
    }

    /// Losses and work since the start.
    pub fn counters(&self) -> Counters {
        let sum = |position: usize| {
            self.counters.get(&(position as u32), 0).map_or(0, |values| values.iter().sum::<u64>())
        };
        let mut counters: Counters =
            COUNTER_NAMES.iter().map(|(position, name)| (*name, sum(*position))).collect();
        for (index, end) in WalkEnd::ALL.iter().enumerate() {
            counters.push((end.as_str(), sum(COUNT_WALK_ENDS + 1 + index)));
        }
        counters
    }

    /// A consistent copy of a record in use, and when it was taken. The kernel side may be writing it: a copy whose stamps
    /// changed meanwhile, or are later than the moment that it is to show, is taken anew.
    ///
    /// Entries are marked as read before they are: the kernel side folds only what is unread. So is a copy with an
    /// entry that came in between: its time would be missing here and too much the next time.
    fn read_thread(&self, index: usize) -> Option<(Thread, u64)> {
        const TRIES: usize = 8;
        let tid = self.threads.word(index, offset_of!(Thread, tid));
        if tid.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut tries = 0;
        loop {
            for position in 0..layout::ENTRIES {
                let entry = offset_of!(Thread, entries) + position * size_of::<Entry>();
                self.threads.word(index, entry + offset_of!(Entry, unread)).store(0, Ordering::SeqCst);
            }
            let now = monotonic_now();
            let thread = self.threads.read(index);
            let stamp = |offset| self.threads.long(index, offset).load(Ordering::Acquire);
            let is_of_now = [(offset_of!(Thread, r#in), thread.r#in), (offset_of!(Thread, out), thread.out)]
                .iter()
                .all(|(offset, read)| *read <= now && stamp(*offset) == *read);
            tries += 1;
            if tries == TRIES || is_of_now && thread.entries.iter().all(|entry| entry.unread == 0) {
                return Some((thread, now));
            }
        }
    }

    fn slot_of(&self, thread: ThreadId) -> Option<usize> {
        let mask = self.threads.len() - 1;
        (0..8)
            .map(|probe| (thread as usize + probe) & mask)
            .find(|index| self.threads.word(*index, 0).load(Ordering::Acquire) == thread)
    }

    fn collect_ended(&mut self, thread: ThreadId, report: &mut dyn FnMut(Event)) {
        let Some(index) = self.slot_of(thread) else { return };
        let Some((last, _)) = self.read_thread(index) else { return };
        if last.exited == 0 {
            return;
        }
        self.accounts.collect(&last, last.exited, report);
        self.accounts.forget(thread);
        // All but the tid first: a free tid lets another thread claim the record.
        // SAFETY: zero is a value of `Thread`.
        let empty = Thread { tid: thread, ..unsafe { std::mem::zeroed() } };
        self.threads.write(index, empty);
        self.threads.word(index, 0).store(0, Ordering::SeqCst);
    }
}

/// Which word of the filter has a process's bit.
fn filter_word(process: ProcessId) -> usize {
    process as usize >> 6 & (layout::FILTER_WORDS - 1)
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, BpfError> {
    ebpf.take_map(name).ok_or(BpfError::Object { what: name })
}

fn share<T: Shared>(ebpf: &mut Ebpf, name: &'static str, length: usize) -> Result<SharedArray<T>, BpfError> {
    let Some(Map::Array(data)) = ebpf.map(name) else { return Err(BpfError::Object { what: name }) };
    SharedArray::map(data.fd().as_fd(), length)
        .map_err(|cause| BpfError::Map { what: name.to_owned(), cause })
}

/// The clock of all times here.
pub fn monotonic_now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
