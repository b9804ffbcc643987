//! Batches of 32 messages, processed one after the other, of which one is poisoned; and what is done for all of a batch.
//!
//! A batch is: its span (kind 0), in which the thread computes and sleeps for all messages; then a span (kind 1) per message,
//! which computes for a short while. The sixth sleeps in `handle_poisoned` besides. Of each span its begin and its wall time
//! are told, by batch and by message.

use std::hint::black_box;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use spanprof_context::thread;
use spanprof_tests::clock;
use spanprof_tests::truth_program::{TruthProgram, is_stopped};

#[path = "span_writers/ours.rs"]
mod ours;

const MESSAGES: u64 = 32;
const POISONED: u64 = 5;
const BATCH: u8 = 0;
const MESSAGE: u8 = 1;
const MILLISECOND_NS: u64 = 1_000_000;

fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}

fn span(kind: u8, number: u64, work: impl FnOnce()) -> Value {
    let begin = unix_ns();
    let wall = clock::monotonic_ns();
    let guard = thread::enter(&ours::span(kind, number));
    work();
    drop(guard);
    json!({ "number": number, "begin_unix_ns": begin, "wall_ns": clock::monotonic_ns() - wall })
}

#[inline(never)]
fn handle_poisoned() {
    black_box(clock::spin_cpu(black_box(MILLISECOND_NS)));
    clock::sleep_ns(black_box(80 * MILLISECOND_NS));
}

#[inline(never)]
fn handle() {
    black_box(clock::spin_cpu(black_box(MILLISECOND_NS)));
}

#[inline(never)]
fn decode_all() {
    black_box(clock::spin_cpu(black_box(20 * MILLISECOND_NS)));
    clock::sleep_ns(black_box(20 * MILLISECOND_NS));
}

fn batch(number: u64) -> Value {
    let all = span(BATCH, number, decode_all);
    let messages: Vec<Value> = (0..MESSAGES)
        .map(|place| {
            let work = if place == POISONED { handle_poisoned } else { handle };
            span(MESSAGE, number * MESSAGES + place, work)
        })
        .collect();
    json!({ "batch": all, "messages": messages })
}

fn main() {
    let program = TruthProgram::begin();
    ours::publish_process("truth_batch");
    program.ready();
    let work = || {
        let mut batches = Vec::new();
        while !is_stopped() {
            batches.push(batch(batches.len() as u64 + 1));
        }
        batches
    };
    let consumer = std::thread::Builder::new().name("consumer".to_owned()).spawn(work).expect("a thread");
    program.wait_for_end();
    let batches = consumer.join().expect("its batches");
    program.tell(&json!({
        "program": "truth_batch", "pid": std::process::id(), "poisoned": POISONED, "batches": batches,
    }));
}
