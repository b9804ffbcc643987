//! CPU time per echoed message of a `tokio` server with 1,000 connections: bare, publishing, and with everything on.
//!
//!     cargo run --release --bin echo -- [--pairs 50] [--seconds 2]
//!
//! Bare is not naked: every variant makes a `tracing` span per message, which is OpenTelemetry's as well. Ratios are to the
//! bare run of the same round, as medians with the interval that holds the true one in 95 of 100 cases; the second bare
//! variant says what the machine alone makes of it.

use spanprof_benches::statistics::median;
use spanprof_benches::variants::{Variant, argument, number, take_turns};

const SERVICE: &str = "echo-server";

fn main() {
    let pairs = argument("--pairs", 50) as usize;
    let seconds = argument("--seconds", 2);
    let bare = Variant::build(SERVICE, "bare", "echo");
    let everything = Variant::build(SERVICE, "everything on", "echo,self-profile");
    let variants = [
        bare.clone(),
        bare.with("bare again", &[]),
        Variant::build(SERVICE, "publishing", "echo,publishing"),
        everything,
    ];
    let told = take_turns(&variants, pairs, &["--seconds".to_owned(), seconds.to_string()]);
    println!("{pairs} rounds of {seconds} s, 1,000 connections; CPU time of the server per message\n");
    println!(
        "| {:<14} | {:>12} | {:>16} | {:>8} | 95 % of medians |",
        "", "messages/s", "ns per message", "ratio"
    );
    println!("|{}|", ["-"; 5].map(|dash| dash.repeat(3)).join("|"));
    let per_message = |told| number(told, "cpu_ns") / number(told, "messages");
    for (variant, of) in variants.iter().zip(&told) {
        let rate =
            median(of.iter().map(|told| number(told, "messages") / number(told, "wall_ns") * 1e9)).value;
        let cost = median(of.iter().map(per_message)).value;
        let ratio = median(of.iter().zip(&told[0]).map(|(one, bare)| per_message(one) / per_message(bare)));
        println!(
            "| {:<14} | {rate:>12.0} | {cost:>16.0} | {:>8.4} | {:.4}-{:.4} |",
            variant.name, ratio.value, ratio.from, ratio.until
        );
    }
}
