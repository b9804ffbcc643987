//! A service whose spans, stacks and threads are ever new, and what it holds of memory meanwhile.
//!
//! Four minutes have as many windows as an hour of a service, as each is a second long instead of fifteen. Each message has a span
//! of its own, calls take one of 4,096 paths, and 100 threads a second come and go. The work is paced, so that two variants
//! do the same.
//!
//! Memory is told as it is at the end, when the work is done and the agent still there, and as it was during the later half.
//!
//! `--bare` starts no agent, `--directory PATH` has the process profile itself 99 times a second; else it publishes its spans.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use spanprof_tests::clock;
use spanprof_tests::truth_program::{TruthProgram, is_stopped};

static MESSAGES: AtomicU64 = AtomicU64::new(0);

const PATH_LENGTH: u32 = 6;

/// One step of a path: four functions that only differ in their number, each of which calls any.
#[inline(never)]
fn step<const NUMBER: u64>(path: u64, length: u32) -> u64 {
    let pad = black_box([NUMBER; 4]);
    if length == 0 {
        return clock::turn(black_box(20_000 + NUMBER));
    }
    let next = match path % 4 {
        0 => step::<0>(path / 4, length - 1),
        1 => step::<1>(path / 4, length - 1),
        2 => step::<2>(path / 4, length - 1),
        _ => step::<3>(path / 4, length - 1),
    };
    black_box(next) ^ pad[1]
}

fn handle(number: u64) {
    let trace = u128::from_be_bytes(*b"soak\0\0\0\0\0\0\0\0\0\0\0\0") | u128::from(number);
    let _span = spanprof::enter(trace.to_be_bytes(), (number | 1 << 63).to_be_bytes());
    let path = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    black_box(step::<0>(path, PATH_LENGTH));
    if number.is_multiple_of(3) {
        std::thread::sleep(Duration::from_micros(600));
    }
}

/// A message each millisecond; what was late is not made up for.
fn serve(end: impl Fn() -> bool) {
    while !end() {
        let due = Instant::now() + Duration::from_millis(1);
        handle(MESSAGES.fetch_add(1, Ordering::Relaxed));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

fn come_and_go() {
    while !is_stopped() {
        let until = Instant::now() + Duration::from_millis(30);
        let threads: Vec<_> =
            (0..4).map(|_| std::thread::spawn(move || serve(|| Instant::now() >= until))).collect();
        for thread in threads {
            thread.join().expect("it only computes");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Resident memory, and of it the process's own, in KiB.
fn resident() -> [u64; 2] {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    ["VmRSS:", "RssAnon:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field of the status");
        line.trim().trim_end_matches("kB").trim().parse().expect("a number of KiB")
    })
}

fn start_agent(program: &TruthProgram) -> Option<spanprof::Agent> {
    if program.arguments().has("bare") {
        return None;
    }
    let mut builder = spanprof::Agent::builder().service_name("soak_embedded");
    if let Some(directory) = program.arguments().text("directory") {
        builder = builder.directory(directory).window(Duration::from_secs(1));
    }
    Some(builder.start().expect("nothing wrong was set"))
}

fn main() {
    let program = TruthProgram::begin();
    let agent = start_agent(&program);
    program.ready();
    let workers: Vec<_> = (0..3).map(|_| std::thread::spawn(|| serve(is_stopped))).collect();
    let spawner = std::thread::spawn(come_and_go);
    let watcher = std::thread::spawn(|| {
        let mut seen: Vec<[u64; 2]> = Vec::with_capacity(10_000);
        while !is_stopped() {
            std::thread::sleep(Duration::from_millis(500));
            seen.push(resident());
        }
        seen
    });
    program.wait_for_end();
    for worker in workers {
        worker.join().expect("it only computes");
    }
    spawner.join().expect("it only starts threads");
    let seen = watcher.join().expect("it only reads");
    // What stays: two windows after the work, so that nothing of it is on its way any more.
    std::thread::sleep(Duration::from_millis(2_500));
    let [resident_kib, anonymous_kib] = resident();
    drop(agent);
    let during = |which: usize| {
        let mut values: Vec<u64> = seen[seen.len() / 2..].iter().map(|seen| seen[which]).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    program.tell(&json!({
        "program": "soak_embedded",
        "pid": std::process::id(),
        "messages": MESSAGES.load(Ordering::Relaxed),
        "resident_kib": resident_kib,
        "anonymous_kib": anonymous_kib,
        "resident_kib_during": during(0),
        "anonymous_kib_during": during(1),
        "most_resident_kib": seen.iter().map(|seen| seen[0]).max(),
        "resident_kib_every_two_seconds": seen.iter().step_by(4).map(|seen| seen[0]).collect::<Vec<_>>(),
    }));
}
