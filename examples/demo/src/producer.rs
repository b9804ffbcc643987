//! The producer: an ordinary service that sends orders, each in a span of its own.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::Context;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use spanprof::{Attributes, Key};
use tokio::sync::watch;
use tracing::Instrument;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::ending::Ending;
use crate::error::DemoError;
use crate::orders::{Order, OrderLine, Trouble};
use crate::story::{TOPIC, trouble_of};
use crate::telemetry;

/// How long the producer waits for the last acknowledgements.
const FAREWELL: Duration = Duration::from_secs(2);

/// How the producer runs.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
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
    let sent = runtime.block_on(send_orders(config));
    drop(telemetry);
    sent
}

async fn send_orders(config: &Config) -> Result<Sent, DemoError> {
    let mut ending = Ending::after(config.seconds)?;
    let (host, port) = (config.broker.ip().to_string(), config.broker.port());
    let mut options = MqttOptions::new(format!("demo-producer-{}", std::process::id()), host, port);
    options.set_keep_alive(Duration::from_secs(5));
    let (client, events) = AsyncClient::new(options, 64);
    let (acknowledge, mut acknowledged) = watch::channel(0);
    let mut connection = tokio::spawn(drive_connection(events, acknowledge));

    let context = Context::new();
    let attributes = Attributes::new()
        .with(Key::MessagingDestinationName, TOPIC)
        .with(Key::MessagingOperationName, "send");
    let context = spanprof::with_attributes(&context, &Arc::new(attributes));

    let mut pace = tokio::time::interval(Duration::from_secs(1) / config.rate);
    let mut messages = 0;
    while config.messages.is_none_or(|limit| messages < limit) {
        tokio::select! {
            () = ending.wait() => break,
            ended = &mut connection => {
                let error = ended.ok().and_then(Result::err);
                return Err(error.unwrap_or_else(|| lost(config.broker)));
            }
            _ = pace.tick() => send(&client, &context, messages).await?,
        }
        messages += 1;
    }
    // What is still missing after that shows in the numbers.
    let _ = tokio::time::timeout(FAREWELL, acknowledged.wait_for(|count| *count >= messages)).await;
    let sent = Sent { messages, acknowledged: *acknowledged.borrow() };
    let _ = client.disconnect().await;
    let _ = tokio::time::timeout(FAREWELL, connection).await;
    Ok(sent)
}

fn lost(address: SocketAddr) -> DemoError {
    DemoError::Broker { address, reason: "the connection's task ended".to_owned() }
}

/// Moves packets until the client disconnects; counts the broker's acknowledgements.
async fn drive_connection(mut events: EventLoop, acknowledge: watch::Sender<u64>) -> Result<(), DemoError> {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::PubAck(_))) => acknowledge.send_modify(|count| *count += 1),
            Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(Box::new(error).into()),
        }
    }
}

/// Sends order `number` in a span `send orders`, whose context travels with the message.
async fn send(client: &AsyncClient, context: &Context, number: u64) -> Result<(), DemoError> {
    let span = tracing::info_span!(
        "send",
        otel.name = "send orders",
        otel.kind = "producer",
        messaging.system = "mqtt",
        messaging.operation.name = "send",
        messaging.operation.type = "send",
        messaging.destination.name = TOPIC,
        messaging.message.id = number,
    );
    // Only a span that was started before refuses a parent, and this one is new.
    let _ = span.set_parent(context.clone());
    async {
        let payload = compose_order(number);
        let mut properties = PublishProperties::default();
        telemetry::inject(&tracing::Span::current().context(), &mut properties.user_properties);
        client
            .publish_with_properties(TOPIC, QoS::AtLeastOnce, false, payload, properties)
            .await
            .map_err(|error| Box::new(error).into())
    }
    .instrument(span)
    .await
}

/// Makes order `number` up and writes it down.
#[inline(never)]
fn compose_order(number: u64) -> Vec<u8> {
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
