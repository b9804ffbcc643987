//! Sends a reminder that the broker keeps for three seconds. Its trace is the sender's when it is delivered at last.
//!
//! ```text
//! tests/brokers/broker topic rocketmq reminders delay
//! tests/brokers/broker group rocketmq reminding
//! cargo run --manifest-path examples/rocketmq/Cargo.toml --bin delayed
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rocketmq::SimpleConsumer;
use rocketmq::conf::{ProducerOption, SimpleConsumerOption};
use rocketmq::model::common::{FilterExpression, FilterType};
use rocketmq::model::message::MessageBuilder;
use spanprof_messaging::clients::rocketmq_grpc::{Consumer, Producer};
use spanprof_messaging::{Instrumentation, System};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _spanprof = spanprof::Agent::builder().service_name("reminders").start()?;
    let _spans = spanprof_rocketmq_examples::print_spans();
    let rocketmq = Instrumentation::new(System::RocketMq).with_attributes(spanprof::with_attributes);

    let mut client =
        rocketmq::Producer::new(ProducerOption::default(), spanprof_rocketmq_examples::broker())?;
    client.start().await?;
    let delivery = SystemTime::now().duration_since(UNIX_EPOCH)? + Duration::from_secs(3);
    let body = b"water the tomatoes".to_vec();
    // Over gRPC a topic takes messages of one type alone; this one was made for delayed ones.
    let message =
        MessageBuilder::delay_message_builder("reminders", body, i64::try_from(delivery.as_secs())?)
            .build()?;
    // The span tells the type, and when the message is to be delivered.
    Producer::new(&rocketmq, "reminders").send(&client, message).await?;
    client.shutdown().await?;

    let mut option = SimpleConsumerOption::default();
    option.set_consumer_group("reminding");
    let mut client = SimpleConsumer::new(option, spanprof_rocketmq_examples::broker())?;
    client.start().await?;
    let reminders = Consumer::new(&rocketmq, "reminders", "reminding");
    let all = FilterExpression::new(FilterType::Tag, "*");
    loop {
        if let Some(delivery) = reminders.receive(&client, &all).await?.pop() {
            let remind = async {
                println!("remember: {}", String::from_utf8_lossy(delivery.body()));
                Ok::<_, std::convert::Infallible>(())
            };
            reminders.handle(&client, &delivery, remind).await?;
            return Ok(client.shutdown().await?);
        }
    }
}
