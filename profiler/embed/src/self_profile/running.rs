//! Starts the self-profile, and ends it.

use std::ffi::c_int;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use spanprof_exporter::otlp::OtlpConfig;
use spanprof_exporter::pyroscope::PyroscopeConfig;
use spanprof_exporter::sinks::{DirectoryConfig, Sinks, SinksConfig};

use super::buffers::Buffers;
use super::clock::ThreadId;
use super::handler;
use super::ledger;
use super::modules::Modules;
use super::sampler::{Plan, Sampler};
use super::threads::Sampling;
use super::timers::{self, CpuTimer};
use super::upload::{Origin, Uploader};
use super::visit;
use crate::settings::Settings;

const DEFAULT_HERTZ: u32 = 99;
/// As often as agents that pull or push profiles do by default. Names of addresses that were not seen before are read anew
/// each time (some 25 ms), as keeping what they are read from would take megabytes.
const DEFAULT_WINDOW: Duration = Duration::from_secs(15);
/// How long the start waits for unwind tables (a millisecond per megabyte of code), so that the first message is seen whole.
const START_LIMIT: Duration = Duration::from_millis(500);
/// How long dropping the agent may take: the last window is closed, named and sent meanwhile, or lost.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
/// What the files of profiles may take together, in bytes; the oldest go first.
const DIRECTORY_LIMIT: u64 = 256 << 20;
/// Windows that may wait to be sent.
const WAITING_WINDOWS: usize = 2;

/// The number of the profile for which threads keep accounts now; 0 for none.
static PROFILING: AtomicU32 = AtomicU32::new(0);
/// How many profiles there were.
static PROFILES: AtomicU32 = AtomicU32::new(0);
/// One self-profile per process at a time.
static STARTED: AtomicBool = AtomicBool::new(false);
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// What the calling thread publishes has changed.
#[inline]
pub(crate) fn on_change() {
    let profile = PROFILING.load(Ordering::Relaxed);
    if profile != 0 {
        ledger::changed(profile);
    }
}

/// The running self-profile. Held by the [`Agent`](crate::Agent); ends with it.
pub struct Running {
    methods: Vec<String>,
    stop: Arc<AtomicBool>,
    sampler: Thread,
    done: Receiver<()>,
    process: u32,
}

impl fmt::Debug for Running {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Running").field("methods", &self.methods).finish_non_exhaustive()
    }
}

impl Running {
    pub(crate) fn start(
        settings: Settings,
        resource: Vec<(String, String)>,
        notes: &mut Vec<String>,
    ) -> Option<Running> {
        if STARTED.swap(true, Ordering::AcqRel) {
            notes.push("this process is profiled already; the second agent only publishes".to_owned());
            return None;
        }
        match begin(settings, resource, notes) {
            Ok(running) => Some(running),
            Err(reason) => {
                notes.push(format!("this process is not profiled from inside: {reason}"));
                STARTED.store(false, Ordering::Release);
                None
            }
        }
    }

    /// How samples come about, and what is biased, each in a sentence; also in each profile's comments.
    pub fn methods(&self) -> &[String] {
        &self.methods
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // In a child of `fork` there is no sampler to wait for.
        if std::process::id() != self.process {
            return;
        }
        PROFILING.store(0, Ordering::Relaxed);
        self.stop.store(true, Ordering::Release);
        self.sampler.unpark();
        // Either the uploader is done, or it is too slow and goes on for as long as the process lives.
        let _ = self.done.recv_timeout(FLUSH_LIMIT);
        STARTED.store(false, Ordering::Release);
    }
}

fn begin(
    settings: Settings,
    resource: Vec<(String, String)>,
    notes: &mut Vec<String>,
) -> Result<Running, String> {
    let hertz = settings.hertz.unwrap_or(DEFAULT_HERTZ);
    let period = 1_000_000_000 / u64::from(hertz);
    let sinks = sinks(&settings, notes)?;
    let buffers = buffers().map_err(|error| format!("no memory for samples: {error}"))?;
    let mut methods = Vec::new();
    let sampling = probe_timers(buffers, period, &mut methods, notes);
    let visits = settings.off_cpu.unwrap_or(true) && probe_visits(&mut methods, notes);
    let plan = Plan {
        profile: PROFILES.fetch_add(1, Ordering::Relaxed) + 1,
        sampling,
        round: period.max(1_000_000),
        visits,
        window: settings.window.unwrap_or(DEFAULT_WINDOW).as_nanos() as u64,
    };
    stop_in_children();
    launch(plan, buffers, sinks, resource, methods)
}

/// The destinations that can be used; a wrong one doesn't cost the others.
fn sinks(settings: &Settings, notes: &mut Vec<String>) -> Result<Sinks, String> {
    let directory = settings.directory.clone().map(|path| DirectoryConfig { path, limit: DIRECTORY_LIMIT });
    let (sinks, errors) = Sinks::of_what_works(SinksConfig {
        pyroscope: settings.pyroscope.clone().map(PyroscopeConfig::new),
        otlp: settings.otlp_profiles.clone().map(OtlpConfig::new),
        directory,
        local_agent: settings.local_agent.clone(),
    });
    if sinks.is_empty() {
        return Err(errors.first().map_or_else(|| "there is no destination".to_owned(), ToString::to_string));
    }
    notes.extend(errors.iter().map(ToString::to_string));
    Ok(sinks)
}

/// The buffers are mapped once: a handler may run late.
fn buffers() -> io::Result<&'static Buffers> {
    static BUFFERS: OnceLock<&'static Buffers> = OnceLock::new();
    match BUFFERS.get() {
        Some(buffers) => Ok(buffers),
        None => {
            let mapped = Buffers::map()?;
            Ok(BUFFERS.get_or_init(|| mapped))
        }
    }
}

/// Sees whether threads can be sampled; where not, says why.
fn probe_timers(
    buffers: &'static Buffers,
    period: u64,
    methods: &mut Vec<String>,
    notes: &mut Vec<String>,
) -> Option<Sampling> {
    let signal = match handler::install(buffers) {
        Ok(signal) => signal,
        Err(error) => {
            notes.push(format!("places on the CPU are not sampled: {error}"));
            methods.push("on the CPU: exact times, no places".to_owned());
            return None;
        }
    };
    // SAFETY: has no arguments.
    let own = unsafe { libc::gettid() };
    match CpuTimer::start(own, signal, u64::MAX >> 2, period) {
        Ok(_) => {
            SIGNAL.store(signal, Ordering::Relaxed);
            methods.push(format!(
                "on the CPU: a timer per thread on its CPU time, signal {signal}, {} times a second; bound to the \
                 kernel's tick",
                1_000_000_000 / period
            ));
            Some(Sampling { signal, period })
        }
        Err(error) => {
            notes.push(format!("places on the CPU are not sampled: timer_create is refused ({error})"));
            methods.push("on the CPU: exact times, no places".to_owned());
            None
        }
    }
}

/// Sees whether blocked threads can be looked at; where not, says why.
fn probe_visits(methods: &mut Vec<String>, notes: &mut Vec<String>) -> bool {
    match visit::probe() {
        Ok(()) => {
            methods.push(
                "blocked: threads in spans are visited without a signal at random times; shares by counts of visits, \
                 totals by the threads' own clocks"
                    .to_owned(),
            );
            true
        }
        Err(error) => {
            notes.push(format!("places of waits are not seen: {error}"));
            methods.push("blocked: exact times, no places".to_owned());
            false
        }
    }
}

fn launch(
    plan: Plan,
    buffers: &'static Buffers,
    sinks: Sinks,
    resource: Vec<(String, String)>,
    methods: Vec<String>,
) -> Result<Running, String> {
    let service = resource.iter().find(|(name, _)| name == "service.name").map(|(_, value)| value.clone());
    let origin = Origin { service: service.unwrap_or_default(), resource, methods: methods.clone() };
    let stop = Arc::new(AtomicBool::new(false));
    let (parcels, received) = mpsc::sync_channel(WAITING_WINDOWS);
    let (finished, done) = mpsc::sync_channel(1);
    let stopping = Arc::clone(&stop);
    std::thread::Builder::new()
        .name("spanprof-upload".to_owned())
        .spawn(move || {
            Uploader::new(sinks, origin).run(&received, &stopping);
            // Nobody waits for it where the agent was dropped too long ago.
            let _ = finished.try_send(());
        })
        .map_err(|error| format!("no thread for uploads: {error}"))?;
    let stopping = Arc::clone(&stop);
    let (ready, is_ready) = mpsc::sync_channel(1);
    let sampler = std::thread::Builder::new()
        .name("spanprof-sampler".to_owned())
        .spawn(move || {
            let sampler = Sampler::new(plan, buffers, Modules::new(), stopping, parcels);
            // Nobody waits for it where the machine is too slow.
            let _ = ready.try_send(());
            sampler.run();
        })
        .map_err(|error| format!("no thread for the sampler: {error}"))?;
    // Accounts are kept from here on, also while the sampler reads what is loaded.
    PROFILING.store(plan.profile, Ordering::Relaxed);
    let _ = is_ready.recv_timeout(START_LIMIT);
    let sampler = sampler.thread().clone();
    Ok(Running { methods, stop, sampler, done, process: std::process::id() })
}

/// A child of `fork` has neither timers nor a sampler: its threads are not to keep accounts for nobody.
fn stop_in_children() {
    unsafe extern "C" fn in_child() {
        PROFILING.store(0, Ordering::Relaxed);
        STARTED.store(false, Ordering::Relaxed);
    }
    static REGISTERED: std::sync::Once = std::sync::Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the function lives as long as the code does, and only stores to memory.
        // Failing means no memory for a list entry; a child's accounts then fill up and cost no more.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

/// Asks a thread of this process for a sample now, by a signal. For tests of the handler; `false` without a self-profile.
#[doc(hidden)]
pub fn sample_thread_now(thread: i32) -> bool {
    let signal: c_int = SIGNAL.load(Ordering::Relaxed);
    signal != 0 && timers::send(thread as ThreadId, signal)
}
