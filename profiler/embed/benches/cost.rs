//! What publishing adds to OpenTelemetry and to `tracing`: nanoseconds over the bare layer.
//!
//!     cargo bench -p spanprof
//!
//! The observer can't be taken out once it is in, so the bare figures come from a second process of the same program,
//! and the two take turns; each figure is the median over the turns of a best-of-loops.

use std::hint::black_box;
use std::process::{Command, Stdio};
use std::time::Instant;

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry::{Context, trace::Tracer};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;

const TURNS: usize = 21;
/// Short loops and many: on a busy machine some run undisturbed.
const LOOPS: usize = 200;
const ROUNDS: u32 = 5_000;
const NAMES: [&str; 3] =
    ["OpenTelemetry: attach and detach", "tracing: enter and exit", "tracing: two nested enters and exits"];

fn best(mut operation: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..LOOPS {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            operation();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
    }
    best
}

/// One turn's three figures.
fn measure() -> [f64; 3] {
    let provider = SdkTracerProvider::builder().build();
    let tracer = provider.tracer("bench");
    let context = Context::new().with_span(tracer.start("span"));
    let remote = SpanContext::new(
        TraceId::from_bytes([1; 16]),
        SpanId::from_bytes([1; 8]),
        TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    );
    let _outer = Context::new().with_remote_span_context(remote).attach();
    let attach = best(|| drop(black_box(context.clone().attach())));

    let layer = tracing_opentelemetry::layer().with_tracer(tracer);
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        let outer = tracing::info_span!("outer");
        let inner = outer.in_scope(|| tracing::info_span!("inner"));
        let enter = best(|| drop(black_box(outer.enter())));
        let nested = best(|| {
            let entered = outer.enter();
            drop(black_box(inner.enter()));
            drop(entered);
        });
        [attach, enter, nested]
    })
}

/// Has another process of this program take a turn.
fn turn(mode: &str) -> [f64; 3] {
    let program = std::env::current_exe().expect("a program knows its path");
    let output = Command::new(program).arg(mode).stderr(Stdio::inherit()).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("numbers");
    let figures: Vec<f64> = text.split_whitespace().map(|figure| figure.parse().expect("a number")).collect();
    figures.try_into().expect("three figures")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("--bare") => println!("{}", measure().map(|figure| figure.to_string()).join(" ")),
        Some("--published") => {
            let agent =
                spanprof::Agent::builder().service_name("bench").start().expect("nothing wrong was set");
            assert!(agent.notes().is_empty());
            println!("{}", measure().map(|figure| figure.to_string()).join(" "));
        }
        _ => {
            let turns: Vec<_> = (0..TURNS).map(|_| (turn("--bare"), turn("--published"))).collect();
            println!("{:<40} {:>9} {:>9} {:>9}", "ns per operation", "bare", "published", "added");
            for (position, name) in NAMES.iter().enumerate() {
                let bare = median(turns.iter().map(|(bare, _)| bare[position]).collect());
                let published = median(turns.iter().map(|(_, published)| published[position]).collect());
                let added = median(
                    turns.iter().map(|(bare, published)| published[position] - bare[position]).collect(),
                );
                println!("{name:<40} {bare:>9.1} {published:>9.1} {added:>9.1}");
            }
        }
    }
}
