//! The examples run on a real broker, and both consumers work in the traces of the producer's orders.

use std::collections::BTreeMap;
use std::process::Command;

use spanprof_brokers::{RocketMq, TopicKind, require};

/// What an example printed.
fn run(broker: &RocketMq, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("ROCKETMQ_NAME_SERVER", broker.name_server())
        .output()
        .expect("it starts");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program}: {printed}\n{}", String::from_utf8_lossy(&output.stderr));
    printed
}

/// Each order with its trace.
fn traces(printed: &str, verb: &str) -> BTreeMap<String, String> {
    let lines = printed.lines().filter_map(|line| line.strip_prefix(verb)?.split_once(" tins"));
    let orders = lines.filter_map(|(order, rest)| Some((order, rest.split_once("trace ")?.1)));
    orders.map(|(order, trace)| (order.to_owned(), trace.to_owned())).collect()
}

#[test]
fn orders_are_pushed_and_pulled_in_their_own_traces() {
    let test = "orders_are_pushed_and_pulled_in_their_own_traces";
    let Some(broker) = require(test, RocketMq::shared()) else { return };
    broker.topic("orders", TopicKind::Normal, 4).expect("the topic is made");
    run(broker, env!("CARGO_BIN_EXE_orders_producer"), &[]);
    let shipped = run(broker, env!("CARGO_BIN_EXE_push_consumer"), &["42"]);
    let billed = run(broker, env!("CARGO_BIN_EXE_pull_consumer"), &["42"]);
    let traces_of_shipped = traces(&shipped, "shipped ");
    assert_eq!(traces_of_shipped.len(), 42, "{shipped}");
    assert_eq!(traces_of_shipped, traces(&billed, "billed "));
    let distinct: std::collections::BTreeSet<_> = traces_of_shipped.values().collect();
    assert_eq!(distinct.len(), 42, "each is a trace of its own");
    assert!(shipped.contains("delivery 2"), "{shipped}");
}
