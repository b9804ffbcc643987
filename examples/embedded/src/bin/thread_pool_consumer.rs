//! A consumer with a pool of plain threads, without OpenTelemetry and without a runtime: it marks its spans by hand.
//!
//! ```text
//! SPANPROF_DIRECTORY=profiles cargo run --release -p spanprof-examples --bin thread_pool_consumer
//! cargo run --release -p spanprof-agent -- show profiles/*.pb.gz
//! ```

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use spanprof::{Agent, Attributes, Key};

/// What a message carries: its payload, and the ids of the span that processes it. A real consumer takes the trace from
/// the message's `traceparent`.
struct Message {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    size: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _spanprof = Agent::builder().service_name("parcels").start()?;
    // Made once per consumer, not per message.
    let attributes = Attributes::new()
        .with(Key::MessagingDestinationName, "parcels")
        .with(Key::MessagingOperationName, "process");

    let (sender, messages) = mpsc::sync_channel(16);
    let messages = Arc::new(Mutex::new(messages));
    let stock = Arc::new(Mutex::new(0));
    let workers: Vec<_> = (0..4)
        .map(|number| {
            let (messages, stock, attributes) = (messages.clone(), stock.clone(), attributes.clone());
            thread::Builder::new().name(format!("parcels-{number}")).spawn(move || {
                while let Some(message) = next(&messages) {
                    let _span =
                        spanprof::enter_with_attributes(message.trace_id, message.span_id, &attributes);
                    process(&message, &stock);
                } // What was published before is published again.
            })
        })
        .collect::<Result<_, _>>()?;
    for number in 1..=60u8 {
        let message =
            Message { trace_id: [number; 16], span_id: [number; 8], size: u64::from(number) * 20_000 };
        sender.send(message)?;
    }
    drop(sender);
    for worker in workers {
        worker.join().map_err(|_| "a worker panicked")?;
    }
    Ok(())
}

fn next(messages: &Mutex<mpsc::Receiver<Message>>) -> Option<Message> {
    messages.lock().ok()?.recv().ok()
}

fn process(message: &Message, stock: &Mutex<u64>) {
    let weight = weigh(message.size);
    // All workers want the same lock: the profile shows who waits for it.
    if let Ok(mut stock) = stock.lock() {
        thread::sleep(Duration::from_millis(5));
        *stock = stock.wrapping_add(weight);
    }
}

fn weigh(size: u64) -> u64 {
    (0..size).fold(0u64, |sum, step| std::hint::black_box(sum.wrapping_mul(31).wrapping_add(step)))
}
