//! The agent on a consumer of the official RocketMQ that makes one message in a hundred slow, each for one known cause: which
//! messages it keeps, and what it says made them slow, against what the consumer measured inside.
//!
//!     cargo build --release -p spanprof-agent
//!     cargo test --manifest-path tests/messaging/slow-messages/Cargo.toml -- --nocapture
//!     cargo test --release --manifest-path tests/messaging/slow-messages/Cargo.toml -- --ignored --nocapture
//!
//! Whatever made a message slow counts as it was measured, for the machine makes messages slow of its own: one that was made to
//! compute, and then waited for a core for longer than it computed, waited for a core.

mod course;
mod judge;
mod program;

use spanprof_brokers::{RocketMq, require};

use crate::course::Course;
use crate::judge::Verdict;

/// Consumes so many messages with and without finished spans told to the agent, and fails where it keeps too few slow ones,
/// names too few causes, or keeps too many that were not slow.
fn hold_against_the_truth(test: &str, messages: u32, window: &str) {
    let Some(spanprof) = program::under_test(test) else { return };
    let Some(broker) = require(test, RocketMq::shared()) else { return };
    let runs = [("with OTLP", true), ("without OTLP", false)].map(|(name, told)| {
        let topic = format!("slow-{messages}-{}", if told { "told" } else { "untold" });
        let seen = Course { broker, topic: &topic, messages, window, told, spanprof: &spanprof }.run();
        let verdict = Verdict::of(&seen);
        println!("{name}:\n{verdict}");
        (name, verdict)
    });
    for (name, verdict) in runs {
        verdict.require(name);
    }
}

#[test]
fn slow_messages_keep_their_ids_and_their_cause() {
    hold_against_the_truth("slow_messages_keep_their_ids_and_their_cause", 10_000, "3");
}

#[test]
#[ignore = "takes minutes"]
fn slow_ones_of_a_hundred_thousand_keep_their_ids_and_their_cause() {
    hold_against_the_truth("slow_ones_of_a_hundred_thousand_keep_their_ids_and_their_cause", 100_000, "10");
}
