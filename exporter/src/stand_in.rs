//! A server for tests that takes pushes as Pyroscope does, and refuses what Pyroscope refuses.
//!
//! It decodes everything and keeps it in memory. Its rules are what a real server (v2.2) was seen to do, with
//! one difference: labels that the real one stores and then hides from its own lists are kept apart in
//! [`StoredProfile::hidden_labels`], so that a test can insist on none. Faults come from a script: the first
//! requests are answered as the test says, all later ones by the rules.
//!
//! What is posted as OTLP profiles is kept as it came ([`StandIn::otlp_requests`]): a test decodes it itself.
//!
//! On threads and `std` alone, so that it works beside any runtime and can stall without stalling a test.

mod http;
mod rules;

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use rules::{StoredProfile, StoredSample};

use http::{Request, read_request, respond, respond_empty_gzip, respond_error};
use rules::{Refusal, accept};

/// How one request is answered in place of the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// By the rules.
    Rules,
    /// 500 `service is unavailable`, as in the first and last seconds of a real server.
    Unavailable,
    /// 429 without `Retry-After`.
    RateLimited,
    /// The connection is closed before the request was read.
    Close,
    /// The connection is closed in the midst of the answer, after the profile was stored.
    StoreAndClose,
    /// The profile is stored, and no answer comes until the client gives up.
    StoreAndFreeze,
    /// Any status with any text.
    Status(u16, String),
}

/// How a stand-in behaves.
#[derive(Debug, Clone, Default)]
pub struct StandInConfig {
    /// How the first requests are answered.
    pub script: Vec<Answer>,
    /// How all later ones are answered, if not by the rules.
    pub always: Option<Answer>,
    /// How long each answer is held back; a real server flushes every 500 ms.
    pub delay: Duration,
    /// Whether a request must name its tenant.
    pub multitenancy: bool,
}

/// One request as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRequest {
    /// The status sent; 0 where none was.
    pub status: u16,
    /// Its `X-Scope-OrgID`.
    pub tenant: Option<String>,
    /// Its `Authorization`.
    pub authorization: Option<String>,
}

/// A running stand-in; it stops when dropped.
#[derive(Debug)]
pub struct StandIn {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    stopped: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Answer>,
    always: Option<Answer>,
    delay: Duration,
    multitenancy: bool,
    profiles: Vec<StoredProfile>,
    otlp_requests: Vec<Vec<u8>>,
    requests: Vec<SeenRequest>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StandIn {
    /// Starts on a free port of the loopback address.
    ///
    /// Errors: where no port can be had.
    pub fn start(config: StandInConfig) -> io::Result<StandIn> {
        StandIn::start_on(config, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Starts on a given address, for a server that comes back where another was.
    ///
    /// Errors: where the address can't be had.
    pub fn start_on(config: StandInConfig, address: SocketAddr) -> io::Result<StandIn> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let state = State {
            script: config.script.into(),
            always: config.always,
            delay: config.delay,
            multitenancy: config.multitenancy,
            ..State::default()
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), ..Shared::default() });
        let serving = Arc::clone(&shared);
        std::thread::Builder::new().name("stand-in".into()).spawn(move || serve(&listener, &serving))?;
        Ok(StandIn { address, shared })
    }

    /// The address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All profiles stored so far, in the order of their arrival.
    pub fn profiles(&self) -> Vec<StoredProfile> {
        self.shared.state().profiles.clone()
    }

    /// The bodies posted as OTLP profiles so far, decompressed.
    pub fn otlp_requests(&self) -> Vec<Vec<u8>> {
        self.shared.state().otlp_requests.clone()
    }

    /// All requests answered so far.
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.shared.state().requests.clone()
    }

    /// The ids of the profile types, such as `off_cpu:off_cpu:nanoseconds::`.
    pub fn profile_types(&self) -> BTreeSet<String> {
        self.shared.state().profiles.iter().map(|profile| profile.type_id.clone()).collect()
    }

    /// The stacks (root first) of one profile type under one span, with their values: what the real server's
    /// span query merges.
    pub fn stacks(&self, type_id: &str, span_id: &str) -> Vec<(Vec<String>, i64)> {
        self.samples(type_id, |sample| sample.span_id.as_deref() == Some(span_id))
    }

    /// The stacks (root first) of one profile type under one trace, over all services.
    pub fn trace_stacks(&self, type_id: &str, trace_id: &str) -> Vec<(Vec<String>, i64)> {
        self.samples(type_id, |sample| sample.trace_id.as_deref() == Some(trace_id))
    }

    /// Waits until at least this many requests were answered; says whether they were.
    pub fn wait_for_requests(&self, count: usize, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.state();
        while state.requests.len() < count {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn samples(&self, type_id: &str, meant: impl Fn(&StoredSample) -> bool) -> Vec<(Vec<String>, i64)> {
        let state = self.shared.state();
        let profiles = state.profiles.iter().filter(|profile| profile.type_id == type_id);
        let samples = profiles.flat_map(|profile| &profile.samples).filter(|sample| meant(sample));
        samples.map(|sample| (sample.stack.clone(), sample.value)).collect()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for a connection, so that the port is free again.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        // A connection that gets no thread is closed, as by a server without memory.
        let _ = std::thread::Builder::new().name("stand-in".into()).spawn(move || converse(stream, &shared));
    }
}

/// One connection, request by request.
fn converse(mut stream: TcpStream, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    loop {
        let planned = {
            let mut state = shared.state();
            if state.script.front() == Some(&Answer::Close) {
                // Only a connection that brings a request uses up the script.
                let mut byte = [0];
                drop(state);
                if !matches!(stream.peek(&mut byte), Ok(1)) {
                    return;
                }
                state = shared.state();
                state.script.pop_front();
                Some(Answer::Close)
            } else {
                None
            }
        };
        if planned.is_some() {
            seen(shared, None, 0);
            return;
        }
        let Ok(Some(request)) = read_request(&mut stream) else { return };
        if shared.stopped.load(Ordering::Relaxed) || !answer(&mut stream, shared, &request) {
            return;
        }
    }
}

/// Answers one request; says whether the connection stays open.
fn answer(stream: &mut TcpStream, shared: &Shared, request: &Request) -> bool {
    if request.method == "GET" && request.path == "/ready" {
        return respond(stream, 200, "text/plain", b"ready\n").is_ok();
    }
    let (planned, delay, multitenancy) = {
        let mut state = shared.state();
        let planned = state.script.pop_front().or_else(|| state.always.clone()).unwrap_or(Answer::Rules);
        (planned, state.delay, state.multitenancy)
    };
    std::thread::sleep(delay);
    let unavailable = "rpc error: code = Unavailable desc = service is unavailable";
    let limited = "push rate limit (4.0 MiB) exceeded while adding 1.1 MiB";
    match planned {
        Answer::Rules => match store(shared, request, multitenancy) {
            Ok(()) => {
                seen(shared, Some(request), 200);
                respond_empty_gzip(stream).is_ok()
            }
            Err(refusal) => {
                seen(shared, Some(request), refusal.status);
                respond_error(stream, refusal.status, refusal.code, &refusal.message).is_ok()
            }
        },
        Answer::Unavailable => {
            seen(shared, Some(request), 500);
            respond_error(stream, 500, "unknown", unavailable).is_ok()
        }
        Answer::RateLimited => {
            seen(shared, Some(request), 429);
            respond_error(stream, 429, "resource_exhausted", limited).is_ok()
        }
        Answer::Close => {
            seen(shared, Some(request), 0);
            false
        }
        Answer::StoreAndClose => {
            let _ = store(shared, request, multitenancy);
            seen(shared, Some(request), 0);
            false
        }
        Answer::StoreAndFreeze => {
            let _ = store(shared, request, multitenancy);
            seen(shared, Some(request), 0);
            // Returns when the client hangs up.
            let _ = std::io::Read::read(stream, &mut [0]);
            false
        }
        Answer::Status(status, text) => {
            seen(shared, Some(request), status);
            respond(stream, status, "text/plain", text.as_bytes()).is_ok()
        }
    }
}

/// Good series are kept even where another of the same request is refused, as the real server does.
fn store(shared: &Shared, request: &Request, multitenancy: bool) -> Result<(), Refusal> {
    if request.path.ends_with("/v1development/profiles") {
        let body = rules::accept_otlp(request)?;
        shared.state().otlp_requests.push(body);
        return Ok(());
    }
    let (stored, refusal) = accept(request, multitenancy);
    shared.state().profiles.extend(stored);
    refusal.map_or(Ok(()), Err)
}

fn seen(shared: &Shared, request: Option<&Request>, status: u16) {
    let header = |name: &str| request.and_then(|request| request.header(name)).map(str::to_owned);
    let seen =
        SeenRequest { status, tenant: header("x-scope-orgid"), authorization: header("authorization") };
    shared.state().requests.push(seen);
    shared.changed.notify_all();
}
