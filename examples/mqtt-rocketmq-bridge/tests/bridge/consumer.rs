//! A consumer behind RocketMQ.

use std::future::Future;
use std::time::Duration;

use rocketmq::SimpleConsumer;
use rocketmq::conf::{ClientOption, SimpleConsumerOption};
use rocketmq::model::common::{FilterExpression, FilterType};
use spanprof_brokers::RocketMq;
use spanprof_messaging::clients::rocketmq_grpc::{Consumer, Delivery};

/// After this long a test hangs, on however slow a machine.
const HANGS: Duration = Duration::from_secs(900);

/// Runs a test's clients to their end.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("threads can be had");
    runtime.block_on(async { tokio::time::timeout(HANGS, test).await.expect("the test doesn't hang") })
}

/// The client, of a group that has the topic's name.
pub(crate) async fn connect(broker: &RocketMq, topic: &str) -> SimpleConsumer {
    let mut option = SimpleConsumerOption::default();
    option.set_topics(vec![topic]);
    option.set_consumer_group(topic);
    let mut client_option = ClientOption::default();
    client_option.set_access_url(broker.proxy());
    client_option.set_timeout(Duration::from_secs(30));
    loop {
        let mut client =
            SimpleConsumer::new(option.clone(), client_option.clone()).expect("the option is whole");
        match client.start().await {
            Ok(()) => return client,
            // Who asks for a topic before it is made has the proxy remember for a while that there is none.
            Err(error) if error.to_string().contains("TOPIC_NOT_FOUND") => {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => panic!("the consumer starts: {error}"),
        }
    }
}

/// So many polls that find nothing, of some 20 s each: then all has come, or something is lost.
const SILENCE: usize = 4;

/// Some messages, at least one.
pub(crate) async fn receive(consumer: &Consumer, client: &SimpleConsumer) -> Vec<Delivery> {
    let all = FilterExpression::new(FilterType::Tag, "*");
    for _ in 0..SILENCE {
        // Long enough that no message comes again while this machine is slow.
        let deliveries = consumer.receive_with(client, &all, 32, Duration::from_secs(300)).await;
        let deliveries = deliveries.expect("the broker answers");
        if !deliveries.is_empty() {
            return deliveries;
        }
    }
    panic!("something is lost: nothing comes any more");
}
