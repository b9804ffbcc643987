//! Has a listener called with each order, several at once: RocketMQ's push consumer.
//!
//! ```text
//! tests/brokers/broker topic rocketmq orders
//! cargo run --manifest-path examples/rocketmq-remoting/Cargo.toml --bin push_consumer -- 42
//! ```
//!
//! Every fifth order fails at first, comes again, and is processed once more **in the same trace**, as attempt 2.

#![recursion_limit = "512"]

use std::sync::Arc;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use rocketmq_client_rust::{
    ClientResult, ClientRuntime, ConsumeConcurrentlyContext, ConsumeConcurrentlyStatus,
    DefaultMQPushConsumer, MQPushConsumer,
};
use rocketmq_model::common::consumer::consume_from_where::ConsumeFromWhere;
use rocketmq_model::common::message::message_ext::MessageExt;
use spanprof_messaging::clients::rocketmq_remoting::Listener;
use spanprof_messaging::{Instrumentation, System};
use tokio::sync::Semaphore;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    spanprof_rocketmq_remoting_examples::run("shipping", shipping)
}

async fn shipping(runtime: Arc<ClientRuntime>) -> ClientResult<()> {
    let mut client = DefaultMQPushConsumer::builder(runtime)
        .consumer_group("shipping")
        .name_server_addr(spanprof_rocketmq_remoting_examples::name_server())
        .consume_from_where(ConsumeFromWhere::ConsumeFromFirstOffset)
        .build();
    client.subscribe("orders", "placed").await?;

    let rocketmq = Instrumentation::new(System::RocketMq).with_attributes(spanprof::with_attributes);
    let orders = rocketmq.consumer("orders", "shipping");
    let shipped = Arc::new(Semaphore::new(0));
    let one_more = Arc::clone(&shipped);
    let listener = move |orders: &[&MessageExt], _: &ConsumeConcurrentlyContext| {
        // One, unless `consume_message_batch_max_size` says more.
        for order in orders {
            if !ship(order) {
                return Ok(ConsumeConcurrentlyStatus::ReconsumeLater);
            }
            one_more.add_permits(1);
        }
        Ok(ConsumeConcurrentlyStatus::ConsumeSuccess)
    };
    // In place of the listener itself: it is called within the span, on the thread that the client chose for it. The
    // group has 16 retries: a seventeenth delivery is the last, and its failure is told as a dead letter.
    client.register_message_listener_concurrently(Listener::new(&orders, listener).last_attempt(17));
    client.start().await?;

    let wanted = spanprof_rocketmq_remoting_examples::messages_wanted();
    for _ in 0..wanted {
        shipped.acquire().await.expect("nobody closes it").forget();
    }
    client.shutdown().await;
    Ok(())
}

/// The work, which knows nothing of all this. Where it wants to, it finds the span that it works in.
fn ship(order: &MessageExt) -> bool {
    let text = String::from_utf8_lossy(order.message_inner().body_slice());
    let number: u32 = text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default();
    if number.is_multiple_of(5) && order.reconsume_times() == 0 {
        return false; // the carrier has no room
    }
    let trace = Context::current().span().span_context().trace_id();
    println!("shipped {text}, delivery {}, trace {trace}", order.reconsume_times() + 1);
    true
}
