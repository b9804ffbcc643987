//! The consumer: an ordinary service that processes orders, each in a span of its own.
//!
//! The client runs on the runtime's workers; the handlers block, so they run on its blocking threads, with the
//! message's span entered. A message gets its span when a handler is free for it, not before.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use opentelemetry::Context;
use opentelemetry::trace::{SpanId, TraceContextExt, TraceId};
use tracing::Span;

use crate::error::DemoError;
use crate::inventory::{self, Inventory};
use crate::orders::{self, Order};
use crate::thread_clock::thread_cpu;
#[cfg(feature = "kafka")]
use crate::transport::kafka;
#[cfg(feature = "rocketmq")]
use crate::transport::rocketmq;
use crate::transport::{Transport, mqtt};
use crate::truth::{Handled, TruthFile};
use crate::{audit, notify, payments, telemetry};

/// How the consumer runs.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// Which broker.
    #[arg(long, value_enum, default_value_t = Transport::Mqtt)]
    pub transport: Transport,
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
pub(crate) struct Shop {
    inventory: Inventory,
    payment_service: SocketAddr,
    journal_folder: PathBuf,
    truth: TruthFile,
    messages: AtomicU64,
    failed: AtomicU64,
}

/// Processes orders until the time is over or a signal comes; `ready` is called once the broker has confirmed the
/// subscription. Messages in hand are finished before it returns.
pub fn run(config: &Config, ready: impl FnOnce() + Send + 'static) -> Result<Processed, DemoError> {
    let telemetry = telemetry::start("demo-consumer");
    let shop = Arc::new(Shop {
        inventory: Inventory::open()?,
        payment_service: payments::start_payment_service()?,
        journal_folder: config.journal_folder.clone().unwrap_or_else(std::env::temp_dir),
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
    runtime.block_on(async {
        match config.transport {
            Transport::Mqtt => mqtt::consume(config, &shop, ready).await,
            #[cfg(feature = "rocketmq")]
            Transport::RocketMq => rocketmq::consume(config, &telemetry, &shop, ready).await,
            #[cfg(feature = "kafka")]
            Transport::Kafka => kafka::consume(config, &telemetry, &shop, ready).await,
        }
    })?;
    drop(telemetry);
    Ok(Processed {
        messages: shop.messages.load(Ordering::Relaxed),
        failed: shop.failed.load(Ordering::Relaxed),
    })
}

/// Who a handled message was, for the truth.
pub(crate) struct Ids {
    trace: TraceId,
    span: SpanId,
    producer_span: SpanId,
}

impl Ids {
    /// Those of the span in this context, and of the span that sent the message.
    pub(crate) fn of(process: &Context, producer_span: SpanId) -> Self {
        let span = process.span().span_context().clone();
        Self { trace: span.trace_id(), span: span.span_id(), producer_span }
    }
}

impl Shop {
    /// Counts a message that was handled, and writes the truth of it. Its span began then, and has just ended.
    pub(crate) fn finish(&self, mut handled: Handled, ids: &Ids, began: Instant) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        handled.trace_id = ids.trace.to_string();
        handled.span_id = ids.span.to_string();
        handled.producer_span_id = ids.producer_span.to_string();
        handled.span_wall_ns = began.elapsed().as_nanos() as u64;
        self.truth.write(&handled);
    }

    /// Counts a message that could not be handled, and says why.
    pub(crate) fn fail(&self, error: &dyn std::error::Error) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(1, Ordering::Relaxed);
        eprintln!("demo-consumer: a message failed: {error}");
    }
}

/// Runs an order's handlers on the calling thread, which blocks; the ids and the span's time are the caller's to fill in.
#[inline(never)]
pub(crate) fn handle(shop: &Shop, payload: &[u8]) -> Result<Handled, std::io::Error> {
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
