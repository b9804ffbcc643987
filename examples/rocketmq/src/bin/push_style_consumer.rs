//! Calls a listener for each order, several at once: what a push consumer does. Over gRPC every push consumer is a loop
//! that asks; this client has none ready, and here is one.
//!
//! ```text
//! tests/brokers/broker topic rocketmq orders
//! tests/brokers/broker group rocketmq shipping 3
//! cargo run --manifest-path examples/rocketmq/Cargo.toml --bin push_style_consumer
//! ```
//!
//! Every fifth order fails at first, comes again after 10 s, and is processed once more **in the same trace**, as
//! attempt 2. A number behind it (`-- 10`) ends it after so many orders were shipped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rocketmq::SimpleConsumer;
use rocketmq::conf::SimpleConsumerOption;
use rocketmq::model::common::{FilterExpression, FilterType};
use spanprof_messaging::clients::rocketmq_grpc::{Consumer, Delivery};
use spanprof_messaging::{Instrumentation, System};
use tokio::sync::Semaphore;

/// How many orders are shipped at once.
const AT_ONCE: usize = 8;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _spanprof = spanprof::Agent::builder().service_name("shipping").start()?;
    let _spans = spanprof_rocketmq_examples::print_spans();

    let mut option = SimpleConsumerOption::default();
    option.set_topics(vec!["orders"]);
    option.set_consumer_group("shipping");
    let mut client = SimpleConsumer::new(option, spanprof_rocketmq_examples::broker())?;
    client.start().await?;
    let client = Arc::new(client);

    let rocketmq = Instrumentation::new(System::RocketMq).with_attributes(spanprof::with_attributes);
    // The group has three retries: a fourth delivery is the last, and its failure is told as a dead letter.
    let orders = Arc::new(Consumer::new(&rocketmq, "orders", "shipping").last_attempt(4));
    let all = FilterExpression::new(FilterType::Tag, "*");

    let wanted = spanprof_rocketmq_examples::messages_wanted();
    let shipped = Arc::new(AtomicUsize::new(0));
    let free = Arc::new(Semaphore::new(AT_ONCE));
    while shipped.load(Ordering::Relaxed) < wanted {
        // Nothing is asked for that nobody is free to work on: it would only grow old here.
        let most = i32::try_from(free.available_permits().max(1))?;
        for delivery in orders.receive_with(&client, &all, most, Duration::from_secs(10)).await? {
            let permit = Arc::clone(&free).acquire_owned().await?;
            let (orders, client, shipped) = (orders.clone(), client.clone(), shipped.clone());
            tokio::spawn(async move {
                // Span, listener, acknowledgement; or, where it fails, no acknowledgement.
                match orders.handle(&client, &delivery, ship(&delivery)).await {
                    Ok(()) => _ = shipped.fetch_add(1, Ordering::Relaxed),
                    Err(error) => eprintln!("{}: {error}", delivery.message_id()),
                }
                drop(permit);
            });
        }
        // The last ones, before anything more is asked for.
        if shipped.load(Ordering::Relaxed) + (AT_ONCE - free.available_permits()) >= wanted {
            drop(free.acquire_many(u32::try_from(AT_ONCE)?).await?);
        }
    }
    Ok(())
}

/// The listener. It may await, spawn, and hop threads: the span goes with it.
async fn ship(order: &Delivery) -> Result<(), String> {
    tokio::time::sleep(Duration::from_millis(20)).await; // the carrier answers
    let text = String::from_utf8_lossy(order.body());
    let number: u32 = text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default();
    if number.is_multiple_of(5) && order.delivery_attempt() == 1 {
        return Err("the carrier has no room".to_owned());
    }
    println!("shipped {text}, delivery {}", order.delivery_attempt());
    Ok(())
}
