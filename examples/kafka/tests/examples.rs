//! The examples run on Kafka, and both consumers print the traces that the producer printed.

use std::collections::BTreeSet;
use std::process::Command;

use spanprof_brokers::{Kafka, require};

/// The traces that a program printed.
fn traces_of(program: &str, broker: &Kafka) -> BTreeSet<String> {
    let output = Command::new(program).env("KAFKA", broker.bootstrap_servers()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| Some(line.split_once("trace ")?.1.to_owned())).collect()
}

#[test]
fn consumers_print_the_traces_of_the_producer() {
    let Some(broker) = require("consumers_print_the_traces_of_the_producer", Kafka::shared()) else { return };
    let sent = traces_of(env!("CARGO_BIN_EXE_producer"), broker);
    assert_eq!(sent.len(), 10);
    for consumer in [env!("CARGO_BIN_EXE_poll_consumer"), env!("CARGO_BIN_EXE_batch_consumer")] {
        assert_eq!(traces_of(consumer, broker), sent, "{consumer}");
    }
}
