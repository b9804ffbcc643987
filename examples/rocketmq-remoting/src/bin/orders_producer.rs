//! Sends ten orders one by one, and 32 in a batch. Each carries a context of its own.
//!
//! ```text
//! tests/brokers/broker topic rocketmq orders
//! cargo run --manifest-path examples/rocketmq-remoting/Cargo.toml --bin orders_producer
//! ```

#![recursion_limit = "512"]

use std::sync::Arc;

use rocketmq_client_rust::{ClientResult, ClientRuntime, DefaultMQProducer};
use rocketmq_model::common::message::message_single::Message;
use spanprof_messaging::clients::rocketmq_remoting::{send, send_batch};
use spanprof_messaging::{Instrumentation, System};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    spanprof_rocketmq_remoting_examples::run("shop", shop)
}

async fn shop(runtime: Arc<ClientRuntime>) -> ClientResult<()> {
    // The client, as without any of this.
    let mut client = DefaultMQProducer::builder(runtime)
        .producer_group("shop")
        .name_server_addr(spanprof_rocketmq_remoting_examples::name_server())
        .build();
    client.start().await?;

    // Once per client: how its spans are made. With the attributes, a profiler knows topic and group too.
    let rocketmq = Instrumentation::new(System::RocketMq).with_attributes(spanprof::with_attributes);
    // Once per topic.
    let orders = rocketmq.producer("orders");

    for number in 1..=10 {
        // In place of `client.send(message)`.
        send(&orders, &client, order(number)).await?;
    }
    // In place of `client.send_batch(messages)`. What wraps the batch on its way carries nothing: brokers since 5.3.4
    // drop it, and those before copy it over what the messages say.
    send_batch(&orders, &client, (11..=42).map(order).collect()).await?;
    println!("42 orders are placed");
    client.shutdown().await;
    Ok(())
}

fn order(number: u32) -> Message {
    let body = format!("{number} tins of tomatoes");
    Message::builder().topic("orders").tags("placed").body_slice(body.as_bytes()).build_unchecked()
}
