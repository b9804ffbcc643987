//! Real brokers on the loopback, as fixtures of tests and by hand.
//!
//! Each is the broker that people run, not a stand-in: the official [RocketMQ](RocketMq) with its name server and
//! proxy, [Kafka], [mosquitto](Mosquitto), and [NATS](Nats). It listens on free ports, is ready when the function that starts it
//! returns, and leaves nothing behind: no process and no directory, also where the test that started it is killed.
//! Topics and consumer groups are made while it runs, so that the tests of one program can share a broker and still
//! have each its own.
//!
//! ```no_run
//! use spanprof_brokers::{RocketMq, TopicKind, require};
//!
//! # fn a_message_arrives() {
//! let Some(broker) = require("a_message_arrives", RocketMq::shared()) else { return };
//! broker.topic("a-message-arrives", TopicKind::Normal, 4).expect("the topic is made");
//! broker.group("a-message-arrives", 3).expect("the group is made");
//! // … clients of `broker.proxy()` or `broker.name_server()` …
//! # }
//! ```
//!
//! Services in Java on these brokers are [programs](JavaProgram) of a test, which run under OpenTelemetry's agent.
//!
//! What they need is Java, Maven, mosquitto and nats-server; [`NotHere`] says what is missing and how to get it. The programs
//! come from Maven once and stay in a [cache](cache_directory). Containers were refused: they need a daemon and a right that
//! a test seldom has, and their images weigh ten times as much.

mod absence;
mod artifacts;
mod java;
mod kafka;
mod mosquitto;
mod nats;
mod ports;
mod process;
mod programs;
mod rocketmq;
mod talk;

pub use absence::{NotHere, Refused, StartError, require};
pub use artifacts::cache_directory;
pub use java::{JavaClient, JavaFailure, JavaProgram, RunningJavaProgram};
pub use kafka::Kafka;
pub use mosquitto::Mosquitto;
pub use nats::Nats;
pub use ports::Ports;
pub use rocketmq::{RocketMq, RocketMqOptions, RocketMqVersion, TopicKind};
