//! RocketMQ: user properties, with either protocol.
//!
//! # Where the context stands
//!
//! In the user property `traceparent`, with `tracestate` beside it: so do OpenTelemetry's instrumentations for both
//! protocols, and other tools read it there. Retries and the dead-letter queue keep it, with the message's id.
//!
//! **In a batch: in each inner message, never on the wrapper alone.** Brokers up to 5.3.3 append the wrapper's properties to
//! those of each inner message, so that keys stand twice; later ones drop them. A context on the wrapper would thus replace
//! the right one or vanish. Where raw properties are decoded the **first** of a key counts ([`Properties`]), which is the
//! inner message's own; if that has none, the wrapper's, where an old broker hands it on.
//!
//! **`TRACE_CONTEXT` is neither written nor read**: that property, which the proxy maps to a field of the gRPC protocol, is
//! left to clients of other languages, whose texts differ; OpenTelemetry's community settled on properties.
//!
//! No baggage: properties are stored for days and cross the borders of tenants.
//!
//! The proxy refuses control characters in keys and values, which neither text has, and more than 128 properties or 16 KiB
//! of them; a broker stores at most 32,767 bytes of properties. Two keys with 55 and at most 512 bytes fit beside others.
//!
//! # In five lines
//!
//! Maps of properties carry as they are:
//!
//! ```
//! # use std::collections::HashMap;
//! use spanprof_messaging::{Instrumentation, Message, System};
//! let orders = Instrumentation::new(System::RocketMq).producer("orders");
//! let mut properties = HashMap::<String, String>::new(); // of the message
//! let send = orders.send(&mut properties, &Message::new().tag("placed"));
//! // let receipt = send.enter(|| producer.send(message.with_properties(properties)))?;
//! send.message_id("0A0B…").partition(3).done(); // or `.failed(error_type, text)`
//! ```

pub mod answers;
mod properties;

pub use properties::{LONGEST_PROPERTIES, Properties, append_property};

use crate::carrier::Carrier;
use crate::message::Message;

/// What a message's properties say of it, where a client hands them out raw, as those of the remoting protocol do: tag,
/// keys, message group, delay level, id, attempt.
///
/// ```
/// use spanprof_messaging::rocketmq::{Properties, facts};
/// let properties = Properties::new("TAGS\u{1}placed\u{2}RECONSUME_TIME\u{1}2\u{2}");
/// let message = facts(&properties).partition(3);
/// # let _ = message;
/// ```
pub fn facts<C: Carrier + ?Sized>(properties: &C) -> Message<'_> {
    let text = |key: &str| std::str::from_utf8(properties.value(key)?).ok().filter(|text| !text.is_empty());
    let mut message = Message::new();
    if let Some(id) = text("UNIQ_KEY") {
        message = message.id(id);
    }
    if let Some(tag) = text("TAGS") {
        message = message.tag(tag);
    }
    if let Some(keys) = text("KEYS") {
        message = message.keys(keys.split_ascii_whitespace());
    }
    if let Some(group) = text("__SHARDINGKEY") {
        message = message.group(group);
    }
    if let Some(level) = text("DELAY").and_then(|level| level.parse().ok()) {
        message = message.delay_level(level);
    }
    if let Some(times) = text("RECONSUME_TIME").and_then(|times| times.parse::<u32>().ok()) {
        message = message.attempt(times.saturating_add(1));
    }
    if let Some(topic) = text("DLQ_ORIGIN_TOPIC") {
        message = message.dead_letter_of(topic);
    }
    message
}

/// The group whose dead letters a topic holds, if it is such a topic.
pub fn dead_letter_group(topic: &str) -> Option<&str> {
    topic.strip_prefix("%DLQ%")
}

/// The group whose retries a topic holds, if it is such a topic.
pub fn retry_group(topic: &str) -> Option<&str> {
    topic.strip_prefix("%RETRY%")
}
