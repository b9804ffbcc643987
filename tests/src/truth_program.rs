//! The life of a truth program: set up, `ready`, run, truth, end.
//!
//! The end is an event, not a poll of the clock: SIGTERM is blocked in every thread and awaited by the main
//! thread together with the deadline; the others look at one flag.

use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::arguments::Arguments;

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Whether the measured part is over; the threads of a truth program look at it between two pieces of work.
#[inline(always)]
pub fn is_stopped() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// A truth program that has read its arguments and not started its measured part.
#[derive(Debug)]
pub struct TruthProgram {
    arguments: Arguments,
    seconds: u64,
    hold: bool,
}

impl TruthProgram {
    /// Reads the arguments (`--seconds N`, default 10, and `--hold` are common to all) and takes over SIGTERM.
    ///
    /// Must run before the first thread is started, which inherits the blocked signal.
    pub fn begin() -> Self {
        let arguments = Arguments::from_env();
        let seconds = arguments.number("seconds", 10);
        let hold = arguments.has("hold");
        let signals = end_signals();
        // SAFETY: `signals` is a valid set, and no old set is asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &signals, std::ptr::null_mut()) };
        Self { arguments, seconds, hold }
    }

    /// The arguments beyond the common ones.
    pub fn arguments(&self) -> &Arguments {
        &self.arguments
    }

    /// Prints `ready` and, with `--hold`, waits for a line on the standard input.
    pub fn ready(&self) {
        print_line("ready");
        if self.hold {
            let _ = std::io::stdin().lock().read_line(&mut String::new());
        }
    }

    /// Blocks until `--seconds` have passed or SIGTERM came, then tells all threads to stop.
    pub fn wait_for_end(&self) {
        let signals = end_signals();
        let end = Instant::now() + Duration::from_secs(self.seconds);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = libc::timespec {
                tv_sec: left.as_secs() as libc::time_t,
                tv_nsec: libc::c_long::from(left.subsec_nanos()),
            };
            // SAFETY: both pointers are valid; no details of the signal are asked for.
            let signal = unsafe { libc::sigtimedwait(&signals, std::ptr::null_mut(), &timeout) };
            if signal > 0 || left.is_zero() {
                break;
            }
        }
        STOPPED.store(true, Ordering::Relaxed);
    }

    /// Tells all threads to stop after `--seconds` or SIGTERM while the calling (main) thread works itself.
    pub fn stop_in_background(self) -> BackgroundStop {
        let hold = self.hold;
        let thread = std::thread::Builder::new()
            .name("truth-stop".to_owned())
            .spawn(move || self.wait_for_end())
            .expect("a thread that waits for the end");
        BackgroundStop { hold, thread }
    }

    /// Prints the truth and, with `--hold`, stays alive until the standard input ends.
    pub fn tell(&self, truth: &serde_json::Value) {
        tell(truth, self.hold);
    }
}

/// A program whose main thread works while another waits for the end.
#[derive(Debug)]
pub struct BackgroundStop {
    hold: bool,
    thread: std::thread::JoinHandle<()>,
}

impl BackgroundStop {
    /// As [`TruthProgram::tell`].
    pub fn tell(self, truth: &serde_json::Value) {
        self.thread.join().expect("the waiting thread ends");
        tell(truth, self.hold);
    }
}

fn tell(truth: &serde_json::Value, hold: bool) {
    print_line(&truth.to_string());
    if hold {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    }
}

/// Prints at once: whoever waits for the line reads from a pipe. A reader that is gone is no error here.
fn print_line(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn end_signals() -> libc::sigset_t {
    // SAFETY: sigemptyset initialises the zeroed set, and both signals exist.
    unsafe {
        let mut signals: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut signals);
        libc::sigaddset(&mut signals, libc::SIGTERM);
        libc::sigaddset(&mut signals, libc::SIGINT);
        signals
    }
}
