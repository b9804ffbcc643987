//! RocketMQ over gRPC by Apache's client, with the helpers for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::rocketmq::SimpleConsumer;
use ::rocketmq::conf::{ClientOption, ProducerOption, SimpleConsumerOption};
use ::rocketmq::error::ClientError;
use ::rocketmq::model::common::{FilterExpression, FilterType};
use ::rocketmq::model::message::MessageBuilder;
use spanprof_brokers::{RocketMq, RocketMqVersion, TopicKind};
use spanprof_messaging::System;
use spanprof_messaging::clients::rocketmq_grpc::{Consumer, Delivery, Producer, Unsettled};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::official;
use crate::consumer::{self, Shop};
use crate::ending::Ending;
use crate::error::DemoError;
use crate::producer::{self, Outlet, compose_order};
use crate::story::{GROUP, TOPIC};
use crate::telemetry::Telemetry;

const QUEUES: u32 = 4;
/// The most messages that the proxy gives at once.
const LARGEST_BATCH: u64 = 32;
/// How often a message comes again that was not acknowledged.
const RETRIES: u32 = 3;
/// When it does: so late that a slow machine alone makes none come twice.
const INVISIBLE: Duration = Duration::from_secs(60);
/// How long a request may take, on however slow a machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a client takes leave.
const FAREWELL: Duration = Duration::from_secs(2);

/// The broker's name and version.
pub(crate) fn title() -> String {
    format!("RocketMQ {}", RocketMqVersion::Newest.number())
}

/// Starts the broker, with topic and group, which over gRPC don't come into being by use. Dropping it ends it.
pub(crate) fn start() -> Result<(RocketMq, SocketAddr), DemoError> {
    let broker = RocketMq::start()?;
    broker.topic(TOPIC, TopicKind::Normal, QUEUES)?;
    broker.group(GROUP, RETRIES)?;
    let address = official::address(broker.proxy());
    Ok((broker, address))
}

fn client_option(broker: SocketAddr) -> ClientOption {
    let mut option = ClientOption::default();
    option.set_access_url(broker.to_string());
    option.set_timeout(PATIENCE);
    option
}

fn failed(error: ClientError) -> DemoError {
    Box::new(error).into()
}

/// Sends orders; each is acknowledged before the next is sent.
pub(crate) struct Sender {
    client: ::rocketmq::Producer,
    orders: Producer,
    acknowledged: u64,
}

impl Sender {
    pub(crate) async fn connect(config: &producer::Config, telemetry: &Telemetry) -> Result<Self, DemoError> {
        let mut option = ProducerOption::default();
        option.set_topics(vec![TOPIC]);
        let mut client = ::rocketmq::Producer::new(option, client_option(config.broker)).map_err(failed)?;
        client.start().await.map_err(failed)?;
        let orders = Producer::new(&telemetry.instrumentation(System::RocketMq), TOPIC);
        Ok(Self { client, orders, acknowledged: 0 })
    }
}

impl Outlet for Sender {
    async fn send(&mut self, number: u64) -> Result<(), DemoError> {
        let message = MessageBuilder::builder()
            .set_topic(TOPIC)
            .set_tag("placed")
            .set_keys(vec![format!("order-{number}")])
            .set_body(compose_order(number))
            .build()
            .map_err(failed)?;
        self.orders.send(&self.client, message).await.map_err(failed)?;
        self.acknowledged += 1;
        Ok(())
    }

    async fn close(self, _messages: u64) -> u64 {
        // Everything is acknowledged; a broker that doesn't hear it learns it soon.
        let _ = tokio::time::timeout(FAREWELL, self.client.shutdown()).await;
        self.acknowledged
    }
}

/// Processes orders until their number or the time is reached or a signal comes; those in hand are finished.
pub(crate) async fn consume(
    config: &consumer::Config,
    telemetry: &Telemetry,
    shop: &Arc<Shop>,
    ready: impl FnOnce(),
) -> Result<(), DemoError> {
    let mut option = SimpleConsumerOption::default();
    option.set_topics(vec![TOPIC]);
    option.set_consumer_group(GROUP);
    let mut client = SimpleConsumer::new(option, client_option(config.broker)).map_err(failed)?;
    client.start().await.map_err(failed)?;
    let instrumentation = telemetry.instrumentation(System::RocketMq);
    let orders = Consumer::new(&instrumentation, TOPIC, GROUP).last_attempt(RETRIES + 1);
    let orders = Arc::new(orders);
    let client = Arc::new(client);
    let all = FilterExpression::new(FilterType::Tag, "*");

    let mut ending = Ending::after(config.seconds)?;
    let handlers = Arc::new(Semaphore::new(config.handlers as usize));
    let mut received = 0;
    ready();
    while config.messages.is_none_or(|limit| received < limit) {
        // Nothing is asked for that nobody is free to work on: it would only grow old here.
        let free = tokio::select! {
            () = ending.wait() => break,
            free = handlers.acquire() => { drop(free); handlers.available_permits() }
        };
        let left = config.messages.map_or(u64::MAX, |limit| limit - received);
        let most = left.min(free as u64).clamp(1, LARGEST_BATCH) as i32;
        let deliveries = tokio::select! {
            () = ending.wait() => break,
            deliveries = orders.receive_with(&client, &all, most, INVISIBLE) => deliveries.map_err(failed)?,
        };
        for delivery in deliveries {
            let permit = Arc::clone(&handlers).acquire_owned().await.expect("never closed");
            received += 1;
            let (shop, orders, client) = (Arc::clone(shop), Arc::clone(&orders), Arc::clone(&client));
            tokio::spawn(process(shop, orders, client, delivery, permit));
        }
    }
    // All permits are back when the last message in hand is done.
    let _ = handlers.acquire_many(config.handlers).await;
    if let Some(client) = Arc::into_inner(client) {
        let _ = tokio::time::timeout(FAREWELL, client.shutdown()).await;
    }
    Ok(())
}

/// Processes one message in a span `process orders` and acknowledges it.
async fn process(
    shop: Arc<Shop>,
    orders: Arc<Consumer>,
    client: Arc<SimpleConsumer>,
    delivery: Delivery,
    permit: OwnedSemaphorePermit,
) {
    let work = official::work(shop, official::producer_span(&delivery), delivery.body().to_vec());
    // What failed in the handler has been told there.
    if let Err(Unsettled::Acknowledgement(error)) = orders.handle(&client, &delivery, work).await {
        eprintln!("demo-consumer: a message is not acknowledged: {error}");
    }
    // With it, the last in hand leaves no client behind.
    drop(client);
    drop(permit);
}
