//! Memory and CPU of a busy two-thread service: bare, publishing its spans, profiling itself, and under two peers.
//!
//!     cargo run --release --bin embedded -- [--rounds 5] [--seconds 46]
//!
//! Each round runs every variant once, as a process of its own; figures are medians over the rounds, and the CPU ratio is
//! that to the bare run of the same round, with the interval that holds the true median in 95 of 100 cases.

use serde_json::Value;
use spanprof_benches::statistics::{Median, median};
use spanprof_benches::variants::{Variant, argument, number, take_turns};

const SERVICE: &str = "embedded-service";

fn main() {
    let rounds = argument("--rounds", 5) as usize;
    let seconds = argument("--seconds", 46);
    let bare = Variant::build(SERVICE, "bare", "");
    let variants = [
        bare.clone(),
        bare.with("bare again", &[]),
        Variant::build(SERVICE, "spanprof, publishing", "publishing"),
        Variant::build(SERVICE, "spanprof, 99 Hz", "self-profile"),
        Variant::build(SERVICE, "pprof, 99 Hz", "pprof"),
        Variant::build(SERVICE, "pyroscope, 99 Hz", "pyroscope"),
    ];
    let told = take_turns(&variants, rounds, &["--seconds".to_owned(), seconds.to_string()]);
    println!("{rounds} rounds of {seconds} s; memory in MiB above bare, CPU per message against bare\n");
    println!(
        "| {:<20} | {:>9} | {:>9} | {:>9} | {:>24} | {:>9} | {:>11} | {:>10} |",
        "", "resident", "anonymous", "peak", "CPU ratio (95 %)", "own CPU", "start, ms", "finish, ms"
    );
    println!("|{}|", ["-"; 8].map(|dash| dash.repeat(3)).join("|"));
    for (variant, of) in variants.iter().zip(&told) {
        println!("{}", row(variant.name, of, &told[0]));
    }
}

fn row(name: &str, of: &[Value], bare: &[Value]) -> String {
    let middle = |told: &[Value], key| median(told.iter().map(|told| number(told, key))).value;
    let memory = |key| (middle(of, key) - middle(bare, key)) / 1024.0;
    let per_message = |told: &Value| number(told, "cpu_ns") / number(told, "messages");
    let ratio = median(of.iter().zip(bare).map(|(one, bare)| per_message(one) / per_message(bare)));
    let own = median(of.iter().map(|told| number(told, "own_cpu_ns") / number(told, "cpu_ns") * 100.0)).value;
    let milliseconds = |key| middle(of, key) / 1e6;
    format!(
        "| {name:<20} | {:>9.2} | {:>9.2} | {:>9.2} | {:>24} | {own:>7.3} % | {:>11.1} | {:>10.1} |",
        memory("resident_kib"),
        memory("anonymous_kib"),
        memory("peak_kib"),
        interval(ratio),
        milliseconds("start_cpu_ns"),
        milliseconds("finish_cpu_ns"),
    )
}

fn interval(median: Median) -> String {
    format!("{:.4} ({:.4}-{:.4})", median.value, median.from, median.until)
}
