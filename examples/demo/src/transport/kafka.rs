//! Kafka by `rdkafka`, with the helpers for it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::trace::FutureExt;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance, StreamConsumer,
};
use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::producer::{FutureProducer, FutureRecord};
use spanprof_brokers::Kafka;
use spanprof_messaging::clients::kafka::{self, Received};
use spanprof_messaging::{Consumer, MessageSpan, Producer, System};
use tokio::task::JoinSet;

use super::official;
use crate::consumer::{self, Shop};
use crate::ending::Ending;
use crate::error::DemoError;
use crate::producer::{self, Outlet, compose_order};
use crate::story::{GROUP, TOPIC};
use crate::telemetry::Telemetry;

const PARTITIONS: u32 = 4;
/// How long a record may wait for room in the client, on however slow a machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The broker's name and version.
pub(crate) fn title() -> String {
    format!("Kafka {}", Kafka::VERSION)
}

/// Starts the broker, with the topic. Dropping it ends it.
pub(crate) fn start() -> Result<(Kafka, SocketAddr), DemoError> {
    let broker = Kafka::start()?;
    broker.topic(TOPIC, PARTITIONS)?;
    let address = official::address(broker.bootstrap_servers());
    Ok((broker, address))
}

/// Sends orders; each is acknowledged before the next is sent.
pub(crate) struct Sender {
    client: FutureProducer,
    orders: Producer,
    acknowledged: u64,
}

impl Sender {
    pub(crate) fn connect(config: &producer::Config, telemetry: &Telemetry) -> Result<Self, DemoError> {
        let client = ClientConfig::new().set("bootstrap.servers", config.broker.to_string()).create()?;
        let orders = telemetry.instrumentation(System::Kafka).producer(TOPIC);
        Ok(Self { client, orders, acknowledged: 0 })
    }
}

impl Outlet for Sender {
    async fn send(&mut self, number: u64) -> Result<(), DemoError> {
        let (key, payload) = (format!("order-{number}"), compose_order(number));
        let record = FutureRecord::to(TOPIC).key(&key).payload(&payload);
        kafka::send(&self.orders, &self.client, record, PATIENCE).await.map_err(|(error, _)| error)?;
        self.acknowledged += 1;
        Ok(())
    }

    async fn close(self, _messages: u64) -> u64 {
        self.acknowledged
    }
}

/// Calls a function once the group has given the consumer its partitions.
struct OnAssignment<F>(Mutex<Option<F>>);

impl<F: FnOnce() + Send + 'static> ClientContext for OnAssignment<F> {}

impl<F: FnOnce() + Send + 'static> ConsumerContext for OnAssignment<F> {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(_) = rebalance
            && let Some(ready) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            ready();
        }
    }
}

/// Processes orders until their number or the time is reached or a signal comes; those in hand are finished.
///
/// As many as there are handlers at the same time, and the next when all of them are done: a commit confirms all below it.
pub(crate) async fn consume<F: FnOnce() + Send + 'static>(
    config: &consumer::Config,
    telemetry: &Telemetry,
    shop: &Arc<Shop>,
    ready: F,
) -> Result<(), DemoError> {
    let mut ending = Ending::after(config.seconds)?;
    let client: StreamConsumer<_> = ClientConfig::new()
        .set("bootstrap.servers", config.broker.to_string())
        .set("group.id", GROUP)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create_with_context(OnAssignment(Mutex::new(Some(ready))))?;
    client.subscribe(&[TOPIC])?;
    let orders = telemetry.instrumentation(System::Kafka).consumer(TOPIC, GROUP);

    let mut received = 0;
    while config.messages.is_none_or(|limit| received < limit) {
        let left = config.messages.map_or(u64::MAX, |limit| limit - received);
        let batch = tokio::select! {
            () = ending.wait() => break,
            batch = next_batch(&orders, &client, left.min(config.handlers.into())) => batch?,
        };
        received += batch.len() as u64;
        let mut in_hand = JoinSet::new();
        for message in &batch {
            in_hand.spawn(process(Arc::clone(shop), kafka::process(&orders, message), message));
        }
        in_hand.join_all().await;
        kafka::commit_batch(&orders, &client, &batch, CommitMode::Async)?;
    }
    Ok(())
}

/// Waits for a message, and takes what else is there already.
async fn next_batch<'c, C: ConsumerContext + 'static>(
    orders: &Consumer,
    client: &'c StreamConsumer<C>,
    largest: u64,
) -> KafkaResult<Vec<BorrowedMessage<'c>>> {
    let mut batch = vec![kafka::receive(orders, client).await?];
    while (batch.len() as u64) < largest {
        match tokio::time::timeout(Duration::ZERO, kafka::receive(orders, client)).await {
            Ok(message) => batch.push(message?),
            Err(_nothing_there) => break,
        }
    }
    Ok(batch)
}

/// Processes one message in its span.
fn process(
    shop: Arc<Shop>,
    span: MessageSpan,
    message: &BorrowedMessage<'_>,
) -> impl Future<Output = ()> + Send + use<> {
    let sender = official::producer_span(&Received(message.headers()));
    let payload = message.payload().unwrap_or_default().to_vec();
    async move {
        let work = official::work(shop, sender, payload).with_context(span.context().clone());
        match work.await {
            Ok(()) => span.done(),
            Err(error) => span.failed("handler", error),
        }
    }
}
