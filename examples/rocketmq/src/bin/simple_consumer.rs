//! Asks for orders, bills them one by one, and acknowledges each: RocketMQ's simple consumer.
//!
//! ```text
//! tests/brokers/broker topic rocketmq orders
//! tests/brokers/broker group rocketmq billing
//! cargo run --manifest-path examples/rocketmq/Cargo.toml --bin simple_consumer
//! ```
//!
//! With `SPANPROF_DIRECTORY=profiles` before it, it profiles itself, by topic, group and trace. A number behind it
//! (`-- 10`) ends it after so many orders.

use std::time::Duration;

use rocketmq::SimpleConsumer;
use rocketmq::conf::SimpleConsumerOption;
use rocketmq::model::common::{FilterExpression, FilterType};
use spanprof_messaging::clients::rocketmq_grpc::{Consumer, Delivery};
use spanprof_messaging::{Instrumentation, System};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _spanprof = spanprof::Agent::builder().service_name("billing").start()?;
    let _spans = spanprof_rocketmq_examples::print_spans();

    let mut option = SimpleConsumerOption::default();
    option.set_topics(vec!["orders"]);
    option.set_consumer_group("billing");
    let mut client = SimpleConsumer::new(option, spanprof_rocketmq_examples::broker())?;
    client.start().await?;

    let rocketmq = Instrumentation::new(System::RocketMq).with_attributes(spanprof::with_attributes);
    let orders = Consumer::new(&rocketmq, "orders", "billing");
    let placed = FilterExpression::new(FilterType::Tag, "placed");

    let wanted = spanprof_rocketmq_examples::messages_wanted();
    let mut billed = 0;
    while billed < wanted {
        // A span if something came. A poll that finds nothing is no span and no error.
        for delivery in orders.receive_with(&client, &placed, 16, Duration::from_secs(30)).await? {
            // The span around the handler is a child of the one that sent the order, in another process maybe.
            let process = orders.process(&delivery);
            match process.enter(|| bill(&delivery)) {
                Ok(()) => {
                    process.done();
                    orders.ack(&client, &delivery).await?;
                }
                // Without an acknowledgement it comes again, in 30 s.
                Err(error) => orders.failed(process, &delivery, "bill", error),
            }
            billed += 1;
        }
    }
    client.shutdown().await?;
    Ok(())
}

/// The handler, which knows nothing of all this.
fn bill(order: &Delivery) -> Result<(), std::str::Utf8Error> {
    let text = std::str::from_utf8(order.body())?;
    println!("billed {text}, delivery {}", order.delivery_attempt());
    Ok(())
}
