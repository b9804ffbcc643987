//! The upload thread: attributes a window, names its addresses, and sends the profile to where it is wanted.
//!
//! Its work is never profiled into the service's spans; what it costs is told in each profile.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use spanprof_exporter::sinks::Sinks;
use spanprof_exporter::{Profile, SampleKind};

use super::attribution::attribute;
use super::modules::LoadedModules;
use super::render::Renderer;
use super::window::Window;

/// How long one profile may take to be sent; at the service's end, less than its patience.
const SHIPPING_LIMIT: Duration = Duration::from_secs(20);
const LAST_SHIPPING_LIMIT: Duration = Duration::from_secs(3);
/// Between two lines about a destination that doesn't take profiles.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(300);

/// Below this size a process is given its free memory back after each window, in bytes.
#[cfg(target_env = "gnu")]
const SMALL_PROCESS: u64 = 128 << 20;

/// A window and the code that was loaded in it.
pub(super) struct Parcel {
    pub(super) window: Window,
    pub(super) modules: LoadedModules,
}

/// Where profiles come from.
pub(super) struct Origin {
    pub(super) service: String,
    pub(super) resource: Vec<(String, String)>,
    /// How samples came about and what is biased, for people who open the file.
    pub(super) methods: Vec<String>,
}

pub(super) struct Uploader {
    sinks: Sinks,
    origin: Origin,
    renderer: Renderer,
    complained: Option<Instant>,
}

impl Uploader {
    pub(super) fn new(sinks: Sinks, origin: Origin) -> Uploader {
        let renderer = Renderer::new(&origin.service);
        Uploader { sinks, origin, renderer, complained: None }
    }

    /// Sends what comes until the sampler is gone.
    pub(super) fn run(mut self, parcels: &Receiver<Parcel>, stopping: &AtomicBool) {
        while let Ok(Parcel { window, modules }) = parcels.recv() {
            let mut profile = self.renderer.render(&window, &attribute(&window), &modules);
            profile.comments = comments(&self.origin, &window, &profile);
            drop((window, modules));
            let limit = if stopping.load(Ordering::Acquire) { LAST_SHIPPING_LIMIT } else { SHIPPING_LIMIT };
            let deadline = Instant::now() + limit;
            let report = self.sinks.ship(&profile, &self.origin.service, &self.origin.resource, deadline);
            drop(profile);
            give_memory_back();
            if let Some(error) = report.first_error {
                self.complain(&error);
            }
        }
    }

    /// One line on standard error, not one a window.
    fn complain(&mut self, error: &str) {
        if self.complained.is_none_or(|last| last.elapsed() >= COMPLAINT_INTERVAL) {
            self.complained = Some(Instant::now());
            // A service whose standard error is closed has nobody to tell.
            let _ = writeln!(std::io::stderr(), "spanprof: a profile was not delivered: {error}");
        }
    }
}

/// Gives free memory back to the system, which the C library's allocator keeps otherwise: four times what is in use, after
/// names were read. Only in a small process, where it takes microseconds and what is kept would be seen; in a large one
/// the allocator's lists are long, and other threads would wait.
fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    if resident().is_some_and(|bytes| bytes < SMALL_PROCESS) {
        // SAFETY: gives free pages back; touches nothing that is in use.
        unsafe { libc::malloc_trim(0) };
    }
}

/// The process's resident memory, in bytes.
#[cfg(target_env = "gnu")]
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

fn comments(origin: &Origin, window: &Window, profile: &Profile) -> Vec<String> {
    let mut comments = vec![format!("spanprof {} from inside the process", env!("CARGO_PKG_VERSION"))];
    comments.extend(origin.methods.iter().cloned());
    comments.push(format!(
        "spanprof's own threads used {:.1} ms of CPU time, which is in no sample; the service {:.1} ms",
        milliseconds(window.cpu_own),
        milliseconds(profile.total(SampleKind::Cpu)),
    ));
    comments.push(format!("samples: {}", window.samples.len()));
    comments.push(format!("visits of blocked threads: {}", window.visits.len()));
    comments.extend(window.losses.in_words().map(|(what, count)| format!("lost: {what}: {count}")));
    comments
}

fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}
