//! Spins in a signal handler on top of known chains, so that stacks must be followed through signal frames.
//!
//! SIGALRM arrives every 4 ms of real time and its handler spins for a millisecond on top of `interrupted_root`
//! and one of two functions below it, one of which is a bare loop without a frame of its own to restore.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use spanprof_tests::clock;
use spanprof_tests::truth_program::{TruthProgram, is_stopped};

static HANDLED: AtomicU64 = AtomicU64::new(0);
static HANDLER_CPU_NS: AtomicU64 = AtomicU64::new(0);

extern "C" fn handle_alarm(_signal: libc::c_int) {
    HANDLER_CPU_NS.fetch_add(black_box(spin_in_handler()), Ordering::Relaxed);
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

#[inline(never)]
fn spin_in_handler() -> u64 {
    black_box(clock::spin_cpu(1_000_000))
}

#[inline(never)]
fn interrupted_root() -> u64 {
    let start = clock::thread_cpu_ns();
    while !is_stopped() {
        black_box(interrupted_bare_loop(2_000_000));
        black_box(interrupted_with_frame(2_000_000));
    }
    black_box(clock::thread_cpu_ns() - start)
}

#[inline(never)]
fn interrupted_bare_loop(rounds: u64) -> u64 {
    clock::turn(rounds)
}

#[inline(never)]
fn interrupted_with_frame(rounds: u64) -> u64 {
    let mut pad = black_box([rounds; 40]);
    for step in 0..rounds as usize {
        pad[step % 40] = black_box(pad[(step + 7) % 40].rotate_left(3));
    }
    black_box(&pad);
    pad[0]
}

fn main() {
    let program = TruthProgram::begin();
    // Blocked in the thread that waits for the end, which is started next, and let in by the main thread alone.
    mask_alarm(libc::SIG_BLOCK);
    program.ready();
    let stop = program.stop_in_background();
    start_alarms();
    let thread_cpu_ns = interrupted_root();
    // An alarm while the other thread is waited for would run its handler on top of that.
    mask_alarm(libc::SIG_BLOCK);
    stop.tell(&json!({
        "program": "truth_signal",
        "pid": std::process::id(),
        "root": "interrupted_root",
        "interrupted": ["interrupted_bare_loop", "interrupted_with_frame"],
        "handler": "handle_alarm",
        "handler_leaf": "spin_in_handler",
        "handled": HANDLED.load(Ordering::Relaxed),
        "handler_cpu_ns": HANDLER_CPU_NS.load(Ordering::Relaxed),
        "thread_cpu_ns": thread_cpu_ns,
    }));
}

/// Blocks or lets in SIGALRM in the calling thread.
fn mask_alarm(how: libc::c_int) {
    // SAFETY: the zeroed set is initialised before use, and no old set is asked for.
    unsafe {
        let mut signals: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut signals);
        libc::sigaddset(&mut signals, libc::SIGALRM);
        libc::pthread_sigmask(how, &signals, std::ptr::null_mut());
    }
}

/// Sets the handler and starts the alarms, which only the calling thread receives.
fn start_alarms() {
    let handler: extern "C" fn(libc::c_int) = handle_alarm;
    // SAFETY: the handler only computes, reads a clock and adds to atomics, all of which a handler may do;
    // an all-zero sigaction is a valid one to fill in.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()), 0, "sigaction");
        let every = libc::timeval { tv_sec: 0, tv_usec: 4_000 };
        let timer = libc::itimerval { it_interval: every, it_value: every };
        assert_eq!(libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()), 0, "setitimer");
    }
    mask_alarm(libc::SIG_UNBLOCK);
}
