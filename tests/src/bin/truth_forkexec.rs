//! Forks and executes itself `--rate` times a second (default 200); each child spins a millisecond and ends.
//!
//! What a profiler that follows children must survive, and what each child costs it.

use std::hint::black_box;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use spanprof_tests::clock;
use spanprof_tests::truth_program::{TruthProgram, is_stopped};

const CHILD_CPU_NS: u64 = 1_000_000;

#[inline(never)]
fn child_root() -> u64 {
    black_box(clock::spin_cpu(CHILD_CPU_NS))
}

#[inline(never)]
fn fork_root(rate: u64) -> [u64; 2] {
    let program = std::env::current_exe().expect("the path of this program");
    let period = Duration::from_nanos(1_000_000_000 / rate.max(1));
    let mut due = Instant::now();
    let (mut children, mut failed) = (0, 0);
    while !is_stopped() {
        let mut command = Command::new(&program);
        command.arg("--child");
        // SAFETY: the closure does nothing; its presence makes the library fork and exec rather than spawn.
        unsafe { command.pre_exec(|| Ok(())) };
        match command.status() {
            Ok(status) if status.success() => children += 1,
            _ => failed += 1,
        }
        due += period;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    black_box([children, failed])
}

fn main() {
    let program = TruthProgram::begin();
    if program.arguments().has("child") {
        child_root();
        return;
    }
    let rate = program.arguments().number("rate", 200);
    program.ready();
    let stop = program.stop_in_background();
    let start = clock::monotonic_ns();
    let [children, failed] = fork_root(rate);
    stop.tell(&json!({
        "program": "truth_forkexec",
        "pid": std::process::id(),
        "root": "fork_root",
        "child_root": "child_root",
        "children": children,
        "failed": failed,
        "child_cpu_ns_each": CHILD_CPU_NS,
        "wall_ns": clock::monotonic_ns() - start,
    }));
}
