//! How long a profile of a busy window takes to be encoded, read, summed and drawn.
//!
//! `cargo bench -p spanprof-exporter --bench formats` prints the medians of eleven runs.

use std::hint::black_box;
use std::time::{Duration, Instant};

use spanprof_exporter::idle::IdleThreads;
use spanprof_exporter::pprof::{decode, encode, encode_uncompressed};
use spanprof_exporter::svg::flame_graph;
use spanprof_exporter::{
    Label, Location, Module, Profile, SampleFilter, SampleKey, SampleKind, analysis, label,
};
use spanprof_symbolizer::{Frame, FrameKind};

const SPANS: u64 = 10_000;
const STACKS: u64 = 2_000;
const DEPTH: u64 = 40;

/// Ten thousand spans, each seen in three kinds of time, over two thousand stacks of forty frames.
fn busy() -> Profile {
    let mut profile = Profile::default();
    profile.start_unix_nanoseconds = 1_795_505_400_000_000_000;
    profile.duration_nanoseconds = 10_000_000_000;
    profile.period_nanoseconds = 10_101_010;
    let module = profile.intern_module(Module {
        start: 0x5500_0000_0000,
        end: 0x5500_0100_0000,
        file_offset: 0,
        path: "/usr/bin/orders".into(),
        build_id: "0011223344556677".into(),
    });
    let mut stacks = Vec::new();
    for stack in 0..STACKS {
        let mut locations = Vec::new();
        for depth in 0..DEPTH {
            let number = if depth < 6 { stack * 6 + depth } else { 1_000_000 + depth };
            let function = format!("orders::module_{}::function_{number}::{{closure#0}}", number % 50);
            let frame = Frame {
                system_name: format!("_RNv{function}").into(),
                function: function.into(),
                file: Some(format!("src/module_{}.rs", number % 50).into()),
                line: (number % 900) as u32 + 1,
                kind: FrameKind::Rust,
            };
            let address = 0x5500_0000_0000 + number;
            locations.push(profile.intern_location(Location {
                module: Some(module),
                address,
                frames: vec![frame],
            }));
        }
        stacks.push(profile.intern_stack(locations));
    }
    for span in 0..SPANS {
        let labels = profile.intern_labels(vec![
            Label::text(label::TRACE_ID, format!("{:032x}", span / 3 + 1)),
            Label::text(label::SPAN_ID, format!("{:016x}", span + 1)),
            Label::text(label::SERVICE_NAME, "consumer"),
            Label::text(label::THREAD_NAME, format!("worker-{}", span % 16)),
            Label::text(label::DESTINATION, format!("topic-{}", span % 20)),
            Label::number(label::PID, 4242),
        ]);
        for kind in SampleKind::ALL {
            let stack = stacks[((span * 7 + kind as u64) % STACKS) as usize];
            profile.add(SampleKey { stack, labels, kind }, 1_000_000 + span, 1);
        }
    }
    profile
}

fn median<T>(mut run: impl FnMut() -> T) -> Duration {
    let mut times: Vec<_> = (0..11)
        .map(|_| {
            let start = Instant::now();
            black_box(run());
            start.elapsed()
        })
        .collect();
    times.sort();
    times[5]
}

fn main() {
    let profile = busy();
    let raw = encode_uncompressed(&profile);
    let file = encode(&profile);
    let all = SampleFilter::default();
    println!("{} samples, {} bytes raw, {} bytes compressed", profile.samples().len(), raw.len(), file.len());
    println!("encode        {:?}", median(|| encode_uncompressed(&profile)));
    println!("encode + gzip {:?}", median(|| encode(&profile)));
    println!("decode        {:?}", median(|| decode(&file).map(|profile| profile.is_empty())));
    println!("by span       {:?}", median(|| analysis::spans(&profile)));
    println!("by function   {:?}", median(|| analysis::functions(&profile, &all)));
    println!(
        "svg           {:?}",
        median(|| flame_graph(&profile, SampleKind::Cpu, &all, IdleThreads::Hidden, "bench").is_ok())
    );
}
