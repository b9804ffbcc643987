//! An asynchronous consumer of orders that profiles itself. `diff` it with `tokio_consumer_before`: one line starts
//! spanprof, and one word at the root of the handlers records where they wait. No handler changes.
//!
//! ```text
//! SPANPROF_DIRECTORY=profiles cargo run --release -p spanprof-examples --bin tokio_consumer
//! cargo run --release -p spanprof-agent -- show profiles/*.pb.gz --by function
//! ```
//!
//! `SPANPROF_PYROSCOPE=http://localhost:4040` sends the same to Pyroscope. Without either, the spans are published for
//! profilers outside, and nothing else is done.

use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use spanprof::WatchExt;
use tokio::sync::mpsc;
use tracing_subscriber::layer::SubscriberExt;

struct Order {
    number: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _spanprof = spanprof::Agent::builder().service_name("orders").start()?;
    let provider = SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("orders"));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))?;

    // Stands for a client of a broker.
    let (sender, mut orders) = mpsc::channel(16);
    tokio::spawn(async move {
        for number in 0..40 {
            let _ = sender.send(Order { number }).await;
        }
    });
    let mut handlers = tokio::task::JoinSet::new();
    while let Some(order) = orders.recv().await {
        handlers.spawn(process(order).watched());
    }
    handlers.join_all().await;
    Ok(())
}

#[tracing::instrument(skip_all, fields(otel.kind = "consumer", messaging.destination.name = "orders"))]
async fn process(order: Order) {
    price(order.number);
    reserve().await;
    tokio::time::sleep(Duration::from_millis(20)).await; // The payment service answers.
}

/// Computes: time on the CPU.
#[tracing::instrument(skip_all)]
fn price(number: u64) {
    let mut sum = number;
    for step in 0..2_000_000u64 {
        sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(step));
    }
}

/// Waits: time that no thread has.
async fn reserve() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}
