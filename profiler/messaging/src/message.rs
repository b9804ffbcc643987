//! What is known of a message, for its span.

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::{Array, KeyValue, StringValue, Value};

use crate::conventions::{MessageType, System, attribute, own_attribute};

/// What is known of one message: facts for attributes, borrowed from the client's own type. All are optional.
///
/// Facts that a system has no attribute for are left out.
#[derive(Clone, Debug, Default)]
pub struct Message<'a> {
    pub(crate) destination: Option<&'a str>,
    id: Option<&'a str>,
    conversation: Option<&'a str>,
    partition: Option<Cow<'a, str>>,
    offset: Option<i64>,
    body_size: Option<usize>,
    key: Option<&'a str>,
    is_tombstone: bool,
    message_type: Option<MessageType>,
    tag: Option<&'a str>,
    keys: Vec<&'a str>,
    group: Option<&'a str>,
    delay_level: Option<i64>,
    delivery: Option<SystemTime>,
    attempt: Option<u32>,
    dead_letter_of: Option<&'a str>,
    stored: Option<SystemTime>,
    received: Option<Instant>,
    more: Vec<KeyValue>,
}

impl<'a> Message<'a> {
    /// Nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The message's own destination, where it is not the producer's or consumer's: such as the topic that matched a filter.
    #[must_use]
    pub fn destination(mut self, name: &'a str) -> Self {
        self.destination = Some(name);
        self
    }

    /// The message's id.
    #[must_use]
    pub fn id(mut self, id: &'a str) -> Self {
        self.id = Some(id);
        self
    }

    /// The conversation or correlation id.
    #[must_use]
    pub fn conversation(mut self, id: &'a str) -> Self {
        self.conversation = Some(id);
        self
    }

    /// The partition; RocketMQ's queue id.
    #[must_use]
    pub fn partition(mut self, number: impl Into<i64>) -> Self {
        self.partition = Some(number.into().to_string().into());
        self
    }

    /// The partition by name, such as RocketMQ's broker and queue.
    #[must_use]
    pub fn partition_name(mut self, name: &'a str) -> Self {
        self.partition = Some(name.into());
        self
    }

    /// The offset in the partition or queue.
    #[must_use]
    pub fn offset(mut self, offset: i64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// The size of the body in bytes.
    #[must_use]
    pub fn body_size(mut self, bytes: usize) -> Self {
        self.body_size = Some(bytes);
        self
    }

    /// The key of a Kafka record, or RabbitMQ's routing key.
    #[must_use]
    pub fn key(mut self, key: &'a str) -> Self {
        self.key = Some(key);
        self
    }

    /// A Kafka record without a value, which deletes its key.
    #[must_use]
    pub fn tombstone(mut self, is_tombstone: bool) -> Self {
        self.is_tombstone = is_tombstone;
        self
    }

    /// RocketMQ's type of message.
    #[must_use]
    pub fn message_type(mut self, message_type: MessageType) -> Self {
        self.message_type = Some(message_type);
        self
    }

    /// RocketMQ's tag.
    #[must_use]
    pub fn tag(mut self, tag: &'a str) -> Self {
        self.tag = Some(tag);
        self
    }

    /// RocketMQ's keys.
    #[must_use]
    pub fn keys(mut self, keys: impl IntoIterator<Item = &'a str>) -> Self {
        self.keys.extend(keys);
        self
    }

    /// RocketMQ's message group; says that the type is FIFO, unless another one was said.
    #[must_use]
    pub fn group(mut self, group: &'a str) -> Self {
        self.group = Some(group);
        self.message_type = self.message_type.or(Some(MessageType::Fifo));
        self
    }

    /// RocketMQ's delay level; says that the type is delay, unless another one was said.
    #[must_use]
    pub fn delay_level(mut self, level: i64) -> Self {
        self.delay_level = Some(level);
        self.message_type = self.message_type.or(Some(MessageType::Delay));
        self
    }

    /// When RocketMQ is to deliver the message; says that the type is delay, unless another one was said.
    #[must_use]
    pub fn delivery(mut self, at: SystemTime) -> Self {
        self.delivery = Some(at);
        self.message_type = self.message_type.or(Some(MessageType::Delay));
        self
    }

    /// Which delivery it is, from 1: RocketMQ's `delivery_attempt`, or its reconsume times and one.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = Some(attempt);
        self
    }

    /// The destination that a dead letter was sent to at first.
    #[must_use]
    pub fn dead_letter_of(mut self, destination: &'a str) -> Self {
        self.dead_letter_of = Some(destination);
        self
    }

    /// When the broker stored the message, by the broker's clock: the beginning of its queueing.
    ///
    /// For RocketMQ the store time, not the born time, which some clients give in whole seconds.
    #[must_use]
    pub fn stored(mut self, at: SystemTime) -> Self {
        self.stored = Some(at);
        self
    }

    /// When the message came into this process: the end of its queueing, and the beginning of its await.
    #[must_use]
    pub fn received(mut self, at: Instant) -> Self {
        self.received = Some(at);
        self
    }

    /// Any other attribute.
    #[must_use]
    pub fn attribute(mut self, attribute: KeyValue) -> Self {
        self.more.push(attribute);
        self
    }

    /// How long the message lay at the broker: from store to receipt; `None` where that isn't known. Clocks that disagree
    /// make it zero, never negative.
    pub fn queueing(&self) -> Option<Duration> {
        let lay = SystemTime::now().duration_since(self.stored?).unwrap_or_default();
        Some(lay.saturating_sub(self.awaited().unwrap_or_default()))
    }

    /// How long ago the message came into this process; `None` where that isn't known.
    pub fn awaited(&self) -> Option<Duration> {
        self.received.map(|received| received.elapsed())
    }

    /// The message's attributes. Those that tell how long it waited are the span's, as no two messages share them.
    pub(crate) fn attributes(&self, system: System) -> Vec<KeyValue> {
        let mut attributes = Vec::with_capacity(8);
        let mut add = |key: &'static str, value: Option<Value>| {
            attributes.extend(value.map(|value| KeyValue::new(key, value)));
        };
        let text = |text: &str| Value::from(text.to_owned());
        add(attribute::MESSAGE_ID, self.id.map(text));
        add(attribute::CONVERSATION_ID, self.conversation.map(text));
        add(attribute::PARTITION, self.partition.as_deref().map(text));
        add(
            attribute::BODY_SIZE,
            self.body_size.map(|size| Value::I64(i64::try_from(size).unwrap_or(i64::MAX))),
        );
        add(own_attribute::DELIVERY_ATTEMPT, self.attempt.map(|attempt| Value::I64(attempt.into())));
        add(own_attribute::DEAD_LETTER_OF, self.dead_letter_of.map(text));
        if system != System::Kafka {
            add(own_attribute::OFFSET, self.offset.map(Value::I64));
        }
        match system {
            System::Kafka => {
                add(attribute::KAFKA_OFFSET, self.offset.map(Value::I64));
                add(attribute::KAFKA_KEY, self.key.map(text));
                add(attribute::KAFKA_TOMBSTONE, self.is_tombstone.then_some(Value::Bool(true)));
            }
            System::RocketMq => {
                add(attribute::ROCKETMQ_TYPE, self.message_type.map(|kind| Value::from(kind.name())));
                add(attribute::ROCKETMQ_TAG, self.tag.map(text));
                add(attribute::ROCKETMQ_GROUP, self.group.map(text));
                add(attribute::ROCKETMQ_DELAY_LEVEL, self.delay_level.map(Value::I64));
                add(attribute::ROCKETMQ_DELIVERY_TIMESTAMP, self.delivery.map(milliseconds));
                let keys = self.keys.iter().map(|key| StringValue::from((*key).to_owned())).collect();
                add(
                    attribute::ROCKETMQ_KEYS,
                    (!self.keys.is_empty()).then_some(Value::Array(Array::String(keys))),
                );
            }
            System::RabbitMq => add(attribute::RABBITMQ_ROUTING_KEY, self.key.map(text)),
            _ => {}
        }
        attributes.extend(self.more.iter().cloned());
        attributes
    }
}

fn milliseconds(time: SystemTime) -> Value {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Value::I64(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_that_a_system_does_not_know_are_left_out() {
        let message =
            Message::new().tag("placed").keys(["a", "b"]).group("g").key("k").offset(7).partition(3);
        let names = |system| {
            message
                .attributes(system)
                .into_iter()
                .map(|attribute| attribute.key.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(System::Kafka),
            [attribute::PARTITION, attribute::KAFKA_OFFSET, attribute::KAFKA_KEY]
        );
        assert_eq!(names(System::Nats), [attribute::PARTITION, own_attribute::OFFSET]);
        let rocketmq = names(System::RocketMq);
        assert!(rocketmq.contains(&attribute::ROCKETMQ_GROUP.to_owned()));
        assert!(!rocketmq.contains(&attribute::KAFKA_KEY.to_owned()));
    }

    #[test]
    fn clocks_that_disagree_make_no_negative_time() {
        let message = Message::new().stored(SystemTime::now() + Duration::from_secs(60));
        assert_eq!(message.queueing(), Some(Duration::ZERO));
        assert_eq!(Message::new().queueing(), None);
    }

    #[test]
    fn what_is_said_of_the_type_stays() {
        let message = Message::new().message_type(MessageType::Transaction).group("g");
        assert_eq!(message.message_type, Some(MessageType::Transaction));
        assert_eq!(Message::new().delay_level(3).message_type, Some(MessageType::Delay));
    }
}
