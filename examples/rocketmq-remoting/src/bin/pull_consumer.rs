//! Asks for orders, bills them one by one, and commits: RocketMQ's pull consumer.
//!
//! ```text
//! tests/brokers/broker topic rocketmq orders
//! cargo run --manifest-path examples/rocketmq-remoting/Cargo.toml --bin pull_consumer -- 42
//! ```

#![recursion_limit = "512"]

use std::sync::Arc;
use std::time::Duration;

use rocketmq_client_rust::{ClientResult, ClientRuntime, DefaultLitePullConsumer};
use rocketmq_model::common::consumer::consume_from_where::ConsumeFromWhere;
use rocketmq_model::common::message::message_ext::MessageExt;
use spanprof_messaging::clients::rocketmq_remoting::{commit, poll, process};
use spanprof_messaging::{Instrumentation, System};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    spanprof_rocketmq_remoting_examples::run("billing", billing)
}

async fn billing(runtime: Arc<ClientRuntime>) -> ClientResult<()> {
    let client = DefaultLitePullConsumer::builder(runtime)
        .consumer_group("pulled-billing")
        .name_server_addr(spanprof_rocketmq_remoting_examples::name_server())
        .consume_from_where(ConsumeFromWhere::ConsumeFromFirstOffset)
        // We commit what we have worked on, not what was polled.
        .auto_commit(false)
        .build()?;
    client.subscribe("orders").await?;
    client.start().await?;

    let rocketmq = Instrumentation::new(System::RocketMq).with_attributes(spanprof::with_attributes);
    let orders = rocketmq.consumer("orders", "pulled-billing");

    let wanted = spanprof_rocketmq_remoting_examples::messages_wanted();
    let mut billed = 0;
    while billed < wanted {
        // In place of `client.poll_with_timeout_zero_copy(…)`: a span if something came, nothing if not.
        let batch = poll(&orders, &client, Duration::from_secs(5)).await;
        for order in &batch {
            // The span around the handler is a child of the one that sent the order, in another process maybe.
            let process = process(&orders, order);
            let trace = process.span_context().trace_id();
            match process.enter(|| bill(order)) {
                Ok(text) => {
                    println!("billed {text}, trace {trace}");
                    process.done();
                }
                Err(error) => process.failed("bill", error),
            }
            billed += 1;
        }
        if !batch.is_empty() {
            // In place of `client.commit_all()`.
            commit(&orders, &client, &batch).await?;
        }
    }
    client.shutdown().await;
    Ok(())
}

/// The handler, which knows nothing of all this.
fn bill(order: &MessageExt) -> Result<&str, std::str::Utf8Error> {
    std::str::from_utf8(order.message_inner().body_slice())
}
