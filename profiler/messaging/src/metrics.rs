//! The conventions' client metrics, and how long messages waited where.
//!
//! | metric | |
//! |---|---|
//! | `messaging.client.operation.duration` | seconds of sending, receiving, settling |
//! | `messaging.process.duration` | seconds of processing |
//! | `messaging.client.sent.messages` | messages that were tried to be sent |
//! | `messaging.client.consumed.messages` | messages handed to the application, once per delivery: at the poll, or at the processing where nobody polls |
//! | `spanprof.messaging.queueing.duration` | seconds from the broker's store to this process |
//! | `spanprof.messaging.await.duration` | seconds from there to the handler |
//!
//! The last two are ours, as the conventions have none; a message counts in them that says [`stored`](crate::Message::stored)
//! and [`received`](crate::Message::received). Attributes are those of the spans that are low in cardinality: a destination
//! with a template is told by that alone.

use std::borrow::Cow;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

use crate::conventions::{Operation, attribute};
use crate::instrumentation::Prepared;
use crate::message::Message;

/// The conventions' advice for durations, in seconds.
const DURATIONS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Queues hold messages for longer than an operation takes: the same, and on to an hour.
const WAITS: [f64; 18] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 600.0,
    3600.0,
];

#[derive(Clone, Debug)]
pub(crate) struct Instruments {
    operation: Histogram<f64>,
    process: Histogram<f64>,
    sent: Counter<u64>,
    consumed: Counter<u64>,
    queueing: Histogram<f64>,
    awaiting: Histogram<f64>,
}

impl Instruments {
    pub(crate) fn of(meter: &Meter) -> Self {
        let histogram = |name, description, bounds: &[f64]| {
            let histogram = meter.f64_histogram(name).with_unit("s").with_description(description);
            histogram.with_boundaries(bounds.to_vec()).build()
        };
        let counter = |name, description| {
            meter.u64_counter(name).with_unit("{message}").with_description(description).build()
        };
        Self {
            operation: histogram(
                "messaging.client.operation.duration",
                "Duration of messaging operation initiated by a producer or consumer client.",
                &DURATIONS,
            ),
            process: histogram("messaging.process.duration", "Duration of processing operation.", &DURATIONS),
            sent: counter(
                "messaging.client.sent.messages",
                "Number of messages producer attempted to send to the broker.",
            ),
            consumed: counter(
                "messaging.client.consumed.messages",
                "Number of messages that were delivered to the application.",
            ),
            queueing: histogram(
                "spanprof.messaging.queueing.duration",
                "Time from a message's storing by the broker to its receipt.",
                &WAITS,
            ),
            awaiting: histogram(
                "spanprof.messaging.await.duration",
                "Time from a message's receipt to the call of its handler.",
                &WAITS,
            ),
        }
    }

    /// An operation has ended, with this many messages that it counts.
    pub(crate) fn ended(
        &self,
        prepared: &Prepared,
        elapsed: Duration,
        messages: u64,
        error_type: Option<Cow<'static, str>>,
    ) {
        let mut attributes = Cow::Borrowed(&prepared.measured);
        if let Some(error_type) = error_type {
            attributes.to_mut().push(KeyValue::new(attribute::ERROR_TYPE, error_type));
        }
        match prepared.operation {
            Operation::Create => return,
            Operation::Process => self.process.record(elapsed.as_secs_f64(), &attributes),
            _ => self.operation.record(elapsed.as_secs_f64(), &attributes),
        }
        if messages > 0 {
            match prepared.operation {
                Operation::Send => self.sent.add(messages, &attributes),
                _ => self.consumed.add(messages, &attributes),
            }
        }
    }

    /// A message has come from its queue.
    pub(crate) fn queued(&self, prepared: &Prepared, message: &Message<'_>) {
        if let Some(queueing) = message.queueing() {
            self.queueing.record(queueing.as_secs_f64(), &prepared.measured);
        }
    }

    /// A message has come to its handler.
    pub(crate) fn awaited(&self, prepared: &Prepared, message: &Message<'_>) {
        if let Some(awaited) = message.awaited() {
            self.awaiting.record(awaited.as_secs_f64(), &prepared.measured);
        }
    }
}
