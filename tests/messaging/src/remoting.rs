//! RocketMQ's remoting protocol: the community's client, set up for the fixture.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rocketmq_client_rust::{
    ClientRuntime, ClientRuntimeConfig, DefaultLitePullConsumer, DefaultMQProducer, DefaultMQPushConsumer,
    DefaultMQPushConsumerBuilder,
};
use rocketmq_model::common::consumer::consume_from_where::ConsumeFromWhere;
use rocketmq_model::common::message::message_single::Message;
use rocketmq_observability::TelemetryRuntimeGuard;
use rocketmq_runtime::{RuntimeConfig, RuntimeOwner};
use spanprof_brokers::RocketMq;

/// After this long a test hangs, on however slow a machine.
const HANGS: Duration = Duration::from_secs(900);

/// Runs a test's clients to their end, on the runtime that they want to own.
///
/// # Panics
/// Where the runtime can't be made, or where the test is not through in a quarter of an hour.
pub fn run<T, F: Future<Output = T>>(test: impl FnOnce(Arc<ClientRuntime>) -> F) -> T {
    let owner = RuntimeOwner::plan(configuration()).expect("the configuration is right").build();
    let owner = owner.expect("threads can be had");
    let context = owner.root_context().component("test");
    let telemetry = TelemetryRuntimeGuard::noop().handle();
    let runtime = ClientRuntime::try_new(context, ClientRuntimeConfig::default(), telemetry);
    let runtime = runtime.expect("the clients' runtime is made");
    let result = owner.block_on(async {
        let result = tokio::time::timeout(HANGS, test(Arc::clone(&runtime))).await;
        runtime.shutdown().await;
        owner.shutdown_tasks().await;
        result.expect("the test doesn't hang")
    });
    owner.shutdown_background();
    result
}

/// With room for all listeners that the client calls at once, and for as long as they take: where they wait for more
/// than 5 s, or take more than 30, the client sends messages back that it has not had processed, or that it is having
/// processed.
fn configuration() -> RuntimeConfig {
    let mut configuration = RuntimeConfig { thread_name: "rocketmq".to_owned(), ..RuntimeConfig::default() };
    configuration.max_blocking_threads = 64;
    let lane = &mut configuration.blocking_lane_policies.metadata_io;
    lane.max_concurrency = 32;
    lane.max_queue_depth = 256;
    lane.queue_timeout = HANGS;
    lane.task_timeout = HANGS;
    configuration
}

/// A producer that has started.
///
/// # Panics
/// Where it doesn't start.
pub async fn producer(runtime: &Arc<ClientRuntime>, broker: &RocketMq) -> DefaultMQProducer {
    let builder = DefaultMQProducer::builder(Arc::clone(runtime)).producer_group("senders");
    let mut producer = builder.name_server_addr(broker.name_server()).send_msg_timeout(30_000).build();
    producer.start().await.expect("the producer starts");
    producer
}

/// A consumer from the first message on, to be built and started by the test.
#[must_use]
pub fn push_consumer(
    runtime: &Arc<ClientRuntime>,
    name_server: &str,
    group: &str,
) -> DefaultMQPushConsumerBuilder {
    DefaultMQPushConsumer::builder(Arc::clone(runtime))
        .consumer_group(group)
        .name_server_addr(name_server)
        .consume_from_where(ConsumeFromWhere::ConsumeFromFirstOffset)
}

/// A consumer that has started; it commits where it is told to alone.
///
/// # Panics
/// Where it doesn't start.
pub async fn pull_consumer(
    runtime: &Arc<ClientRuntime>,
    broker: &RocketMq,
    topic: &str,
    group: &str,
) -> DefaultLitePullConsumer {
    let builder = DefaultLitePullConsumer::builder(Arc::clone(runtime))
        .consumer_group(group)
        .name_server_addr(broker.name_server())
        .consume_from_where(ConsumeFromWhere::ConsumeFromFirstOffset)
        .auto_commit(false);
    let consumer = builder.build().expect("the configuration is right");
    consumer.subscribe(topic).await.expect("it subscribes");
    consumer.start().await.expect("the consumer starts");
    consumer
}

/// A message with a tag.
///
/// # Panics
/// Where the client refuses the topic's name.
#[must_use]
pub fn message(topic: &str, body: &[u8]) -> Message {
    Message::builder().topic(topic).tags("placed").body_slice(body).build().expect("the message is whole")
}
