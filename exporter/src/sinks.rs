//! All the ways out of a process at once, for the thread that ships a service's own profiles.
//!
//! One call ships one window to every destination that is configured and comes back by a deadline, so that a service that
//! ends waits no longer than it wants to. Everything happens on the caller's thread: the runtime that drives the requests
//! has no worker. Only the look-up of a host's name takes another thread, named [`THREAD_NAME`], so that a profiler can
//! leave it out.
//!
//! Destinations don't hold each other up more than they must: the disk goes first, the agent on this machine may take
//! half of the time, the servers run side by side in what is left.

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::delivery::{ConfigError, DropCause, Dropped, PushReport};
use crate::directory::{DirectoryError, WindowDirectory};
use crate::local::{LocalError, LocalSink};
use crate::otlp::{OtlpConfig, OtlpSink};
use crate::profile::{Profile, label};
use crate::pyroscope::{PyroscopeConfig, PyroscopeSink};

/// The name of threads that a look-up of a host's name may take; at most one at a time.
pub const THREAD_NAME: &str = "spanprof-upload";

/// Where profiles go; nowhere by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SinksConfig {
    /// A Pyroscope server.
    pub pyroscope: Option<PyroscopeConfig>,
    /// A server that takes OTLP profiles.
    pub otlp: Option<OtlpConfig>,
    /// A directory of pprof files.
    pub directory: Option<DirectoryConfig>,
    /// The socket of `spanprof attach --receive`.
    pub local_agent: Option<PathBuf>,
}

/// A directory of pprof files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryConfig {
    /// Where; it is made where it is missing.
    pub path: PathBuf,
    /// How many bytes the files may take together; the oldest go first.
    pub limit: u64,
}

/// Why a destination can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SinksError {
    /// The settings of a server are wrong.
    #[error("profiles can't go to {destination}: {source}")]
    Config {
        /// Which server.
        destination: &'static str,
        /// What is wrong.
        source: ConfigError,
    },
    /// The directory can't be used.
    #[error("profiles can't go to a directory: {0}")]
    Directory(#[from] DirectoryError),
    /// The local agent's path can't be used.
    #[error("profiles can't go to a local agent: {0}")]
    LocalAgent(#[from] LocalError),
    /// The system gave nothing to wait with.
    #[error("profiles can't go to a server: the network can't be used: {0}")]
    Runtime(#[source] std::io::Error),
}

/// What became of one window, over all destinations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShipReport {
    /// Profiles that arrived: a server counts each kind of time, a directory and an agent the window.
    pub pushed: u64,
    /// Bytes of what arrived, compressed.
    pub bytes: u64,
    /// Attempts beyond the first.
    pub retried: u64,
    /// Profiles that did not arrive, per cause.
    pub dropped: Dropped,
    /// The first failure in words that begin with the destination, for the log.
    pub first_error: Option<String>,
}

/// All configured destinations. Keep it for the whole run and on one thread.
#[derive(Debug, Default)]
pub struct Sinks {
    directory: Option<WindowDirectory>,
    local_agent: Option<LocalSink>,
    pyroscope: Option<PyroscopeSink>,
    otlp: Option<OtlpSink>,
    runtime: Option<Runtime>,
}

impl Sinks {
    /// All destinations of a configuration.
    ///
    /// Errors: the first one that can't be used.
    pub fn new(config: SinksConfig) -> Result<Sinks, SinksError> {
        let (sinks, mut errors) = Sinks::of_what_works(config);
        match errors.is_empty() {
            true => Ok(sinks),
            false => Err(errors.remove(0)),
        }
    }

    /// Those destinations that can be used, and why the others can't: a wrong setting should not cost the right ones.
    pub fn of_what_works(config: SinksConfig) -> (Sinks, Vec<SinksError>) {
        let mut errors = Vec::new();
        let mut sinks = Sinks {
            directory: config.directory.and_then(|directory| {
                let made = WindowDirectory::new(directory.path, directory.limit);
                made.map_err(|error| errors.push(error.into())).ok()
            }),
            local_agent: config
                .local_agent
                .and_then(|path| LocalSink::new(path).map_err(|error| errors.push(error.into())).ok()),
            pyroscope: config.pyroscope.and_then(|config| {
                let error = |source| SinksError::Config { destination: "Pyroscope", source };
                PyroscopeSink::new(config).map_err(|source| errors.push(error(source))).ok()
            }),
            otlp: config.otlp.and_then(|config| {
                let error = |source| SinksError::Config { destination: "the OTLP server", source };
                OtlpSink::new(config).map_err(|source| errors.push(error(source))).ok()
            }),
            runtime: None,
        };
        if sinks.pyroscope.is_some() || sinks.otlp.is_some() {
            match runtime() {
                Ok(runtime) => sinks.runtime = Some(runtime),
                Err(error) => {
                    errors.push(SinksError::Runtime(error));
                    (sinks.pyroscope, sinks.otlp) = (None, None);
                }
            }
        }
        (sinks, errors)
    }

    /// Whether there is nowhere to ship to.
    pub fn is_empty(&self) -> bool {
        let servers = self.pyroscope.is_none() && self.otlp.is_none();
        servers && self.directory.is_none() && self.local_agent.is_none()
    }

    /// Ships one window to every destination and comes back when that is done or given up, by the deadline at the latest
    /// (encoding, about 10 ms per MB, is not interrupted).
    ///
    /// `service` is the service of samples that name none; `resource` are the resource's attributes, in which
    /// `service.name` need not be. A window without samples is not shipped. Never fails: what did not arrive is in the
    /// report.
    ///
    /// # Panics
    /// From within an asynchronous runtime: call it on a thread of its own.
    pub fn ship(
        &mut self,
        profile: &Profile,
        service: &str,
        resource: &[(String, String)],
        deadline: Instant,
    ) -> ShipReport {
        let mut report = ShipReport::default();
        if profile.is_empty() {
            return report;
        }
        let mut named = vec![(label::SERVICE_NAME.to_owned(), service.to_owned())];
        named.extend(resource.iter().filter(|(key, _)| key != label::SERVICE_NAME).cloned());
        if let Some(directory) = &self.directory {
            report.take_directory(directory.write_of_service(profile, service));
        }
        if let Some(agent) = &mut self.local_agent {
            let left = deadline.saturating_duration_since(Instant::now());
            let own = if self.runtime.is_some() { left / 2 } else { left };
            report.take_local(agent.send(profile, &named, Instant::now() + own));
        }
        if let Some(runtime) = &self.runtime {
            let pyroscope = async {
                let sink = self.pyroscope.as_ref()?;
                Some(sink.push_of(profile, service, Some(deadline)).await)
            };
            let otlp = async {
                let sink = self.otlp.as_ref()?;
                Some(sink.push_until(profile, &named, Some(deadline)).await)
            };
            let (pyroscope, otlp) = runtime.block_on(both(pyroscope, otlp));
            for (destination, pushed) in [("Pyroscope", pyroscope), ("the OTLP server", otlp)] {
                report.take_push(destination, pushed);
            }
        }
        report
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        // A look-up that hangs in the C library must not hold up the end of a service.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl ShipReport {
    fn take_push(&mut self, destination: &str, pushed: Option<PushReport>) {
        let Some(pushed) = pushed else { return };
        self.pushed += pushed.pushed;
        self.bytes += pushed.bytes;
        self.retried += pushed.retried;
        self.dropped.merge(&pushed.dropped);
        if let Some(words) = pushed.first_error {
            self.say(destination, &words);
        } else if pushed.dropped.too_large > 0 {
            self.say(destination, "a sample is larger than the server takes");
        }
    }

    fn take_directory(&mut self, written: Result<crate::directory::WrittenWindow, DirectoryError>) {
        match written {
            Ok(window) => {
                self.pushed += 1;
                self.bytes += window.window.bytes;
            }
            Err(error) => {
                match error {
                    DirectoryError::WindowTooLarge { .. } => self.dropped.too_large += 1,
                    _ => self.dropped.add(DropCause::Unwritten),
                }
                self.say("the directory", &error.to_string());
            }
        }
    }

    fn take_local(&mut self, sent: Result<u64, LocalError>) {
        match sent {
            Ok(bytes) => {
                self.pushed += 1;
                self.bytes += bytes;
            }
            Err(error) => {
                match &error {
                    LocalError::TooLarge { .. } => self.dropped.too_large += 1,
                    LocalError::Refused => self.dropped.add(DropCause::Rejected),
                    LocalError::Busy => self.dropped.add(DropCause::RateLimited),
                    LocalError::TimedOut => self.dropped.add(DropCause::TimedOut),
                    LocalError::NobodyListens { .. } => self.dropped.add(DropCause::Unreachable),
                    LocalError::Io { .. } => self.dropped.add(DropCause::Unreachable),
                    _ => self.dropped.add(DropCause::Misconfigured),
                }
                self.say("the local agent", &error.to_string());
            }
        }
    }

    fn say(&mut self, destination: &str, words: &str) {
        self.first_error.get_or_insert_with(|| format!("{destination}: {words}"));
    }
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name(THREAD_NAME)
        .max_blocking_threads(1)
        .thread_keep_alive(Duration::from_secs(1))
        .build()
}

/// Two futures side by side on one task; tokio's own `join!` would bring a procedural macro along.
async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut a_done, mut b_done) = (None, None);
    std::future::poll_fn(move |context| {
        if a_done.is_none()
            && let Poll::Ready(done) = a.as_mut().poll(context)
        {
            a_done = Some(done);
        }
        if b_done.is_none()
            && let Poll::Ready(done) = b.as_mut().poll(context)
        {
            b_done = Some(done);
        }
        match (a_done.take(), b_done.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (a_done, b_done) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}
