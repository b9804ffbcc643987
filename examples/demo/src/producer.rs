//! The producer: an ordinary service that sends orders, each in a span of its own.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use crate::ending::Ending;
use crate::error::DemoError;
use crate::orders::{Order, OrderLine, Trouble};
use crate::story::trouble_of;
use crate::telemetry::{self, Telemetry};
#[cfg(feature = "kafka")]
use crate::transport::kafka;
#[cfg(feature = "rocketmq")]
use crate::transport::rocketmq;
use crate::transport::{Transport, mqtt};

/// How the producer runs.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// Which broker.
    #[arg(long, value_enum, default_value_t = Transport::Mqtt)]
    pub transport: Transport,
    /// The broker's address.
    #[arg(long)]
    pub broker: SocketAddr,
    /// Messages per second.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: u32,
    /// Ends after so many messages.
    #[arg(long)]
    pub messages: Option<u64>,
    /// Ends after so many seconds, if no signal came before.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
}

/// What the producer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Messages handed to the client.
    pub messages: u64,
    /// Of these, acknowledged by the broker.
    pub acknowledged: u64,
}

/// Sends orders until the number or the time is reached or a signal comes; then waits for the acknowledgements.
pub fn run(config: &Config) -> Result<Sent, DemoError> {
    let telemetry = telemetry::start("demo-producer");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("producer-worker")
        .enable_all()
        .build()?;
    let sent = runtime.block_on(connect_and_send(config, &telemetry));
    drop(telemetry);
    sent
}

#[cfg_attr(not(any(feature = "rocketmq", feature = "kafka")), expect(unused_variables))]
async fn connect_and_send(config: &Config, telemetry: &Telemetry) -> Result<Sent, DemoError> {
    match config.transport {
        Transport::Mqtt => send_orders(config, mqtt::Sender::connect(config)).await,
        #[cfg(feature = "rocketmq")]
        Transport::RocketMq => send_orders(config, rocketmq::Sender::connect(config, telemetry).await?).await,
        #[cfg(feature = "kafka")]
        Transport::Kafka => send_orders(config, kafka::Sender::connect(config, telemetry)?).await,
    }
}

/// A connection by which orders go to the broker.
pub(crate) trait Outlet {
    /// Sends order `number` in a span of its own. Errors end the producer.
    async fn send(&mut self, number: u64) -> Result<(), DemoError>;

    /// Waits until the connection is lost, where something other than the next [`send`](Self::send) tells of it.
    async fn lost(&mut self) -> DemoError {
        std::future::pending().await
    }

    /// Waits for the acknowledgements of so many messages, but not for long, and takes leave; returns how many came.
    async fn close(self, messages: u64) -> u64;
}

async fn send_orders(config: &Config, mut outlet: impl Outlet) -> Result<Sent, DemoError> {
    let mut ending = Ending::after(config.seconds)?;
    let mut pace = tokio::time::interval(Duration::from_secs(1) / config.rate);
    let mut messages = 0;
    while config.messages.is_none_or(|limit| messages < limit) {
        tokio::select! {
            () = ending.wait() => break,
            error = outlet.lost() => return Err(error),
            _ = pace.tick() => outlet.send(messages).await?,
        }
        messages += 1;
    }
    Ok(Sent { messages, acknowledged: outlet.close(messages).await })
}

/// Makes order `number` up and writes it down.
#[inline(never)]
pub(crate) fn compose_order(number: u64) -> Vec<u8> {
    let lines = (0..4 + number % 5).map(|line| OrderLine {
        article: format!("article-{}", (number * 7 + line) % 100),
        pieces: 1 + line as u32,
    });
    let order = Order {
        number,
        customer: format!("customer-{}", number % 17),
        lines: lines.collect(),
        trouble: trouble_of(number).map(|(cause, milliseconds)| Trouble { cause, milliseconds }),
    };
    black_box(serde_json::to_vec(&order).expect("plain fields become JSON"))
}
