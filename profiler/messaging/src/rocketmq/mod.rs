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

use std::time::{Duration, SystemTime};

use crate::carrier::Carrier;
use crate::conventions::MessageType;
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
    if text("TRAN_MSG") == Some("true") {
        message = message.message_type(MessageType::Transaction);
    }
    // A broker delays retries by a level of its own, which says nothing of what was sent.
    if text("RETRY_TOPIC").is_none() {
        if let Some(level) = text("DELAY").and_then(|level| level.parse().ok()) {
            message = message.delay_level(level);
        }
        if let Some(at) = text("TIMER_DELIVER_MS").and_then(|at| at.parse().ok()).and_then(since_1970) {
            message = message.delivery(at);
        }
    }
    if let Some(times) = text("RECONSUME_TIME").and_then(|times| times.parse::<u32>().ok()) {
        message = message.attempt(times.saturating_add(1));
    }
    if let Some(topic) = text("DLQ_ORIGIN_TOPIC") {
        message = message.dead_letter_of(topic);
    }
    message
}

/// `None` where the clock can't tell a time so far off.
fn since_1970(milliseconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds))
}

/// The group whose dead letters a topic holds, if it is such a topic.
pub fn dead_letter_group(topic: &str) -> Option<&str> {
    topic.strip_prefix("%DLQ%")
}

/// The group whose retries a topic holds, if it is such a topic.
pub fn retry_group(topic: &str) -> Option<&str> {
    topic.strip_prefix("%RETRY%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::System;
    use crate::conventions::{attribute, own_attribute};

    fn told(properties: &str, key: &str) -> Option<String> {
        let properties = Properties::new(properties);
        let attributes = facts(&properties).attributes(System::RocketMq);
        let found = attributes.iter().find(|attribute| attribute.key.as_str() == key);
        found.map(|attribute| attribute.value.to_string())
    }

    #[test]
    fn properties_tell_what_the_message_is() {
        let fifo =
            "UNIQ_KEY\u{1}7F00\u{2}TAGS\u{1}placed\u{2}KEYS\u{1}o-1 c-7\u{2}__SHARDINGKEY\u{1}c-7\u{2}";
        assert_eq!(told(fifo, attribute::MESSAGE_ID).as_deref(), Some("7F00"));
        assert_eq!(told(fifo, attribute::ROCKETMQ_TAG).as_deref(), Some("placed"));
        assert_eq!(told(fifo, attribute::ROCKETMQ_KEYS).as_deref(), Some("[\"o-1\",\"c-7\"]"));
        assert_eq!(told(fifo, attribute::ROCKETMQ_GROUP).as_deref(), Some("c-7"));
        assert_eq!(told(fifo, attribute::ROCKETMQ_TYPE).as_deref(), Some("fifo"));
        assert_eq!(told("TRAN_MSG\u{1}true", attribute::ROCKETMQ_TYPE).as_deref(), Some("transaction"));
        let timed = "TIMER_DELIVER_MS\u{1}1665987217045";
        assert_eq!(told(timed, attribute::ROCKETMQ_DELIVERY_TIMESTAMP).as_deref(), Some("1665987217045"));
    }

    #[test]
    fn a_retry_is_no_delayed_message() {
        let sent = "DELAY\u{1}3";
        assert_eq!(told(sent, attribute::ROCKETMQ_DELAY_LEVEL).as_deref(), Some("3"));
        let retried = "DELAY\u{1}3\u{2}RETRY_TOPIC\u{1}orders\u{2}RECONSUME_TIME\u{1}1";
        assert_eq!(told(retried, attribute::ROCKETMQ_DELAY_LEVEL), None);
        assert_eq!(told(retried, attribute::ROCKETMQ_TYPE), None);
        assert_eq!(told(retried, own_attribute::DELIVERY_ATTEMPT).as_deref(), Some("2"));
    }

    #[test]
    fn hostile_numbers_are_no_facts() {
        let hostile = "DELAY\u{1}99999999999999999999\u{2}RECONSUME_TIME\u{1}-1\u{2}TIMER_DELIVER_MS\u{1}x";
        assert_eq!(facts(&Properties::new(hostile)).attributes(System::RocketMq), []);
        let large = format!("RECONSUME_TIME\u{1}{}\u{2}TIMER_DELIVER_MS\u{1}{}", u32::MAX, u64::MAX);
        assert!(told(&large, own_attribute::DELIVERY_ATTEMPT).is_some());
    }

    #[test]
    fn topics_tell_their_groups() {
        assert_eq!(dead_letter_group("%DLQ%billing"), Some("billing"));
        assert_eq!(retry_group("%RETRY%billing"), Some("billing"));
        assert_eq!(dead_letter_group("orders"), None);
    }
}
