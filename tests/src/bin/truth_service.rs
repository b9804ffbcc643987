//! A service of three threads that profiles itself, and knows how each of its spans divides.
//!
//! Each thread handles messages under two spans in turn: it computes, sleeps and waits for a lock that another one
//! holds, in `handle_computing`, `handle_sleeping` and `handle_locking`. Two of them share a core, so that they wait for
//! it, too. The truth per span is its wall time and CPU time by the thread's own clocks.
//!
//! `--directory PATH` is where profiles go, a window per second, `--hertz N` (99). `--deny CALL,CALL` has the kernel refuse
//! these system calls, as a container's filter does.

use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use spanprof_tests::truth_program::{TruthProgram, is_stopped};
use spanprof_tests::{clock, thread_facts};

#[path = "truth_service/denying.rs"]
mod denying;

const COMPUTING_NS: u64 = 14_000_000;
const SLEEPING_NS: u64 = 18_000_000;
const LOCKING_NS: u64 = 8_000_000;

#[inline(never)]
fn handle_computing() -> u64 {
    black_box(clock::spin_cpu(black_box(COMPUTING_NS)))
}

#[inline(never)]
fn handle_sleeping() -> u64 {
    clock::sleep_ns(black_box(SLEEPING_NS));
    black_box(1)
}

/// Whoever has the lock keeps it for a while, asleep.
#[inline(never)]
fn handle_locking(lock: &Mutex<u64>) -> u64 {
    let mut value = lock.lock().expect("nobody panics");
    clock::sleep_ns(black_box(LOCKING_NS));
    *value += 1;
    black_box(*value)
}

/// A trace of its own for each span.
fn trace_of(span: [u8; 8]) -> [u8; 16] {
    let half = u128::from(u64::from_be_bytes(span));
    (half << 64 | half).to_be_bytes()
}

fn serve(number: u8, lock: &Mutex<u64>) -> Value {
    if number > 0 {
        thread_facts::pin_to_last_core();
    }
    let spans = [1, 2].map(|which| [number + 1, 0, 0, 0, 0, 0, 0, which]);
    let mut sums = [[0u64; 3]; 2];
    let start = clock::thread_cpu_ns();
    for message in 0.. {
        if is_stopped() {
            break;
        }
        let which = message % 2;
        let guard = spanprof::enter(trace_of(spans[which]), spans[which]);
        let before = (clock::monotonic_ns(), clock::thread_cpu_ns());
        black_box(handle_computing());
        black_box(handle_sleeping());
        // The second span of each thread takes no lock.
        if which == 0 {
            black_box(handle_locking(lock));
        }
        let after = (clock::monotonic_ns(), clock::thread_cpu_ns());
        drop(guard);
        for (sum, add) in sums[which].iter_mut().zip([1, after.0 - before.0, after.1 - before.1]) {
            *sum += add;
        }
    }
    let spans = spans.iter().zip(sums).map(|(span, [messages, wall_ns, cpu_ns])| {
        json!({
            "span_id": format!("{:016x}", u64::from_be_bytes(*span)),
            "messages": messages,
            "wall_ns": wall_ns,
            "cpu_ns": cpu_ns,
        })
    });
    json!({
        "tid": thread_facts::thread_id(),
        "thread_cpu_ns": clock::thread_cpu_ns() - start,
        "spans": spans.collect::<Vec<_>>(),
    })
}

fn main() {
    let program = TruthProgram::begin();
    if let Some(calls) = program.arguments().text("deny") {
        denying::deny(calls);
    }
    let builder = spanprof::Agent::builder().service_name("truth_service");
    let builder = match program.arguments().text("directory") {
        None => builder,
        Some(directory) => builder
            .directory(directory)
            .frequency(program.arguments().number("hertz", 99) as u32)
            .window(Duration::from_secs(1)),
    };
    let agent = builder.start().expect("nothing wrong was set");
    program.ready();
    let lock = Arc::new(Mutex::new(0));
    let threads: Vec<_> = (0..3)
        .map(|number| {
            let lock = Arc::clone(&lock);
            let thread = std::thread::Builder::new().name(format!("service-{number}"));
            thread.spawn(move || serve(number, &lock)).expect("a thread")
        })
        .collect();
    program.wait_for_end();
    let threads: Vec<Value> = threads.into_iter().map(|thread| thread.join().expect("its sums")).collect();
    let notes = agent.notes().to_vec();
    drop(agent);
    program.tell(&json!({
        "program": "truth_service",
        "pid": std::process::id(),
        "notes": notes,
        "threads": threads,
    }));
}
