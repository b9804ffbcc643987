//! Spans whose wall time is CPU time and waits alone, and others that leave their thread in between.
//!
//! The thread `stays` works on one span after the other: it computes, sleeps, and computes. The thread `leaves` computes in a
//! span, takes it off, sleeps without any, and computes in it again, as a task does at an await. Of each span its begin, its
//! wall time and its CPU time are told, and of the latter also how long the thread did not have it.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use spanprof_context::{SpanContext, thread};
use spanprof_tests::clock;
use spanprof_tests::truth_program::{TruthProgram, is_stopped};

#[path = "span_writers/ours.rs"]
mod ours;

const STAYS: u8 = 0;
const LEAVES: u8 = 1;
const MILLISECOND_NS: u64 = 1_000_000;

/// A length between a third and five thirds of `mean_ms`, in nanoseconds, by Marsaglia's xorshift.
fn irregular(mean_ms: u64, state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    let mean = mean_ms * MILLISECOND_NS;
    mean / 3 + *state % (mean * 4 / 3)
}

fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}

/// Measures one span; `work` says how long the thread did not have it, and how much of its CPU time that took.
fn span(kind: u8, number: u64, work: impl FnOnce(&SpanContext) -> (u64, u64)) -> Value {
    let context = ours::span(kind, number);
    let begin = unix_ns();
    let (wall, cpu) = (clock::monotonic_ns(), clock::thread_cpu_ns());
    let (off_ns, off_cpu_ns) = work(&context);
    let cpu_ns = clock::thread_cpu_ns() - cpu - off_cpu_ns;
    let wall_ns = clock::monotonic_ns() - wall;
    json!({
        "kind": kind, "number": number, "begin_unix_ns": begin, "wall_ns": wall_ns, "cpu_ns": cpu_ns,
        "without_thread_ns": off_ns,
    })
}

fn stays() -> Vec<Value> {
    let (mut told, mut state) = (Vec::new(), 0x9e37_79b9_7f4a_7c15);
    while !is_stopped() {
        told.push(span(STAYS, told.len() as u64 + 1, |context| {
            let guard = thread::enter(context);
            clock::spin_cpu(irregular(8, &mut state));
            clock::sleep_ns(irregular(12, &mut state));
            clock::spin_cpu(irregular(8, &mut state));
            drop(guard);
            (0, 0)
        }));
    }
    told
}

fn leaves() -> Vec<Value> {
    let (mut told, mut state) = (Vec::new(), 0x2545_f491_4f6c_dd1d);
    while !is_stopped() {
        told.push(span(LEAVES, told.len() as u64 + 1, |context| {
            thread::set(context);
            clock::spin_cpu(irregular(4, &mut state));
            thread::clear();
            let (begin, cpu) = (clock::monotonic_ns(), clock::thread_cpu_ns());
            clock::sleep_ns(irregular(25, &mut state));
            let off = (clock::monotonic_ns() - begin, clock::thread_cpu_ns() - cpu);
            thread::set(context);
            clock::spin_cpu(irregular(4, &mut state));
            thread::clear();
            off
        }));
    }
    told
}

fn main() {
    let program = TruthProgram::begin();
    ours::publish_process("truth_equation");
    program.ready();
    let start = |name: &str, work: fn() -> Vec<Value>| {
        std::thread::Builder::new().name(name.to_owned()).spawn(work).expect("a thread")
    };
    let threads = [start("stays", stays), start("leaves", leaves)];
    program.wait_for_end();
    let [stays, leaves] = threads.map(|thread| thread.join().expect("its spans"));
    program.tell(&json!({
        "program": "truth_equation", "pid": std::process::id(), "stays": stays, "leaves": leaves,
    }));
}
