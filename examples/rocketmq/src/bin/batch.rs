//! Sends 32 orders in one call. Each carries a context of its own, and the span of the call links to all of them.
//!
//! ```text
//! tests/brokers/broker topic rocketmq orders
//! cargo run --manifest-path examples/rocketmq/Cargo.toml --bin batch
//! ```
//!
//! Why not one context for the batch as a whole: what wraps a batch on its way is dropped by brokers since 5.3.4, and
//! is copied over what the messages say by those before. In the messages themselves it arrives everywhere.

use rocketmq::conf::ProducerOption;
use rocketmq::model::message::MessageBuilder;
use spanprof_messaging::clients::rocketmq_grpc::Producer;
use spanprof_messaging::{Instrumentation, System};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _spanprof = spanprof::Agent::builder().service_name("shop").start()?;
    let _spans = spanprof_rocketmq_examples::print_spans();

    let mut option = ProducerOption::default();
    option.set_topics(vec!["orders"]);
    let mut client = rocketmq::Producer::new(option, spanprof_rocketmq_examples::broker())?;
    client.start().await?;
    // `.create_spans(false)` would let all 32 carry the one span of the call: cheaper, and less to see.
    let rocketmq = Instrumentation::new(System::RocketMq).with_attributes(spanprof::with_attributes);
    let orders = Producer::new(&rocketmq, "orders");

    // All of a batch are of one topic, and neither delayed nor transactional: the broker wants it so.
    let messages = (1..=32)
        .map(|number| {
            MessageBuilder::builder()
                .set_topic("orders")
                .set_tag("placed")
                .set_body(format!("{number} tins of tomatoes").into_bytes())
                .build()
        })
        .collect::<Result<Vec<_>, _>>()?;
    // In place of `client.batch_send(messages)`.
    for receipt in orders.batch_send(&client, messages).await? {
        println!("the batch is {}", receipt.message_id());
    }
    client.shutdown().await?;
    Ok(())
}
