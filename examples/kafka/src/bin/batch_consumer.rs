//! Takes orders from Kafka in batches: one receive span that links to all of a batch, one process span for each message, and
//! one commit.
//!
//! ```text
//! tests/brokers/broker start kafka
//! cargo run --manifest-path examples/kafka/Cargo.toml --bin producer
//! cargo run --manifest-path examples/kafka/Cargo.toml --bin batch_consumer
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
    let _spanprof = spanprof::Agent::builder().service_name("archive").start()?;
    let spans = SdkTracerProvider::builder().with_span_processor(spanprof::ProfileProcessor::new()).build();
    global::set_tracer_provider(spans);

    let broker = std::env::var("KAFKA").unwrap_or("127.0.0.1:9092".into());
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("group.id", "archive")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()?;
    client.subscribe(&["orders"])?;
    let orders = Instrumentation::new(System::Kafka).consumer("orders", "archive");

    loop {
        // Waits for a first message, then takes what has been fetched already.
        let batch = kafka::poll_batch(&orders, &client, 32, Duration::from_secs(10))?;
        if batch.is_empty() {
            break;
        }
        println!("a batch of {}", batch.len());
        for message in &batch {
            // In the trace of the message's sending, as it is in no other span here. A handler that takes the whole batch
            // at once uses `kafka::process_batch` instead: one span with a link to each message.
            let process = kafka::process(&orders, message);
            process.enter(|| archive(message));
            println!(
                "  {}@{}, trace {}",
                message.partition(),
                message.offset(),
                process.span_context().trace_id()
            );
            process.done();
        }
        // Of each partition the highest offset, by one call.
        kafka::commit_batch(&orders, &client, &batch, CommitMode::Sync)?;
    }
    Ok(())
}

fn archive(message: &BorrowedMessage<'_>) {
    std::hint::black_box(message.payload());
}
