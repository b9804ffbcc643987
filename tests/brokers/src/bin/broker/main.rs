//! The brokers by hand: started in the background, asked for topics and groups, stopped.

mod holder;
mod kind;

use std::process::ExitCode;

use holder::{ask, hold, start, status, stop};
use kind::{Kind, Which};
use spanprof_brokers::{JavaClient, cache_directory};

const HELP: &str = "\
Real brokers on the loopback, by hand.

Usage:
  broker start BROKER                                   start it, and return when clients can use it: rocketmq,
                                                        rocketmq-old, kafka, mosquitto or nats
  broker topic rocketmq NAME [KIND] [QUEUES]            make a topic: normal, fifo, delay or transaction (normal, 4)
  broker topic kafka NAME [PARTITIONS]                  make a topic (4)
  broker group rocketmq NAME [RETRIES] [orderly]        make a consumer group (16), which gRPC clients need
  broker status                                         what runs, and where
  broker stop [BROKER]                                  end it and delete what it wrote; without a name all of them
  broker run BROKER                                     start it and hold it until standard input ends
  broker fetch [BROKER...] [java]                       get what they are made of, once; `java` is what clients in Java
                                                        need beside; without a name all of it

Examples:
  tests/brokers/broker start rocketmq
  tests/brokers/broker topic rocketmq orders fifo 8
  tests/brokers/broker group rocketmq billing 3 orderly
  tests/brokers/broker stop

They listen where clients expect them (RocketMQ: name server 9876, gRPC 8081; Kafka 9092; MQTT 1883; NATS 4222),
or on free ports where one of those is taken; `start` and `status` say where. `rocketmq-old` is 5.3.3, whose batches differ.

Needs Java 17 and Maven for RocketMQ and Kafka, mosquitto, and nats-server:
  sudo apt-get install -y --no-install-recommends openjdk-17-jdk-headless maven mosquitto nats-server

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such broker runs, 4 something is missing on this machine.
";

/// What is fetched beside brokers.
const JAVA: &str = "java";

/// How a command ended badly: its exit code and what to say.
pub(crate) struct Failure {
    code: u8,
    words: String,
}

impl Failure {
    pub(crate) const FAILED: u8 = 1;
    pub(crate) const USAGE: u8 = 2;
    pub(crate) const NOT_RUNNING: u8 = 3;
    pub(crate) const NOT_HERE: u8 = 4;

    pub(crate) fn new(code: u8, words: impl Into<String>) -> Self {
        Self { code, words: words.into() }
    }

    fn usage(words: impl Into<String>) -> Self {
        Self::new(Self::USAGE, words.into() + "\nhelp: broker --help")
    }
}

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let words = arguments.iter().map(String::as_str).collect::<Vec<_>>();
    match obey(&words) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("broker: {}", failure.words);
            ExitCode::from(failure.code)
        }
    }
}

fn obey(words: &[&str]) -> Result<String, Failure> {
    match words {
        [] | ["--help" | "-h" | "help", ..] | [_, "--help" | "-h", ..] => Ok(HELP.to_owned()),
        ["start", name] => start(which(name)?),
        ["run", name] => hold(which(name)?, false),
        // What `start` starts.
        ["run", name, "--background"] => hold(which(name)?, true),
        ["status"] => Ok(status()),
        ["stop"] => Ok(Which::ALL.into_iter().filter_map(|which| stop(which).ok()).collect()),
        ["stop", name] => stop(which(name)?),
        ["fetch"] => fetch(&[&Which::ALL.map(Which::name)[..], &[JAVA]].concat()),
        ["fetch", names @ ..] => fetch(names),
        ["topic" | "group", name, request @ ..] => {
            let which = which(name)?;
            which.check(words[0], request).map_err(Failure::usage)?;
            ask(which, &[&[words[0]], request].concat().join(" "))
        }
        [word, ..] => Err(Failure::usage(format!("`{word}` is no command, or lacks something"))),
    }
}

fn which(name: &str) -> Result<Which, Failure> {
    Which::of(name).ok_or_else(|| Failure::usage(format!("there is no broker `{name}`")))
}

fn fetch(names: &[&str]) -> Result<String, Failure> {
    let brokers = names.iter().filter(|name| **name != JAVA).map(|name| which(name));
    for which in brokers.collect::<Result<Vec<_>, _>>()? {
        Kind::fetch(which)?;
    }
    if names.contains(&JAVA) {
        JavaClient::fetch()?;
    }
    Ok(format!("all there, in {}\n", cache_directory().display()))
}
