//! RocketMQ as a fixture: ready when it says so, topics and groups of every kind, nothing left.

use std::net::TcpStream;
use std::thread;

use spanprof_brokers::{RocketMq, RocketMqOptions, RocketMqVersion, TopicKind, require};

const KINDS: [TopicKind; 4] = [TopicKind::Normal, TopicKind::Fifo, TopicKind::Delay, TopicKind::Transaction];

#[test]
fn topics_and_groups_are_made_while_it_runs() {
    let Some(broker) = require("topics_and_groups_are_made_while_it_runs", RocketMq::shared()) else {
        return;
    };
    for kind in KINDS {
        broker.topic(kind.name(), kind, 2).expect("the topic is made");
    }
    broker.group("readers", 3).expect("the group is made");
    broker.orderly_group("orderly-readers", 3).expect("the group is made");
    for address in [broker.name_server(), broker.broker(), broker.proxy()] {
        TcpStream::connect(address).expect("it listens");
    }
}

#[test]
fn what_rocketmq_refuses_is_said_and_harms_nothing() {
    let Some(broker) = require("what_rocketmq_refuses_is_said_and_harms_nothing", RocketMq::shared()) else {
        return;
    };
    let refused = broker.topic("no/slash", TopicKind::Normal, 1).expect_err("the name is bad").to_string();
    assert!(refused.contains("illegal characters"), "{refused}");
    assert!(broker.topic("two words", TopicKind::Normal, 1).is_err());
    assert!(broker.group("line\nbreak", 1).is_err());
    broker.topic("good", TopicKind::Normal, 1).expect("the topic is made");
}

#[test]
fn many_tests_may_ask_at_once() {
    let Some(broker) = require("many_tests_may_ask_at_once", RocketMq::shared()) else { return };
    thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                broker.topic(&format!("at-once-{number}"), TopicKind::Normal, 1).expect("the topic is made");
            });
        }
    });
}

#[test]
fn the_old_one_runs_beside_it_and_is_gone_when_dropped() {
    let test = "the_old_one_runs_beside_it_and_is_gone_when_dropped";
    let options =
        RocketMqOptions { version: RocketMqVersion::CopiesWrapperProperties, ..RocketMqOptions::default() };
    // Started by a thread that ends before the broker is used.
    let started = thread::spawn(move || RocketMq::start_with(options)).join().expect("no panic");
    let Some(broker) = require(test, started) else { return };
    assert_eq!(broker.version().number(), "5.3.3");
    broker.topic("old", TopicKind::Fifo, 1).expect("the topic is made");
    let (directory, proxy) = (broker.directory().to_owned(), broker.proxy().to_owned());
    assert!(directory.join("store").is_dir());
    drop(broker);
    assert!(!directory.exists());
    TcpStream::connect(proxy).expect_err("nobody listens any more");
}
