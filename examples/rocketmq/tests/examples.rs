//! The examples run on a real broker, and what they print is one trace.

use std::collections::HashSet;
use std::process::Command;

use spanprof_brokers::{RocketMq, TopicKind, require};

/// What an example printed.
fn run(broker: &RocketMq, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("ROCKETMQ_PROXY", broker.proxy())
        .output()
        .expect("it starts");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program}: {printed}\n{}", String::from_utf8_lossy(&output.stderr));
    printed
}

/// The traces of the spans of a name.
fn traces(printed: &str, name: &str) -> Vec<String> {
    let spans = printed.lines().filter_map(|line| line.strip_prefix("trace "));
    spans.filter(|span| span.contains(name)).map(|span| span[..32].to_owned()).collect()
}

fn set(traces: Vec<String>) -> HashSet<String> {
    traces.into_iter().collect()
}

#[test]
fn orders_are_billed_and_shipped_in_their_own_traces() {
    let test = "orders_are_billed_and_shipped_in_their_own_traces";
    let Some(broker) = require(test, RocketMq::shared()) else { return };
    broker.topic("orders", TopicKind::Normal, 4).expect("the topic is made");
    broker.group("billing", 16).expect("the group is made");
    broker.group("shipping", 3).expect("the group is made");
    let mut sent = traces(&run(broker, env!("CARGO_BIN_EXE_simple_producer"), &[]), "send orders");
    assert_eq!(sent.len(), 10);
    let batch = run(broker, env!("CARGO_BIN_EXE_batch"), &[]);
    assert!(batch.contains("send orders, 32 linked"), "{batch}");
    sent.extend(traces(&batch, "create orders"));
    let sent = set(sent);
    assert_eq!(sent.len(), 42);

    let billed = run(broker, env!("CARGO_BIN_EXE_simple_consumer"), &["42"]);
    assert_eq!(set(traces(&billed, "process orders")), sent);
    let shipped = run(broker, env!("CARGO_BIN_EXE_push_style_consumer"), &["42"]);
    assert_eq!(set(traces(&shipped, "process orders")), sent);
    assert_eq!(shipped.matches("shipped ").count(), 42);
    assert!(shipped.contains("failed: the carrier has no room"), "{shipped}");
    assert!(shipped.contains("delivery 2"), "{shipped}");
}

#[test]
fn a_reminder_comes_in_its_senders_trace() {
    let Some(broker) = require("a_reminder_comes_in_its_senders_trace", RocketMq::shared()) else { return };
    broker.topic("reminders", TopicKind::Delay, 1).expect("the topic is made");
    broker.group("reminding", 3).expect("the group is made");
    let printed = run(broker, env!("CARGO_BIN_EXE_delayed"), &[]);
    let sent = set(traces(&printed, "send reminders"));
    assert_eq!(sent.len(), 1);
    assert_eq!(set(traces(&printed, "process reminders")), sent);
}
