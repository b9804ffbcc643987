//! A lock convoy: A holds the first lock, B holds the second and waits for the first, C waits for the second.
//!
//! In each round the locks are taken in this order and A begins to work only when C is about to wait, so that C's whole
//! wait is B's doing, and B's is A's. Each of the three does its part under a span of its own. A fourth thread sleeps
//! under a span: nobody wakes it but a timer.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use spanprof_context::{SpanContext, thread};
use spanprof_tests::truth_program::{TruthProgram, is_stopped};
use spanprof_tests::{clock, thread_facts};

#[path = "span_writers/ours.rs"]
mod ours;

const HELD_CPU_NS: u64 = 60_000_000;
const SLEEP_NS: u64 = 20_000_000;
/// Work behind an unlock, without which that would be the function's last call and leave its frame.
const ROUNDS_AFTER: u64 = 100;

#[inline(never)]
fn hold_first_lock(first: MutexGuard<'_, u64>) {
    clock::spin_cpu(HELD_CPU_NS);
    drop(first);
    clock::turn(ROUNDS_AFTER);
}

#[inline(never)]
fn hold_second_lock(first: &Mutex<u64>, mut second: MutexGuard<'_, u64>) {
    *second += *first.lock().expect("nobody panics");
    drop(second);
    clock::turn(ROUNDS_AFTER);
}

#[inline(never)]
fn wait_for_second_lock(second: &Mutex<u64>) {
    *second.lock().expect("nobody panics") += 1;
}

/// Runs `body` in a thread until it says that it is over; gives the rounds and the wall time under the span.
fn spawn(
    name: &'static str,
    kind: u8,
    function: &'static str,
    mut round: impl FnMut(&SpanContext) -> Option<u64> + Send + 'static,
) -> JoinHandle<Value> {
    let body = move || {
        let span = ours::span(kind, 1);
        let (mut rounds, mut wall_ns) = (0u64, 0);
        while let Some(wall) = round(&span) {
            rounds += 1;
            wall_ns += wall;
        }
        json!({
            "name": name,
            "tid": thread_facts::thread_id(),
            "function": function,
            "trace_id": span.trace_id.to_string(),
            "span_id": span.span_id.to_string(),
            "rounds": rounds,
            "wall_ns": wall_ns,
        })
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(body).expect("a thread")
}

/// How long `body` took under a span.
fn under<T>(span: &SpanContext, body: impl FnOnce() -> T) -> u64 {
    let guard = thread::enter(span);
    let begin = clock::monotonic_ns();
    body();
    let wall = clock::monotonic_ns() - begin;
    drop(guard);
    wall
}

/// One that others tell to go on; the other end is gone when they are over.
fn signal() -> (SyncSender<()>, Receiver<()>) {
    sync_channel(1)
}

fn main() {
    let program = TruthProgram::begin();
    ours::publish_process("truth_convoy");
    program.ready();

    let (first, second) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let (first_is_held, until_first_is_held) = signal();
    let (second_is_held, until_second_is_held) = signal();
    let (waits, until_it_waits) = signal();
    let (is_done, until_done) = signal();

    let lock = Arc::clone(&first);
    let a = spawn("convoy-a", 0, "hold_first_lock", move |span| {
        if is_stopped() {
            return None;
        }
        let held = lock.lock().expect("nobody panics");
        first_is_held.send(()).ok()?;
        until_it_waits.recv().ok()?;
        let wall = under(span, || hold_first_lock(held));
        until_done.recv().ok()?;
        Some(wall)
    });
    let (lock, other) = (Arc::clone(&first), Arc::clone(&second));
    let b = spawn("convoy-b", 1, "hold_second_lock", move |span| {
        until_first_is_held.recv().ok()?;
        let held = other.lock().expect("nobody panics");
        second_is_held.send(()).ok()?;
        Some(under(span, || hold_second_lock(&lock, held)))
    });
    let c = spawn("convoy-c", 2, "wait_for_second_lock", move |span| {
        until_second_is_held.recv().ok()?;
        waits.send(()).ok()?;
        let wall = under(span, || wait_for_second_lock(&second));
        is_done.send(()).ok()?;
        Some(wall)
    });
    let d = spawn("sleeper", 3, "sleep", |span| {
        (!is_stopped()).then(|| under(span, || clock::sleep_ns(SLEEP_NS)))
    });

    program.wait_for_end();
    let threads: Vec<Value> =
        [a, b, c, d].into_iter().map(|thread| thread.join().expect("its sums")).collect();
    program.tell(&json!({
        "program": "truth_convoy",
        "pid": std::process::id(),
        "threads": threads,
    }));
}
