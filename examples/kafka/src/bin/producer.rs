//! Sends ten orders to Kafka. Each carries the trace of the request that it was sent for.
//!
//! ```text
//! tests/brokers/broker start kafka
//! cargo run --manifest-path examples/kafka/Cargo.toml --bin producer
//! ```
//!
//! Then run `poll_consumer` or `batch_consumer`: they print the same traces.

use std::time::Duration;

use opentelemetry::global;
use opentelemetry::trace::{FutureExt, TraceContextExt, Tracer};
use opentelemetry_sdk::trace::SdkTracerProvider;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use spanprof_messaging::clients::kafka;
use spanprof_messaging::{Instrumentation, System};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Every thread publishes the span that it works on: `spanprof attach` on this process tells time by topic and trace.
    let _spanprof = spanprof::Agent::builder().service_name("shop").start()?;
    // A service adds the exporter by which its spans reach Tempo, Jaeger and the like.
    let spans = SdkTracerProvider::builder().with_span_processor(spanprof::ProfileProcessor::new()).build();
    global::set_tracer_provider(spans);

    let broker = std::env::var("KAFKA").unwrap_or("127.0.0.1:9092".into());
    let client: FutureProducer = ClientConfig::new().set("bootstrap.servers", broker).create()?;
    // Made once, not per message.
    let orders = Instrumentation::new(System::Kafka).producer("orders");

    for number in 0..10 {
        // Stands for the request of a customer.
        let request = global::tracer("shop").start("POST /orders");
        let context = opentelemetry::Context::current_with_span(request);
        let key = format!("order-{number}");
        let record = FutureRecord::to("orders").key(&key).payload("a book");
        // Instead of `client.send(record, …)`: a send span, whose context goes along in the headers.
        let sent = kafka::send(&orders, &client, record, Duration::from_secs(10));
        match sent.with_context(context.clone()).await {
            Ok(at) => println!(
                "{key} is at {}@{}, trace {}",
                at.partition,
                at.offset,
                context.span().span_context().trace_id()
            ),
            Err((error, _)) => return Err(error.into()),
        }
    }
    Ok(())
}
