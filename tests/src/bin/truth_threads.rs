//! Many threads (`--threads`, default 2,000) that sleep most of the time and work a little.
//!
//! The truth is the number of threads and the sum of their CPU times in `work_a_little`.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::time::Duration;

use serde_json::json;
use spanprof_tests::clock;
use spanprof_tests::truth_program::TruthProgram;

const STACK_BYTES: usize = 128 * 1024;
const WORK_CPU_NS: u64 = 100_000;

/// Sums over all threads, and the end, which wakes them all.
#[derive(Debug, Default)]
struct Shared {
    work_cpu_ns: AtomicU64,
    rounds: AtomicU64,
    stopped: Mutex<bool>,
    wake: Condvar,
}

#[inline(never)]
fn thread_root(shared: &Shared, pause: Duration) {
    let mut stopped = shared.stopped.lock().expect("no thread panics");
    while !*stopped {
        drop(stopped);
        shared.work_cpu_ns.fetch_add(work_a_little(), Ordering::Relaxed);
        shared.rounds.fetch_add(1, Ordering::Relaxed);
        stopped = shared.stopped.lock().expect("no thread panics");
        stopped =
            shared.wake.wait_timeout_while(stopped, pause, |stopped| !*stopped).expect("no thread panics").0;
    }
}

#[inline(never)]
fn work_a_little() -> u64 {
    black_box(clock::spin_cpu(WORK_CPU_NS))
}

fn main() {
    let program = TruthProgram::begin();
    let count = program.arguments().number("threads", 2_000);
    // So that all threads together use about half of one core, however many they are.
    let pause = Duration::from_nanos(WORK_CPU_NS * 2 * count.max(1));
    let shared = Arc::new(Shared::default());
    let start = Arc::new(Barrier::new(count as usize + 1));
    let mut threads = Vec::new();
    for number in 0..count {
        let (shared, start) = (Arc::clone(&shared), Arc::clone(&start));
        let thread = std::thread::Builder::new()
            .name(format!("many-{number}"))
            .stack_size(STACK_BYTES)
            .spawn(move || {
                start.wait();
                thread_root(&shared, pause);
            });
        match thread {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                eprintln!("thread {number} of {count}: {error}");
                std::process::exit(1);
            }
        }
    }
    program.ready();
    start.wait();
    program.wait_for_end();
    *shared.stopped.lock().expect("no thread panics") = true;
    shared.wake.notify_all();
    for thread in threads {
        thread.join().expect("no thread panics");
    }
    program.tell(&json!({
        "program": "truth_threads",
        "pid": std::process::id(),
        "threads": count,
        "root": "thread_root",
        "work": "work_a_little",
        "work_cpu_ns": shared.work_cpu_ns.load(Ordering::Relaxed),
        "rounds": shared.rounds.load(Ordering::Relaxed),
    }));
}
