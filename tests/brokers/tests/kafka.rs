//! Kafka as a fixture: ready when it says so, topics while it runs, nothing left.

use std::net::TcpStream;

use spanprof_brokers::{Kafka, require};

#[test]
fn topics_are_made_while_it_runs() {
    let Some(broker) = require("topics_are_made_while_it_runs", Kafka::shared()) else { return };
    broker.topic("orders", 4).expect("the topic is made");
    TcpStream::connect(broker.bootstrap_servers()).expect("it listens");
}

#[test]
fn what_kafka_refuses_is_said_and_harms_nothing() {
    let Some(broker) = require("what_kafka_refuses_is_said_and_harms_nothing", Kafka::shared()) else {
        return;
    };
    let refused = broker.topic("no/slash", 1).expect_err("the name is bad").to_string();
    assert!(refused.contains("InvalidTopicException"), "{refused}");
    broker.topic("twice", 1).expect("the topic is made");
    let refused = broker.topic("twice", 1).expect_err("it is there").to_string();
    assert!(refused.contains("already exists"), "{refused}");
    assert!(broker.topic("two words", 1).is_err());
}

#[test]
fn it_is_gone_when_dropped() {
    let Some(broker) = require("it_is_gone_when_dropped", Kafka::start()) else { return };
    let (directory, address) = (broker.directory().to_owned(), broker.bootstrap_servers().to_owned());
    assert!(directory.join("data").is_dir());
    drop(broker);
    assert!(!directory.exists());
    TcpStream::connect(address).expect_err("nobody listens any more");
}
