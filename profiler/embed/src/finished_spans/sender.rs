//! The thread that tells the agent.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::Thread;
use std::time::{Duration, Instant};

use spanprof_exporter::local::{LocalError, LocalSink};

use super::queue::{Queue, Spare};
use super::write::request;
use super::{LOST, QUEUE, TOLD, WANTED};

/// An agent's window that closes waits for its last spans two and a half times as long.
const INTERVAL: Duration = Duration::from_millis(200);
/// An agent that doesn't answer costs no more.
const PATIENCE: Duration = Duration::from_secs(1);
/// After an agent that has no use for spans, or doesn't know them, they are not gathered for so long.
const PAUSE: Duration = Duration::from_secs(60);
/// The end of the service waits no longer for the last ones.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);
/// An agent that starts so much later than the service is nothing to speak of.
const AGENT_TO_COME: Duration = Duration::from_secs(10);
/// Between two lines about losses.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// The running thread; dropping it tells what is left, within a bounded time.
#[derive(Debug)]
pub(crate) struct Running {
    stop: Arc<AtomicBool>,
    thread: Thread,
    done: Receiver<()>,
    process: u32,
}

impl Running {
    /// Tells spans of a service to the agent at a socket, from now on. One at a time.
    pub(crate) fn start(socket: &Path, service: &str, notes: &mut Vec<String>) -> Option<Running> {
        let sender = match LocalSink::new(socket) {
            Ok(sink) => Sender::new(sink, service),
            Err(error) => {
                notes.push(format!("finished spans are told to nobody: {error}"));
                return None;
            }
        };
        if WANTED.swap(true, Ordering::AcqRel) {
            notes.push("finished spans are told already, to the agent that was named first".to_owned());
            return None;
        }
        stop_in_children();
        let (finished, done) = mpsc::sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("spanprof-spans".to_owned()).spawn(move || {
            sender.run(&stopping);
            // Nobody waits for it where the machine is too slow.
            let _ = finished.try_send(());
        });
        match thread {
            Ok(handle) => {
                Some(Running { stop, thread: handle.thread().clone(), done, process: std::process::id() })
            }
            Err(error) => {
                WANTED.store(false, Ordering::Release);
                notes.push(format!("finished spans are told to nobody: no thread for it: {error}"));
                None
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // In a child of `fork` there is no such thread.
        if std::process::id() != self.process {
            return;
        }
        self.stop.store(true, Ordering::Release);
        self.thread.unpark();
        let _ = self.done.recv_timeout(FLUSH_LIMIT);
    }
}

/// A child of `fork` has no thread that sends: its spans are not to be gathered for nobody.
fn stop_in_children() {
    unsafe extern "C" fn in_child() {
        WANTED.store(false, Ordering::Relaxed);
    }
    static REGISTERED: std::sync::Once = std::sync::Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the function lives as long as the code does, and only stores to memory.
        // Failing means no memory for a list entry; a child's queue then fills up and costs no more.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

struct Sender {
    sink: LocalSink,
    service: String,
    queue: &'static Queue,
    spare: Spare,
    spans: Vec<u8>,
    /// No spans are gathered before.
    paused_until: Option<Instant>,
    began: Instant,
    complained: Option<Instant>,
    told_lost: u64,
    told_that_alone: bool,
}

impl Sender {
    fn new(sink: LocalSink, service: &str) -> Sender {
        Sender {
            sink,
            service: service.to_owned(),
            queue: QUEUE.get_or_init(Queue::new),
            spare: Spare::new(),
            spans: Vec::new(),
            paused_until: None,
            began: Instant::now(),
            complained: None,
            told_lost: LOST.load(Ordering::Relaxed),
            told_that_alone: false,
        }
    }

    fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            std::thread::park_timeout(INTERVAL);
            if self.paused_until.is_some_and(|until| Instant::now() >= until) {
                self.paused_until = None;
                WANTED.store(true, Ordering::Release);
            }
            self.send();
            self.complain();
        }
        WANTED.store(false, Ordering::Release);
        // What ended since the last look, and before nobody gathered any more.
        self.send();
    }

    /// Sends what waits. What can't be sent is lost: it is of use only while it is new.
    fn send(&mut self) {
        self.spans.clear();
        let number = self.queue.take(&mut self.spare, &mut self.spans);
        if number == 0 {
            return;
        }
        let request = request(&self.service, &self.spans);
        match self.sink.send_spans(&request, Instant::now() + PATIENCE) {
            Ok(_) => {
                TOLD.fetch_add(number, Ordering::Relaxed);
                return;
            }
            // Gathered on, so that an agent that comes is told from its first moment.
            Err(error @ LocalError::NobodyListens { .. }) => self.without_agent(number, &error),
            Err(error @ (LocalError::Unwanted | LocalError::Refused | LocalError::NotOurs { .. })) => {
                WANTED.store(false, Ordering::Release);
                self.paused_until = Some(Instant::now() + PAUSE);
                self.without_agent(number, &error);
            }
            Err(_) => {}
        }
        LOST.fetch_add(number, Ordering::Relaxed);
    }

    /// Says once that nobody is there; more of the same is no news.
    fn without_agent(&mut self, number: u64, error: &LocalError) {
        self.told_lost += number;
        let may_come = self.began.elapsed() < AGENT_TO_COME;
        if !may_come && !std::mem::replace(&mut self.told_that_alone, true) {
            say(&format!("finished spans are told to nobody for now: {error}"));
        }
    }

    /// Says that spans were lost, once a minute at most.
    fn complain(&mut self) {
        let new = LOST.load(Ordering::Relaxed) - self.told_lost;
        let is_due = self.complained.is_none_or(|at| at.elapsed() >= COMPLAINT_INTERVAL);
        if new > 0 && is_due {
            say(&format!("finished spans that no agent took in time: {new}"));
            self.told_lost += new;
            self.complained = Some(Instant::now());
        }
    }
}

/// A service whose standard error is closed has nobody to tell.
fn say(words: &str) {
    let _ = writeln!(std::io::stderr(), "spanprof: {words}");
}
