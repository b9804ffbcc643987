//! Apache's client over gRPC, set up for the fixture.

use std::future::Future;
use std::time::Duration;

use rocketmq::conf::{ClientOption, ProducerOption, SimpleConsumerOption};
use rocketmq::model::common::{FilterExpression, FilterType};
use rocketmq::model::message::{Message, MessageBuilder};
use rocketmq::{Producer, SimpleConsumer};
use spanprof_brokers::RocketMq;

/// After this long a test hangs, on however slow a machine.
const HANGS: Duration = Duration::from_secs(900);

/// Runs a test's clients to their end.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("threads can be had");
    runtime.block_on(async { tokio::time::timeout(HANGS, test).await.expect("the test doesn't hang") })
}

fn option(broker: &RocketMq) -> ClientOption {
    let mut option = ClientOption::default();
    option.set_access_url(broker.proxy());
    option.set_timeout(Duration::from_secs(30));
    option
}

pub(crate) async fn producer(broker: &RocketMq, topic: &str) -> Producer {
    let mut of_topic = ProducerOption::default();
    of_topic.set_topics(vec![topic]);
    let mut producer = Producer::new(of_topic, option(broker)).expect("the option is whole");
    producer.start().await.expect("the producer starts");
    producer
}

pub(crate) async fn consumer(broker: &RocketMq, topic: &str, group: &str) -> SimpleConsumer {
    let mut of_group = SimpleConsumerOption::default();
    of_group.set_topics(vec![topic]);
    of_group.set_consumer_group(group);
    let mut consumer = SimpleConsumer::new(of_group, option(broker)).expect("the option is whole");
    consumer.start().await.expect("the consumer starts");
    consumer
}

pub(crate) fn all() -> FilterExpression {
    FilterExpression::new(FilterType::Tag, "*")
}

pub(crate) fn message(topic: &str, body: &[u8]) -> impl Message + use<> + Send {
    let builder = MessageBuilder::builder().set_topic(topic).set_tag("placed").set_body(body.to_vec());
    builder.build().expect("the message is whole")
}
