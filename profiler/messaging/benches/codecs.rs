//! What the codecs and the spans cost: nanoseconds per operation, best of many loops, an empty loop's share included and
//! shown.
//!
//!     cargo bench -p spanprof-messaging

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

use opentelemetry_sdk::trace::SdkTracerProvider;
use spanprof_context::{SpanId, TraceId};
use spanprof_messaging::mqtt::{envelope, json};
use spanprof_messaging::rocketmq::Properties;
use spanprof_messaging::{Instrumentation, Message, System, TraceContext};

/// Short loops and many: on a busy machine some run undisturbed.
const LOOPS: usize = 1_000;

fn best(name: &str, rounds: u32, mut operation: impl FnMut(usize)) {
    let mut best = f64::MAX;
    for _ in 0..LOOPS {
        let start = Instant::now();
        for round in 0..rounds {
            operation(black_box(round as usize % 64));
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(rounds));
    }
    println!("{name:<52} {best:7.1} ns");
}

fn main() {
    let contexts: Vec<_> = (1..=64u8)
        .map(|number| TraceContext::new(TraceId([number; 16]), SpanId([number; 8]), 1).expect("valid"))
        .collect();
    let texts: Vec<_> = contexts.iter().map(|context| context.to_traceparent().to_string()).collect();
    let binaries: Vec<_> = contexts.iter().map(TraceContext::to_binary).collect();
    const ROUNDS: u32 = 2_000;
    best("empty loop", ROUNDS, |round| {
        black_box(&contexts[round]);
    });
    best("text: write", ROUNDS, |round| {
        black_box(contexts[round].to_traceparent().as_str());
    });
    best("text: read", ROUNDS, |round| {
        black_box(TraceContext::parse(&texts[round]));
    });
    best("binary: write", ROUNDS, |round| {
        black_box(contexts[round].to_binary());
    });
    best("binary: read", ROUNDS, |round| {
        black_box(TraceContext::from_binary(&binaries[round]));
    });

    let state = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";
    best("tracestate of two: check", ROUNDS, |round| {
        black_box(contexts[round].with_tracestate(black_box(state)));
    });
    let properties: HashMap<&str, &str> =
        HashMap::from([("UNIQ_KEY", "0A0B"), ("TAGS", "placed"), ("traceparent", texts[0].as_str())]);
    best("properties in a map: read", ROUNDS, |_| {
        black_box(TraceContext::extract(black_box(&properties)));
    });
    let raw = format!(
        "UNIQ_KEY\u{1}7F0000010A2C4F5B00000000000000\u{2}TAGS\u{1}placed\u{2}WAIT\u{1}true\u{2}traceparent\u{1}{}\u{2}",
        texts[0]
    );
    best("raw RocketMQ properties: read", ROUNDS, |_| {
        black_box(TraceContext::extract(&Properties::new(black_box(&raw))));
    });
    let payload = b"{\"sensor\":7,\"celsius\":21.5,\"at\":\"2026-01-01T00:00:00Z\",\"tags\":[\"a\",\"b\"]}";
    best("JSON payload of 74 bytes: insert", ROUNDS, |round| {
        black_box(json::insert(black_box(payload), Some(&contexts[round])));
    });
    let inserted = json::insert(payload, Some(&contexts[0]));
    best("JSON payload of 74 bytes: read", ROUNDS, |_| {
        black_box(json::read(black_box(&inserted)));
    });
    let wrapped = envelope::wrap(payload, Some(&contexts[0]));
    best("envelope: unwrap", ROUNDS, |_| {
        black_box(envelope::unwrap(black_box(&wrapped)));
    });

    let provider = SdkTracerProvider::builder().build();
    let rocketmq = Instrumentation::new(System::RocketMq).with_tracer_provider(&provider);
    let (producer, consumer) = (rocketmq.producer("orders"), rocketmq.consumer("orders", "billing"));
    best("span: send one, with a map of properties", ROUNDS / 10, |_| {
        let mut properties = HashMap::<String, String>::new();
        producer.send(&mut properties, &Message::new().tag("placed")).done();
        black_box(properties);
    });
    let carried: HashMap<String, String> =
        properties.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    best("span: process one", ROUNDS / 10, |_| {
        consumer.process(&carried, &Message::new().id("0A0B").partition(3).attempt(1)).done();
    });
    best("span: poll 32", ROUNDS / 100, |_| {
        consumer.poll().many((0..32).map(|offset| (&carried, Message::new().id("0A0B").offset(offset))));
    });
}
