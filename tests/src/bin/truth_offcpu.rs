//! Threads that wait, each for one reason, under two alternating spans, and time every wait themselves.
//!
//! Per thread and span the truth is the number of waits, their wall time and the CPU used in them; what is left
//! is what a profiler must find as blocked and runnable. A wait is timed strictly inside its span. The partners
//! (who hold the lock, send, answer) work under no span. Two rivals pinned to one core never block, so that all
//! they don't run is run-queue time; `--no-rivals` leaves them out. `--milliseconds` sets the length of a wait.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use spanprof_context::{SpanContext, thread};
use spanprof_tests::truth_program::{TruthProgram, is_stopped};
use spanprof_tests::{clock, thread_facts};

#[path = "span_writers/ours.rs"]
mod ours;

const RIVAL_SLICE_CPU_NS: u64 = 5_000_000;

/// The waits of one thread under one span.
#[derive(Clone, Copy, Debug)]
struct Waits {
    span: SpanContext,
    count: u64,
    wall_ns: u64,
    cpu_ns: u64,
}

/// The sums of one thread over its two spans.
#[derive(Debug)]
struct Ledger {
    waits: [Waits; 2],
    next: usize,
}

impl Ledger {
    fn new(kind: u8) -> Self {
        let waits = |number| Waits { span: ours::span(kind, number), count: 0, wall_ns: 0, cpu_ns: 0 };
        Self { waits: [waits(1), waits(2)], next: 0 }
    }

    /// Runs `wait` under the next span and adds its times.
    #[inline(always)]
    fn measure<T>(&mut self, wait: impl FnOnce() -> T) -> T {
        let waits = &mut self.waits[self.next];
        self.next ^= 1;
        let guard = thread::enter(&waits.span);
        let cpu = clock::thread_cpu_ns();
        let wall = clock::monotonic_ns();
        let result = wait();
        waits.wall_ns += clock::monotonic_ns() - wall;
        waits.cpu_ns += clock::thread_cpu_ns() - cpu;
        waits.count += 1;
        drop(guard);
        result
    }

    fn tell(&self) -> Value {
        self.waits
            .iter()
            .map(|waits| {
                json!({
                    "trace_id": waits.span.trace_id.to_string(),
                    "span_id": waits.span.span_id.to_string(),
                    "count": waits.count,
                    "wall_ns": waits.wall_ns,
                    "cpu_ns": waits.cpu_ns,
                    "off_cpu_and_run_queue_ns": waits.wall_ns.saturating_sub(waits.cpu_ns),
                })
            })
            .collect()
    }
}

/// Starts a waiting thread; `body` runs until the end, and the thread's truth is what the handle gives.
fn spawn_waiting(
    name: &'static str,
    kind: u8,
    function: &'static str,
    body: impl FnOnce(&mut Ledger) + Send + 'static,
) -> JoinHandle<Value> {
    spawn(name, move || {
        let mut ledger = Ledger::new(kind);
        let before = thread_facts::schedstat();
        let cpu = clock::thread_cpu_ns();
        let wall = clock::monotonic_ns();
        body(&mut ledger);
        let wall_ns = clock::monotonic_ns() - wall;
        let thread_cpu_ns = clock::thread_cpu_ns() - cpu;
        let run_queue_ns = before.zip(thread_facts::schedstat()).map(|(before, after)| after[1] - before[1]);
        json!({
            "name": name,
            "tid": thread_facts::thread_id(),
            "function": function,
            "spans": ledger.tell(),
            "wall_ns": wall_ns,
            "thread_cpu_ns": thread_cpu_ns,
            "run_queue_ns": run_queue_ns,
        })
    })
}

fn spawn<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).expect("a thread")
}

#[inline(never)]
fn wait_in_sleep(ledger: &mut Ledger, wait_ns: u64) {
    while !is_stopped() {
        ledger.measure(|| clock::sleep_ns(wait_ns));
    }
}

/// The partner takes the lock, says so, and keeps it for the length of a wait.
#[inline(never)]
fn wait_for_mutex(ledger: &mut Ledger, lock: &Mutex<u64>, ask: &SyncSender<()>, held: &Receiver<()>) {
    while !is_stopped() {
        ask.send(()).expect("the holder lives");
        held.recv().expect("the holder lives");
        let mut value = ledger.measure(|| lock.lock().expect("the holder never panics"));
        *value += 1;
    }
}

fn hold_mutex(lock: &Mutex<u64>, asked: &Receiver<()>, held: &SyncSender<()>, wait_ns: u64) {
    while asked.recv().is_ok() {
        let guard = lock.lock().expect("the waiter never panics");
        held.send(()).expect("the waiter waits for it");
        clock::sleep_ns(wait_ns);
        drop(guard);
    }
}

#[inline(never)]
fn wait_for_channel(ledger: &mut Ledger, ask: &SyncSender<()>, answer: &Receiver<()>) {
    while !is_stopped() {
        ask.send(()).expect("the sender lives");
        ledger.measure(|| answer.recv()).expect("the sender answers");
    }
}

fn send_to_channel(asked: &Receiver<()>, answer: &SyncSender<()>, wait_ns: u64) {
    while asked.recv().is_ok() {
        clock::sleep_ns(wait_ns);
        answer.send(()).expect("the receiver waits for it");
    }
}

#[inline(never)]
fn wait_for_socket(ledger: &mut Ledger, socket: &mut TcpStream) {
    let mut byte = [0];
    while !is_stopped() {
        socket.write_all(&byte).expect("the answering thread lives");
        ledger.measure(|| socket.read_exact(&mut byte)).expect("the answering thread answers");
    }
}

fn answer_socket(socket: &mut TcpStream, wait_ns: u64) {
    let mut byte = [0];
    while socket.read_exact(&mut byte).is_ok() {
        clock::sleep_ns(wait_ns);
        if socket.write_all(&byte).is_err() {
            return;
        }
    }
}

#[inline(never)]
fn wait_for_core(ledger: &mut Ledger) {
    thread_facts::pin_to_last_core();
    while !is_stopped() {
        ledger.measure(|| clock::spin_cpu(RIVAL_SLICE_CPU_NS));
    }
}

fn connect() -> std::io::Result<[TcpStream; 2]> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let server = listener.accept()?.0;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    Ok([client, server])
}

fn main() {
    let program = TruthProgram::begin();
    let wait_ns = program.arguments().number("milliseconds", 2) * 1_000_000;
    let with_rivals = !program.arguments().has("no-rivals");
    ours::publish_process("truth_offcpu");
    let [mut client, mut server] = connect().expect("a connection over the loopback");
    program.ready();

    let mut threads = vec![spawn_waiting("sleeper", 0, "wait_in_sleep", move |ledger| {
        wait_in_sleep(ledger, wait_ns);
    })];

    let lock = Arc::new(Mutex::new(0));
    let (ask, asked) = sync_channel(0);
    let (held, is_held) = sync_channel(0);
    let holders_lock = Arc::clone(&lock);
    spawn("mutex-holder", move || hold_mutex(&holders_lock, &asked, &held, wait_ns));
    threads.push(spawn_waiting("mutex-waiter", 1, "wait_for_mutex", move |ledger| {
        wait_for_mutex(ledger, &lock, &ask, &is_held);
    }));

    let (ask, asked) = sync_channel(0);
    let (answer, answered) = sync_channel(1);
    spawn("channel-sender", move || send_to_channel(&asked, &answer, wait_ns));
    threads.push(spawn_waiting("channel-recv", 2, "wait_for_channel", move |ledger| {
        wait_for_channel(ledger, &ask, &answered);
    }));

    spawn("socket-writer", move || answer_socket(&mut server, wait_ns));
    threads.push(spawn_waiting("socket-reader", 3, "wait_for_socket", move |ledger| {
        wait_for_socket(ledger, &mut client);
    }));

    if with_rivals {
        threads.push(spawn_waiting("rival-0", 4, "wait_for_core", wait_for_core));
        threads.push(spawn_waiting("rival-1", 5, "wait_for_core", wait_for_core));
    }

    program.wait_for_end();
    let threads: Vec<Value> = threads.into_iter().map(|thread| thread.join().expect("its sums")).collect();
    program.tell(&json!({
        "program": "truth_offcpu",
        "pid": std::process::id(),
        "threads": threads,
    }));
}
