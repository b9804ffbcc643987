//! Whether a consumer keeps its pace: the same consumer bare, with spans, with its threads' records published, and with
//! the agent attached, in turns on one real broker.
//!
//!     cargo build --release -p spanprof-agent
//!     cargo run --release --manifest-path tests/messaging/throughput/Cargo.toml -- kafka
//!     cargo run --release --manifest-path tests/messaging/throughput/Cargo.toml -- rocketmq --messages 10000
//!     cargo run --release --manifest-path tests/messaging/throughput/Cargo.toml -- rocketmq-remoting --messages 10000
//!
//! Each run is a process of its own and a consumer group of its own, which reads all messages of one topic. Every message
//! came in a trace of its own, whose id is the message's number, so that each consumer can tell whether it lost one, had one
//! twice, or took one into another's trace: any of them ends the benchmark with an error. Ratios are of runs in one round,
//! whose order turns; what is printed is their median. Nothing is asserted of them, for the machine may be shared.

// The remoting client's futures nest deeply.
#![recursion_limit = "512"]

mod arguments;
mod consumer;
mod kafka;
mod remoting;
mod rocketmq;
mod sidecar;
mod table;
mod tally;
mod variant;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::{Arguments, Client, Task};
use crate::consumer::{Course, Report};
use crate::table::Table;
use crate::variant::Variant;

/// What can end a run: said in one sentence, and over.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let done = match Arguments::parse().task() {
        Task::Compare(comparison) => compare(&comparison),
        Task::Consume(course) => consume(&course),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("throughput: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// The process that is measured.
fn consume(course: &Course) -> Result<(), Failure> {
    let report = match course.client {
        Client::Kafka => kafka::consume(course)?,
        Client::Rocketmq => rocketmq::consume(course)?,
        Client::RocketmqRemoting => remoting::consume(course)?,
    };
    report.print()
}

fn compare(comparison: &arguments::Comparison) -> Result<(), Failure> {
    let turns = consumer::turns_in(comparison.work);
    let courses = |broker: &str, topic: &str| {
        let mut courses = Vec::new();
        for round in 0..comparison.rounds {
            for place in 0..Variant::ALL.len() {
                let variant = Variant::ALL[(round + place) % Variant::ALL.len()];
                courses.push(Course {
                    client: comparison.client,
                    variant,
                    broker: broker.to_owned(),
                    topic: topic.to_owned(),
                    group: format!("{}-{round}", variant.name()),
                    messages: comparison.messages,
                    turns,
                });
            }
        }
        courses
    };
    match comparison.client {
        Client::Kafka => {
            let broker = spanprof_brokers::Kafka::start()?;
            let courses = courses(broker.bootstrap_servers(), "measured");
            kafka::load(&broker, "measured", comparison.messages)?;
            run(comparison, &courses)
        }
        client @ (Client::Rocketmq | Client::RocketmqRemoting) => {
            let broker = spanprof_brokers::RocketMq::start()?;
            let address = if client == Client::Rocketmq { broker.proxy() } else { broker.name_server() };
            let courses = courses(address, "measured");
            let groups: Vec<_> = courses.iter().map(|course| course.group.as_str()).collect();
            rocketmq::load(&broker, "measured", &groups, comparison.messages)?;
            run(comparison, &courses)
        }
    }
}

fn run(comparison: &arguments::Comparison, courses: &[Course]) -> Result<(), Failure> {
    let mut table = Table::default();
    for round in courses.chunks(Variant::ALL.len()) {
        let mut reports: Vec<(Variant, Report)> = Vec::new();
        for course in round {
            let report = consumer::measure(course, &comparison.spanprof)?;
            eprintln!("{:>8} {:9} {report}", comparison.client.name(), course.variant.name());
            report.require_whole(course)?;
            reports.push((course.variant, report));
        }
        table.add(&reports);
    }
    println!(
        "{}: {} messages with {} µs of work each, {} rounds",
        comparison.client.name(),
        comparison.messages,
        comparison.work.as_micros(),
        comparison.rounds
    );
    println!("{table}");
    Ok(())
}
