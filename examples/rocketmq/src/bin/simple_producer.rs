//! Sends ten orders. Each carries the context of the span that sent it, so that whoever processes it continues its
//! trace.
//!
//! ```text
//! tests/brokers/broker topic rocketmq orders
//! cargo run --manifest-path examples/rocketmq/Cargo.toml --bin simple_producer
//! ```

use rocketmq::conf::ProducerOption;
use rocketmq::model::message::MessageBuilder;
use spanprof_messaging::clients::rocketmq_grpc::Producer;
use spanprof_messaging::{Instrumentation, System};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // From here on each thread publishes the span that it works on, for any profiler.
    let _spanprof = spanprof::Agent::builder().service_name("shop").start()?;
    let _spans = spanprof_rocketmq_examples::print_spans();

    // The client, as without any of this.
    let mut option = ProducerOption::default();
    option.set_topics(vec!["orders"]);
    let mut client = rocketmq::Producer::new(option, spanprof_rocketmq_examples::broker())?;
    client.start().await?;

    // Once per client: how its spans are made. With the attributes, a profiler knows topic and group too.
    let rocketmq = Instrumentation::new(System::RocketMq).with_attributes(spanprof::with_attributes);
    // Once per topic.
    let orders = Producer::new(&rocketmq, "orders");

    for number in 1..=10 {
        let message = MessageBuilder::builder()
            .set_topic("orders")
            .set_tag("placed")
            .set_keys(vec![format!("order-{number}")])
            .set_body(format!("{number} tins of tomatoes").into_bytes())
            .build()?;
        // In place of `client.send(message)`.
        let receipt = orders.send(&client, message).await?;
        println!("order {number} is message {}", receipt.message_id());
    }
    client.shutdown().await?;
    Ok(())
}
