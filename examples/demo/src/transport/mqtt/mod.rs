//! MQTT 5 by `rumqttc`: what a service writes that instruments itself by hand, on `tracing`.

pub(crate) mod broker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use spanprof::{Attributes, Key};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::consumer::{self, Ids, Shop, handle};
use crate::ending::Ending;
use crate::error::DemoError;
use crate::producer::{self, Outlet, compose_order};
use crate::story::TOPIC;
use crate::telemetry;

/// How long a client waits for its last packets.
const FAREWELL: Duration = Duration::from_secs(2);

fn connect(role: &str, broker: std::net::SocketAddr) -> (AsyncClient, EventLoop) {
    let (host, port) = (broker.ip().to_string(), broker.port());
    let mut options = MqttOptions::new(format!("demo-{role}-{}", std::process::id()), host, port);
    options.set_keep_alive(Duration::from_secs(5));
    AsyncClient::new(options, 64)
}

/// What spans publish of what they do.
fn attributes(operation: &str) -> Arc<Attributes> {
    let attributes = Attributes::new().with(Key::MessagingDestinationName, TOPIC);
    Arc::new(attributes.with(Key::MessagingOperationName, operation))
}

/// Sends orders; a task of its own moves the packets.
pub(crate) struct Sender {
    client: AsyncClient,
    context: Context,
    connection: JoinHandle<Result<(), DemoError>>,
    acknowledged: watch::Receiver<u64>,
    broker: std::net::SocketAddr,
}

impl Sender {
    /// Must be made inside a runtime.
    pub(crate) fn connect(config: &producer::Config) -> Self {
        let (client, events) = connect("producer", config.broker);
        let (acknowledge, acknowledged) = watch::channel(0);
        let connection = tokio::spawn(drive_connection(events, acknowledge));
        let context = spanprof::with_attributes(&Context::new(), &attributes("send"));
        Self { client, context, connection, acknowledged, broker: config.broker }
    }
}

impl Outlet for Sender {
    /// Sends order `number` in a span `send orders`, whose context travels with the message.
    async fn send(&mut self, number: u64) -> Result<(), DemoError> {
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
        let _ = span.set_parent(self.context.clone());
        async {
            let payload = compose_order(number);
            let mut properties = PublishProperties::default();
            telemetry::inject(&tracing::Span::current().context(), &mut properties.user_properties);
            self.client
                .publish_with_properties(TOPIC, QoS::AtLeastOnce, false, payload, properties)
                .await
                .map_err(|error| Box::new(error).into())
        }
        .instrument(span)
        .await
    }

    async fn lost(&mut self) -> DemoError {
        let error = (&mut self.connection).await.ok().and_then(Result::err);
        let reason = "the connection's task ended".to_owned();
        error.unwrap_or(DemoError::Broker { address: self.broker, reason })
    }

    async fn close(mut self, messages: u64) -> u64 {
        // What is still missing after that shows in the numbers.
        let _ = tokio::time::timeout(FAREWELL, self.acknowledged.wait_for(|count| *count >= messages)).await;
        let acknowledged = *self.acknowledged.borrow();
        let _ = self.client.disconnect().await;
        let _ = tokio::time::timeout(FAREWELL, self.connection).await;
        acknowledged
    }
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

/// Processes orders until their number or the time is reached or a signal comes; those in hand are finished.
pub(crate) async fn consume(
    config: &consumer::Config,
    shop: &Arc<Shop>,
    ready: impl FnOnce(),
) -> Result<(), DemoError> {
    let mut ending = Ending::after(config.seconds)?;
    let (client, mut events) = connect("consumer", config.broker);
    client.subscribe(TOPIC, QoS::AtLeastOnce).await.map_err(Box::new)?;

    let handlers = Arc::new(Semaphore::new(config.handlers as usize));
    let attributes = attributes("process");
    let mut ready = Some(ready);
    let mut received = 0;
    while config.messages.is_none_or(|limit| received < limit) {
        let event = tokio::select! {
            () = ending.wait() => break,
            event = events.poll() => event.map_err(Box::new)?,
        };
        match event {
            Event::Incoming(Packet::SubAck(_)) => {
                if let Some(ready) = ready.take() {
                    ready();
                }
            }
            Event::Incoming(Packet::Publish(message)) => {
                // No handler free: the connection rests, and the broker holds back what follows.
                let permit = tokio::select! {
                    () = ending.wait() => break,
                    permit = Arc::clone(&handlers).acquire_owned() => permit.expect("never closed"),
                };
                received += 1;
                tokio::spawn(process(Arc::clone(shop), Arc::clone(&attributes), message, permit));
            }
            _ => {}
        }
    }
    // All permits are back when the last message in hand is done.
    let _ = handlers.acquire_many(config.handlers).await;
    disconnect(&client, &mut events).await;
    Ok(())
}

/// Tells the broker; a connection that is gone already needs no farewell.
async fn disconnect(client: &AsyncClient, events: &mut EventLoop) {
    let _ = client.disconnect().await;
    let farewell = async {
        while let Ok(event) = events.poll().await {
            if matches!(event, Event::Outgoing(rumqttc::Outgoing::Disconnect)) {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

/// Processes one message in a span `process orders`, a child of the producer's span and linked to it.
async fn process(
    shop: Arc<Shop>,
    attributes: Arc<Attributes>,
    message: Publish,
    permit: OwnedSemaphorePermit,
) {
    let began = Instant::now();
    let span = tracing::info_span!(
        "process",
        otel.name = "process orders",
        otel.kind = "consumer",
        otel.status_code = tracing::field::Empty,
        error.type = tracing::field::Empty,
        messaging.system = "mqtt",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.destination.name = TOPIC,
        messaging.message.id = tracing::field::Empty,
    );
    let received = message.properties.as_ref().map(|properties| properties.user_properties.as_slice());
    let producer = telemetry::extract(received.unwrap_or_default());
    let producer_span = producer.span().span_context().clone();
    span.add_link(producer_span.clone());
    // Only a span that was started before refuses a parent, and this one is new.
    let _ = span.set_parent(spanprof::with_attributes(&producer, &attributes));

    let shop_of_handler = Arc::clone(&shop);
    let handled = async {
        let span = Span::current();
        tokio::task::spawn_blocking(move || span.in_scope(|| handle(&shop_of_handler, &message.payload)))
            .await
    }
    .instrument(span.clone())
    .await;

    match handled {
        Ok(Ok(handled)) => {
            let context = span.context();
            let ids = Ids::of(&context, producer_span.span_id());
            drop(context);
            drop(span);
            shop.finish(handled, &ids, began);
        }
        Ok(Err(error)) => fail(&shop, &span, &error),
        Err(panic) => fail(&shop, &span, &panic),
    }
    drop(permit);
}

fn fail(shop: &Shop, span: &Span, error: &dyn std::error::Error) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", tracing::field::display(error));
    shop.fail(error);
}
