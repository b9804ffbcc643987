//! A thread that does the same thing over and over, and counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use spanprof_tests::thread_facts;

/// One worker.
pub(crate) struct Worker {
    pub(crate) name: &'static str,
    round: fn(u64),
    rounds: AtomicU64,
    ended: AtomicBool,
}

impl Worker {
    pub(crate) fn new(name: &'static str, round: fn(u64)) -> Arc<Worker> {
        Arc::new(Worker { name, round, rounds: AtomicU64::new(0), ended: AtomicBool::new(false) })
    }

    /// Works until `stopped`; every other stretch of 16 rounds under a span.
    pub(crate) fn start(worker: &Arc<Worker>, stopped: fn() -> bool) -> JoinHandle<()> {
        let name = worker.name.to_owned();
        let worker = Arc::clone(worker);
        let work = move || {
            let kind = thread_facts::thread_id();
            for number in 1.. {
                let _span = (number / 16 % 2 == 0).then(|| enter((kind << 32) | (number / 16)));
                (worker.round)(number);
                worker.rounds.store(number, Ordering::Relaxed);
                if stopped() {
                    break;
                }
            }
            worker.ended.store(true, Ordering::Relaxed);
        };
        std::thread::Builder::new().name(name).spawn(work).expect("a thread")
    }

    pub(crate) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// Publishes a span of this number.
pub(crate) fn enter(number: u64) -> spanprof::Guard {
    let trace = u128::from_be_bytes(*b"stress\0\0\0\0\0\0\0\0\0\0") | u128::from(number);
    spanprof::enter(trace.to_be_bytes(), (number | 1 << 63).to_be_bytes())
}

/// Ends the program and says where every thread is.
pub(crate) fn give_up(why: &str) -> ! {
    eprintln!("FAILED: {why}");
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let [name, call, place] = ["comm", "syscall", "wchan"].map(read);
        eprintln!("{:?} {} in {} ({})", task.file_name(), name.trim(), place.trim(), call.trim());
    }
    // Not `exit`: what hangs may hold what an orderly end waits for.
    // SAFETY: takes a number.
    unsafe { libc::_exit(1) }
}

/// Ends the program unless `holds`: a worker that went on after an error would hide it.
pub(crate) fn require(holds: bool, what: impl FnOnce() -> String) {
    if !holds {
        give_up(&what());
    }
}
