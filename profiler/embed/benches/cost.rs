//! What publishing adds to OpenTelemetry and to `tracing`: nanoseconds over the bare layer.
//!
//!     cargo bench -p spanprof --features tracing,opentelemetry-sdk --bench cost
//!
//! The observer can't be taken out once it is in, so each way has a process of its own of the same program, and they take
//! turns; each figure is the median over the turns of a best-of-loops. What is added is the median of the differences of a
//! turn. Without the two features their rows are missing.

use std::hint::black_box;
use std::process::{Command, Stdio};
use std::time::Instant;

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry::{Context, KeyValue, trace::Tracer};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing_subscriber::layer::SubscriberExt;

const TURNS: usize = 21;
/// Short loops and many: on a busy machine some run undisturbed.
const LOOPS: usize = 200;
const ROUNDS: u32 = 5_000;

/// What is compared. Each is a process of this program.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// No spanprof.
    Bare,
    /// The agent publishes ids.
    Published,
    /// It publishes the local root and the topic too, by the span processor.
    Linked,
}

impl Way {
    const ALL: [Way; 3] = [Way::Bare, Way::Published, Way::Linked];

    fn argument(self) -> &'static str {
        match self {
            Way::Bare => "--bare",
            Way::Published => "--published",
            Way::Linked => "--linked",
        }
    }

    fn is_built(self) -> bool {
        self != Way::Linked || cfg!(feature = "opentelemetry-sdk")
    }
}

const NAMES: [&str; 7] = [
    "raw: set and clear (bare: empty loop)",
    "OpenTelemetry: clone, attach and detach",
    "OpenTelemetry: start and end a span",
    "tracing-opentelemetry: enter and exit",
    "tracing-opentelemetry: two nested",
    "tracing alone: enter and exit, our layer",
    "  the same, bare with an empty layer",
];

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

/// One turn's figures.
fn measure(way: Way) -> [f64; NAMES.len()] {
    let raw = raw(way);
    let alone = tracing_alone(way, tracing_subscriber::registry());
    let beside_empty = tracing_alone(way, tracing_subscriber::registry().with(Empty));
    if way != Way::Bare {
        let agent = spanprof::Agent::builder().service_name("bench").start().expect("nothing wrong was set");
        assert!(agent.notes().is_empty());
    }
    let provider = provider(way);
    let tracer = provider.tracer("bench");
    let remote = SpanContext::new(
        TraceId::from_bytes([1; 16]),
        SpanId::from_bytes([1; 8]),
        TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    );
    let outer = Context::new().with_remote_span_context(remote);
    let context = outer.with_span(start(&tracer, &outer));
    let _outer = outer.clone().attach();
    let attach = best(|| drop(black_box(context.clone().attach())));
    let span = best(|| drop(black_box(start(&tracer, &outer))));

    let layer = tracing_opentelemetry::layer().with_tracer(tracer);
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        let outer = tracing::info_span!("outer", messaging.destination.name = "orders");
        let inner = outer.in_scope(|| tracing::info_span!("inner"));
        let enter = best(|| drop(black_box(outer.enter())));
        let nested = best(|| {
            let entered = outer.enter();
            drop(black_box(inner.enter()));
            drop(entered);
        });
        [raw, attach, span, enter, nested, alone, beside_empty]
    })
}

fn start(tracer: &SdkTracer, parent: &Context) -> opentelemetry_sdk::trace::Span {
    let attributes = vec![KeyValue::new("messaging.destination.name", "orders")];
    tracer.span_builder("process").with_attributes(attributes).start_with_context(tracer, parent)
}

fn provider(way: Way) -> SdkTracerProvider {
    let builder = SdkTracerProvider::builder();
    #[cfg(feature = "opentelemetry-sdk")]
    let builder = match way {
        Way::Linked => builder.with_span_processor(spanprof::ProfileProcessor::new()),
        _ => builder,
    };
    let _ = way;
    builder.build()
}

fn raw(way: Way) -> f64 {
    let spans: Vec<_> = (1..=64u8)
        .map(|number| spanprof::SpanContext::new([number; 16].into(), [number; 8].into(), 1))
        .collect();
    let mut turn = 0usize;
    best(|| {
        turn += 1;
        let span = black_box(&spans[turn % 64]);
        if way != Way::Bare {
            spanprof::context::thread::set(span);
            spanprof::context::thread::clear();
        }
    })
}

/// A layer that does nothing, to tell what any layer costs.
struct Empty;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Empty {}

/// Over a bare subscriber; our layer knows nothing of the agent.
fn tracing_alone(way: Way, bare: impl tracing::Subscriber + Send + Sync) -> f64 {
    let enter = || {
        let span = tracing::info_span!("process", messaging.destination.name = "orders");
        best(|| drop(black_box(span.enter())))
    };
    #[cfg(feature = "tracing")]
    if way != Way::Bare {
        let subscriber = tracing_subscriber::registry().with(spanprof::layer());
        return tracing::subscriber::with_default(subscriber, enter);
    }
    let _ = way;
    tracing::subscriber::with_default(bare, enter)
}

/// Has another process of this program take a turn.
fn turn(way: Way) -> [f64; NAMES.len()] {
    let program = std::env::current_exe().expect("a program knows its path");
    let output =
        Command::new(program).arg(way.argument()).stderr(Stdio::inherit()).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("numbers");
    let figures: Vec<f64> = text.split_whitespace().map(|figure| figure.parse().expect("a number")).collect();
    figures.try_into().expect("a figure for each name")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let argument = std::env::args().nth(1);
    if let Some(way) = Way::ALL.into_iter().find(|way| argument.as_deref() == Some(way.argument())) {
        println!("{}", measure(way).map(|figure| figure.to_string()).join(" "));
        return;
    }
    let ways: Vec<Way> = Way::ALL.into_iter().filter(|way| way.is_built()).collect();
    let turns: Vec<Vec<_>> = (0..TURNS).map(|_| ways.iter().map(|way| turn(*way)).collect()).collect();
    println!(
        "{:<42} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "ns per operation", "bare", "published", "added", "linked", "added"
    );
    for (row, name) in NAMES.iter().enumerate() {
        if !cfg!(feature = "tracing") && (name.ends_with("our layer") || name.starts_with(' ')) {
            continue;
        }
        let figure = |way: usize| median(turns.iter().map(|turn| turn[way][row]).collect());
        let added = |way: usize| median(turns.iter().map(|turn| turn[way][row] - turn[0][row]).collect());
        print!("{name:<42} {:>9.1}", figure(0));
        for way in 1..ways.len() {
            print!(" {:>9.1} {:>9.1}", figure(way), added(way));
        }
        println!();
    }
}
