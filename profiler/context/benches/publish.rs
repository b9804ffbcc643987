//! What publishing costs: nanoseconds per operation, best of many loops, an empty loop's share included and shown.
//!
//!     cargo bench -p spanprof-context

use std::hint::black_box;
use std::time::Instant;

use spanprof_context::{Attributes, Key, Prepared, SpanContext, SpanId, TraceId, thread};

/// Short loops and many: on a busy machine some run undisturbed.
const LOOPS: usize = 1_000;
const ROUNDS: u32 = 100_000;

fn best(name: &str, mut operation: impl FnMut(u32)) {
    let mut best = f64::MAX;
    for _ in 0..LOOPS {
        let start = Instant::now();
        for round in 0..ROUNDS {
            operation(black_box(round));
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
    }
    println!("{name:<44} {best:6.2} ns");
}

fn main() {
    let spans: Vec<_> =
        (1..=64u8).map(|number| SpanContext::new(TraceId([number; 16]), SpanId([number; 8]), 1)).collect();
    let span = |round: u32| &spans[round as usize % 64];
    let attributes = Attributes::new()
        .with(Key::MessagingDestinationName, "orders.placed.v2")
        .with(Key::MessagingConsumerGroupName, "billing");
    best("empty loop", |round| {
        black_box(span(round));
    });
    best("set", |round| thread::set(span(round)));
    best("set and clear", |round| {
        thread::set(span(round));
        thread::clear();
    });
    best("set with attributes and clear", |round| {
        thread::set_with_attributes(span(round), &attributes);
        thread::clear();
    });
    let prepared: Vec<_> = spans.iter().map(|span| Prepared::new(*span, attributes.clone().into())).collect();
    best("set prepared and clear", |round| {
        prepared[round as usize % 64].set();
        thread::clear();
    });
    best("enter and drop", |round| drop(thread::enter(span(round))));
    let _outer = thread::enter_with_attributes(span(1), &attributes);
    best("enter and drop, inside another", |round| drop(thread::enter(span(round))));
    best("current", |_| {
        black_box(thread::current());
    });
}
