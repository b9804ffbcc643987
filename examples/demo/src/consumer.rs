//! The consumer: an ordinary service that processes orders, each in a span of its own.
//!
//! The client runs on the runtime's workers; the handlers block, so they run on its blocking threads, with the
//! message's span entered. A message gets its span when a handler is free for it, not before.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use opentelemetry::trace::TraceContextExt;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use spanprof::{Attributes, Key};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::ending::Ending;
use crate::error::DemoError;
use crate::inventory::{self, Inventory};
use crate::orders::{self, Order};
use crate::story::TOPIC;
use crate::thread_clock::thread_cpu;
use crate::truth::{Handled, TruthFile};
use crate::{audit, notify, payments, telemetry};

/// How the consumer runs.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// The broker's address.
    #[arg(long)]
    pub broker: SocketAddr,
    /// Messages that may be handled at the same time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub handlers: u32,
    /// Writes the truth of every message to this file, one JSON object a line.
    #[arg(long)]
    pub truth: Option<PathBuf>,
    /// Where the journal's nameless file lies; by default the system's folder for temporary files.
    #[arg(long)]
    pub journal_folder: Option<PathBuf>,
    /// Ends after so many messages.
    #[arg(long)]
    pub messages: Option<u64>,
    /// Ends after so many seconds, if no signal came before.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
}

/// What the consumer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processed {
    /// Messages handled.
    pub messages: u64,
    /// Of these, failed.
    pub failed: u64,
}

/// What all messages share.
struct Shop {
    inventory: Inventory,
    payment_service: SocketAddr,
    journal_folder: PathBuf,
    attributes: Arc<Attributes>,
    truth: TruthFile,
    messages: AtomicU64,
    failed: AtomicU64,
}

/// Processes orders until the time is over or a signal comes; `ready` is called once the broker has confirmed the
/// subscription. Messages in hand are finished before it returns.
pub fn run(config: &Config, ready: impl FnOnce() + Send) -> Result<Processed, DemoError> {
    let telemetry = telemetry::start("demo-consumer");
    let shop = Arc::new(Shop {
        inventory: Inventory::open()?,
        payment_service: payments::start_payment_service()?,
        journal_folder: config.journal_folder.clone().unwrap_or_else(std::env::temp_dir),
        attributes: Arc::new(
            Attributes::new()
                .with(Key::MessagingDestinationName, TOPIC)
                .with(Key::MessagingOperationName, "process"),
        ),
        truth: TruthFile::create(config.truth.as_deref())?,
        messages: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(config.handlers as usize)
        .thread_name("consumer-worker")
        .enable_all()
        .build()?;
    runtime.block_on(consume(config, &shop, ready))?;
    drop(telemetry);
    Ok(Processed {
        messages: shop.messages.load(Ordering::Relaxed),
        failed: shop.failed.load(Ordering::Relaxed),
    })
}

async fn consume(config: &Config, shop: &Arc<Shop>, ready: impl FnOnce()) -> Result<(), DemoError> {
    let mut ending = Ending::after(config.seconds)?;
    let (host, port) = (config.broker.ip().to_string(), config.broker.port());
    let mut options = MqttOptions::new(format!("demo-consumer-{}", std::process::id()), host, port);
    options.set_keep_alive(Duration::from_secs(5));
    let (client, mut events) = AsyncClient::new(options, 64);
    client.subscribe(TOPIC, QoS::AtLeastOnce).await.map_err(Box::new)?;

    let handlers = Arc::new(Semaphore::new(config.handlers as usize));
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
                tokio::spawn(process(Arc::clone(shop), message, permit));
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
    let _ = tokio::time::timeout(Duration::from_secs(2), farewell).await;
}

/// Processes one message in a span `process orders`, a child of the producer's span and linked to it.
async fn process(shop: Arc<Shop>, message: Publish, permit: OwnedSemaphorePermit) {
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
    let _ = span.set_parent(spanprof::with_attributes(&producer, &shop.attributes));

    let shop_of_handler = Arc::clone(&shop);
    let handled = async {
        let span = Span::current();
        tokio::task::spawn_blocking(move || span.in_scope(|| handle(&shop_of_handler, &message.payload)))
            .await
    }
    .instrument(span.clone())
    .await;

    shop.messages.fetch_add(1, Ordering::Relaxed);
    match handled {
        Ok(Ok(mut handled)) => {
            let context = span.context();
            let ids = context.span().span_context().clone();
            drop(context);
            drop(span);
            handled.trace_id = ids.trace_id().to_string();
            handled.span_id = ids.span_id().to_string();
            handled.producer_span_id = producer_span.span_id().to_string();
            handled.span_wall_ns = began.elapsed().as_nanos() as u64;
            shop.truth.write(&handled);
        }
        Ok(Err(error)) => fail(&shop, &span, &error),
        Err(panic) => fail(&shop, &span, &panic),
    }
    drop(permit);
}

fn fail(shop: &Shop, span: &Span, error: &dyn std::error::Error) {
    shop.failed.fetch_add(1, Ordering::Relaxed);
    span.record("otel.status_code", "ERROR");
    span.record("error.type", tracing::field::display(error));
    eprintln!("demo-consumer: a message failed: {error}");
}

/// Runs an order's handlers on the calling thread, which blocks; the ids and the span's time are the caller's to fill in.
#[inline(never)]
fn handle(shop: &Shop, payload: &[u8]) -> Result<Handled, std::io::Error> {
    let began = Instant::now();
    let cpu = thread_cpu();
    let order: Order = orders::parse_payload(payload)?;
    Span::current().record("messaging.message.id", order.number);
    inventory::reserve_stock(&shop.inventory, &order);
    payments::ask_payment_service(shop.payment_service, &order)?;
    notify::throttle(&order);
    audit::write_journal(&shop.journal_folder, &order)?;
    Ok(Handled {
        trace_id: String::new(),
        span_id: String::new(),
        producer_span_id: String::new(),
        number: order.number,
        cause: order.trouble.map(|trouble| trouble.cause),
        trouble_milliseconds: order.trouble.map_or(0, |trouble| trouble.milliseconds),
        thread: std::thread::current().name().unwrap_or_default().to_owned(),
        wall_ns: began.elapsed().as_nanos() as u64,
        thread_cpu_ns: (thread_cpu() - cpu).as_nanos() as u64,
        span_wall_ns: 0,
    })
}
