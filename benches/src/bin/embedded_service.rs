//! A busy service of two threads, which handle messages under OpenTelemetry's spans: some 300 microseconds of CPU each,
//! and now and then a wait. The variant is chosen by the features it is built with.
//!
//! It measures itself after a second of warming up, for `--seconds N`, and tells one JSON object.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::{TraceContextExt, Tracer, TracerProvider};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use spanprof_benches::clock::{self, Memory};
use spanprof_benches::variants::argument;

#[cfg(any(feature = "pyroscope", feature = "self-profile"))]
#[path = "embedded_service/stand_in.rs"]
mod stand_in;
#[path = "embedded_service/variant.rs"]
mod variant;

static STOPPED: AtomicBool = AtomicBool::new(false);

/// What a thread has done, for the measuring thread to read at any time.
#[derive(Default)]
struct Done {
    messages: AtomicU64,
    cpu_ns: AtomicU64,
}

/// One message: what services do all day, in a few functions, with some allocation.
#[inline(never)]
fn handle(message: u64) -> u64 {
    let orders = parse(message);
    let by_customer = group(&orders);
    checksum(&render(&by_customer))
}

#[inline(never)]
fn parse(message: u64) -> Vec<(u64, u64)> {
    let mut state = message | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..400).map(|_| (next() % 50, next() % 1_000)).collect()
}

#[inline(never)]
fn group(orders: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut sums: HashMap<u64, u64> = HashMap::new();
    for (customer, amount) in orders {
        *sums.entry(*customer).or_default() += amount;
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_unstable();
    sums
}

#[inline(never)]
fn render(sums: &[(u64, u64)]) -> String {
    sums.iter().map(|(customer, amount)| format!("{customer}:{amount};")).collect()
}

#[inline(never)]
fn checksum(text: &str) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325u64;
    for _ in 0..400 {
        for byte in text.bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    state
}

fn serve(tracer: &SdkTracer, done: &Done) {
    for message in 1.. {
        if STOPPED.load(Ordering::Relaxed) {
            return;
        }
        {
            let span = tracer.start("handle");
            let _attached = Context::current_with_span(span).attach();
            black_box(handle(black_box(message)));
            if message % 64 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        done.messages.store(message, Ordering::Relaxed);
        done.cpu_ns.store(clock::thread_cpu_ns(), Ordering::Relaxed);
    }
}

/// Messages, CPU time of the serving threads and CPU time of the process so far.
fn read(threads: &[(&'static Done, JoinHandle<()>)]) -> [u64; 3] {
    let sum = |of: fn(&Done) -> &AtomicU64| {
        threads.iter().map(|(done, _)| of(done).load(Ordering::Relaxed)).sum::<u64>()
    };
    [sum(|done| &done.messages), sum(|done| &done.cpu_ns), clock::process_cpu_ns()]
}

fn main() {
    let seconds = argument("--seconds", 46);
    let started = clock::process_cpu_ns();
    let profiler = variant::start();
    let provider = SdkTracerProvider::builder().build();
    let threads: Vec<(&'static Done, JoinHandle<()>)> = (0..2)
        .map(|number| {
            let done: &'static Done = Box::leak(Box::default());
            let tracer = provider.tracer("service");
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            (done, thread.spawn(move || serve(&tracer, done)).expect("a thread"))
        })
        .collect();
    std::thread::sleep(Duration::from_secs(1));
    let before = read(&threads);
    std::thread::sleep(Duration::from_secs(seconds));
    let after = read(&threads);
    let memory = Memory::read();
    STOPPED.store(true, Ordering::Relaxed);
    for (_, thread) in threads {
        thread.join().expect("no worker panics");
    }
    let ending = clock::process_cpu_ns();
    profiler.finish();
    let ended = clock::process_cpu_ns();
    let [messages, serving, process] = [0, 1, 2].map(|which| after[which] - before[which]);
    println!(
        "{}",
        serde_json::json!({
            "messages": messages,
            "cpu_ns": process,
            "own_cpu_ns": process.saturating_sub(serving),
            "start_cpu_ns": before[2] - before[1] - started,
            "finish_cpu_ns": ended - ending,
            "resident_kib": memory.resident,
            "anonymous_kib": memory.anonymous,
            "peak_kib": Memory::read().peak,
            "pushes": profiler_pushes(),
        })
    );
}

/// How often the profiler sent something, where it sends.
fn profiler_pushes() -> u64 {
    #[cfg(any(feature = "pyroscope", feature = "self-profile"))]
    return stand_in::PUSHES.load(Ordering::Relaxed);
    #[cfg(not(any(feature = "pyroscope", feature = "self-profile")))]
    0
}
