//! The command line: what a person asks for, and what the processes that are measured are told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::consumer::Course;
use crate::variant::Variant;

/// Whose consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Client {
    /// `rdkafka`, polling in batches of 32.
    Kafka,
    /// Apache's `rocketmq` over gRPC: four tasks that receive 32 and acknowledge one by one.
    Rocketmq,
    /// The community's `rocketmq-client-rust` over remoting: its push consumer.
    RocketmqRemoting,
}

impl Client {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Rocketmq => "rocketmq",
            Self::RocketmqRemoting => "rocketmq-remoting",
        }
    }
}

/// Compares the pace of a consumer without and with spanprof, on a real broker.
#[derive(Debug, Parser)]
#[command(name = "throughput")]
pub(crate) struct Arguments {
    client: Client,
    /// How many messages each run consumes.
    #[arg(long, default_value_t = 20_000)]
    messages: u32,
    /// How often each variant runs.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long a handler computes, in microseconds.
    #[arg(long, default_value_t = 100)]
    work: u64,
    /// The agent's program.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../target/release/spanprof"))]
    spanprof: PathBuf,
    /// Be the process that is measured.
    #[arg(long, hide = true)]
    variant: Option<Variant>,
    #[arg(long, hide = true, default_value = "")]
    broker: String,
    #[arg(long, hide = true, default_value = "")]
    topic: String,
    #[arg(long, hide = true, default_value = "")]
    group: String,
    #[arg(long, hide = true, default_value_t = 0)]
    turns: u64,
}

/// What is to be done.
pub(crate) enum Task {
    Compare(Comparison),
    Consume(Course),
}

/// What a person asks for.
pub(crate) struct Comparison {
    pub(crate) client: Client,
    pub(crate) messages: u32,
    pub(crate) rounds: usize,
    pub(crate) work: Duration,
    pub(crate) spanprof: PathBuf,
}

impl Arguments {
    pub(crate) fn task(self) -> Task {
        let Self { client, messages, variant, broker, topic, group, turns, .. } = self;
        match variant {
            Some(variant) => Task::Consume(Course { client, variant, broker, topic, group, messages, turns }),
            None => Task::Compare(Comparison {
                client,
                messages,
                rounds: self.rounds,
                work: Duration::from_micros(self.work),
                spanprof: self.spanprof,
            }),
        }
    }
}
