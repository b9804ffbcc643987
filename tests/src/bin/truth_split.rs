//! Two CPU-bound threads, each 73 % in `spin_a` and 27 % in `spin_b`, by the thread's own CPU clock.
//!
//! The exact sums per thread and function are the truth; the ratio is only what is aimed at. Slices have
//! irregular lengths: regular ones run in step with a sampling clock, whose error then has one sign.

use std::hint::black_box;

use serde_json::{Value, json};
use spanprof_tests::truth_program::{TruthProgram, is_stopped};
use spanprof_tests::{clock, thread_facts};

const SLICE_A_NS: u64 = 7_300_000;
const SLICE_B_NS: u64 = 2_700_000;

#[inline(never)]
fn spin_a(slice_ns: u64) -> u64 {
    black_box(clock::spin_cpu(black_box(slice_ns)))
}

#[inline(never)]
fn spin_b(slice_ns: u64) -> u64 {
    black_box(clock::spin_cpu(black_box(slice_ns)))
}

/// A length between a half and one and a half of `mean_ns`, by Marsaglia's xorshift.
fn irregular(mean_ns: u64, state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    mean_ns / 2 + *state % mean_ns
}

#[inline(never)]
fn split_root(name: &str) -> Value {
    let thread_cpu_start = clock::thread_cpu_ns();
    let wall_start = clock::monotonic_ns();
    let (mut in_a, mut in_b) = (0, 0);
    let mut state = thread_facts::thread_id().wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while !is_stopped() {
        in_a += spin_a(irregular(SLICE_A_NS, &mut state));
        in_b += spin_b(irregular(SLICE_B_NS, &mut state));
    }
    json!({
        "name": name,
        "tid": thread_facts::thread_id(),
        "spin_a_cpu_ns": in_a,
        "spin_b_cpu_ns": in_b,
        "thread_cpu_ns": clock::thread_cpu_ns() - thread_cpu_start,
        "wall_ns": clock::monotonic_ns() - wall_start,
    })
}

fn main() {
    let program = TruthProgram::begin();
    program.ready();
    let threads = ["split-0", "split-1"].map(|name| {
        std::thread::Builder::new().name(name.to_owned()).spawn(move || split_root(name)).expect("a thread")
    });
    program.wait_for_end();
    let threads: Vec<Value> = threads.into_iter().map(|thread| thread.join().expect("a sum")).collect();
    program.tell(&json!({
        "program": "truth_split",
        "pid": std::process::id(),
        "root": "split_root",
        "threads": threads,
    }));
}
