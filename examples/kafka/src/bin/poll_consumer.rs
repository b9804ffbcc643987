//! Polls orders from Kafka and works on them one by one, each within a span of its own, in the trace of its sending.
//!
//! ```text
//! tests/brokers/broker start kafka
//! cargo run --manifest-path examples/kafka/Cargo.toml --bin producer
//! cargo run --manifest-path examples/kafka/Cargo.toml --bin poll_consumer
//! ```
//!
//! It ends when nothing has come for ten seconds.

use std::time::Duration;

use opentelemetry::global;
use opentelemetry_sdk::trace::SdkTracerProvider;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{BorrowedMessage, Message};
use spanprof_messaging::clients::kafka;
use spanprof_messaging::{Instrumentation, System};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // As in `producer`.
    let _spanprof = spanprof::Agent::builder().service_name("billing").start()?;
    let spans = SdkTracerProvider::builder().with_span_processor(spanprof::ProfileProcessor::new()).build();
    global::set_tracer_provider(spans);

    let broker = std::env::var("KAFKA").unwrap_or("127.0.0.1:9092".into());
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("group.id", "billing")
        .set("auto.offset.reset", "earliest")
        // We commit what we have worked on, not what librdkafka has fetched.
        .set("enable.auto.commit", "false")
        .create()?;
    client.subscribe(&["orders"])?;
    let orders = Instrumentation::new(System::Kafka).consumer("orders", "billing");

    // Instead of `client.poll(…)`: a receive span when something came, nothing when nothing came.
    while let Some(message) = kafka::poll(&orders, &client, Duration::from_secs(10)) {
        let message = message?;
        // The work's own span. While it is entered, the thread publishes it: this is what profiles tell time by.
        let process = kafka::process(&orders, &message);
        let trace = process.span_context().trace_id();
        match process.enter(|| bill(&message)) {
            Ok(order) => {
                println!("{order} at {}@{}, trace {trace}", message.partition(), message.offset());
                process.done();
            }
            Err(error) => process.failed("bill", error),
        }
        // Instead of `client.commit_message(…)`: a settle span, linked to the message.
        kafka::commit(&orders, &client, &message, CommitMode::Async)?;
    }
    Ok(())
}

fn bill(message: &BorrowedMessage<'_>) -> Result<String, std::str::Utf8Error> {
    let order = std::str::from_utf8(message.key().unwrap_or_default())?;
    Ok(order.to_owned())
}
