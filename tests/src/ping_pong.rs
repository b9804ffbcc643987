//! Two threads on one core that wake each other through a futex as fast as they can.
//!
//! Each round makes two context switches and no other work, which is the harshest thing that an observer of the
//! scheduler can meet. What the program measures is how long its own rounds take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::truth_program::{TruthProgram, is_stopped};
use crate::{clock, thread_facts};

/// How a thread of the ping-pong publishes what it works on.
#[derive(Clone, Copy)]
pub struct SpanWriter {
    /// The word by which the truth names it.
    pub name: &'static str,
    /// Publishes span `number` of the thread with index `kind`.
    pub publish: fn(kind: u8, number: u64),
    /// Publishes nothing from now on.
    pub clear: fn(),
}

impl SpanWriter {
    /// Publishes nothing at all.
    pub const NONE: Self = Self { name: "none", publish: |_, _| {}, clear: || {} };
}

impl std::fmt::Debug for SpanWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("SpanWriter").field(&self.name).finish()
    }
}

/// Runs the ping-pong of `program` and prints its truth.
///
/// `--rounds-per-span N` (default 1,000) sets how many rounds a thread goes under one span; 0 keeps the first.
pub fn run(program: TruthProgram, name: &str, writer: SpanWriter) {
    let rounds_per_span = program.arguments().number("rounds-per-span", 1_000);
    let turn = Arc::new(AtomicU32::new(0));
    program.ready();
    let threads = [0u8, 1].map(|index| {
        let turn = Arc::clone(&turn);
        std::thread::Builder::new()
            .name(format!("ping-pong-{index}"))
            .spawn(move || play(index, &turn, writer, rounds_per_span))
            .expect("a thread")
    });
    program.wait_for_end();
    let threads = threads.map(|thread| thread.join().expect("a player's sums"));
    let sum = |key: &str| threads.iter().filter_map(|thread| thread[key].as_u64()).sum::<u64>();
    let rounds = sum("turns") / 2;
    let wall_ns = threads.iter().filter_map(|thread| thread["wall_ns"].as_u64()).max().unwrap_or(0);
    program.tell(&json!({
        "program": name,
        "pid": std::process::id(),
        "writer": writer.name,
        "rounds": rounds,
        "switches": sum("switches"),
        "wall_ns": wall_ns,
        "wall_ns_per_round": wall_ns as f64 / rounds.max(1) as f64,
        "cpu_ns_per_round": sum("thread_cpu_ns") as f64 / rounds.max(1) as f64,
        "threads": threads,
    }));
}

#[inline(never)]
fn play(index: u8, turn: &AtomicU32, writer: SpanWriter, rounds_per_span: u64) -> Value {
    let core = thread_facts::pin_to_last_core();
    let switches = thread_facts::context_switches().unwrap_or(0);
    let wall = clock::monotonic_ns();
    let cpu = clock::thread_cpu_ns();
    let me = u32::from(index);
    let mut turns = 0u64;
    (writer.publish)(index, 1);
    loop {
        wait_for_turn(turn, me);
        if is_stopped() {
            break;
        }
        turns += 1;
        if rounds_per_span != 0 && turns.is_multiple_of(rounds_per_span) {
            (writer.publish)(index, turns);
        }
        pass_turn(turn, 1 - me);
    }
    (writer.clear)();
    pass_turn(turn, 1 - me);
    json!({
        "name": format!("ping-pong-{index}"),
        "tid": thread_facts::thread_id(),
        "core": core,
        "turns": turns,
        "switches": thread_facts::context_switches().unwrap_or(0) - switches,
        "thread_cpu_ns": clock::thread_cpu_ns() - cpu,
        "wall_ns": clock::monotonic_ns() - wall,
    })
}

#[inline(never)]
fn wait_for_turn(turn: &AtomicU32, me: u32) {
    // Once the end is there nobody else's turn is worth waiting for: the other thread may have left already.
    while turn.load(Ordering::Acquire) != me && !is_stopped() {
        futex(turn, libc::FUTEX_WAIT, 1 - me);
    }
}

fn pass_turn(turn: &AtomicU32, other: u32) {
    turn.store(other, Ordering::Release);
    futex(turn, libc::FUTEX_WAKE, 1);
}

fn futex(word: &AtomicU32, operation: libc::c_int, value: u32) {
    let operation = operation | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word outlives the call; neither operation takes more arguments (a null timeout waits without
    // end). Spurious returns are handled by the caller's loop.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, std::ptr::null::<libc::timespec>())
    };
}
