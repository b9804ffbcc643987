//! Messages to be sent, taken apart and put together again.

use std::collections::HashMap;

use rocketmq::model::message::Message as ClientMessage;

use super::time;
use crate::carrier::{Carrier, CarrierMut};
use crate::{Message, MessageSpan, MessageType};

/// A message to be sent whose properties can still be written: what the client's builder made, taken apart.
///
/// [`Producer`](super::Producer) makes these by itself. Whoever sends by another way makes one and puts a context into
/// it:
///
/// ```
/// use rocketmq::model::message::MessageBuilder;
/// use spanprof_messaging::clients::rocketmq_grpc::Outgoing;
/// use spanprof_messaging::{Instrumentation, System};
/// # fn main() -> Result<(), rocketmq::error::ClientError> {
/// let message = MessageBuilder::builder().set_topic("orders").set_body(vec![7]).build()?;
/// let mut outgoing = Outgoing::new(message);
/// let orders = Instrumentation::new(System::RocketMq).producer("orders");
/// let send = outgoing.begin_to_send(&orders);
/// // … client.send(outgoing) …
/// send.done();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Outgoing {
    properties: HashMap<String, String>,
    parts: Parts,
}

/// What spans tell of the message, and what is sent with it.
#[derive(Clone, Debug)]
struct Parts {
    id: String,
    topic: String,
    body: Vec<u8>,
    tag: Option<String>,
    keys: Vec<String>,
    group: Option<String>,
    /// Seconds since 1970.
    delivery: Option<i64>,
    is_transaction: bool,
}

impl Outgoing {
    /// Takes a message of the client's apart.
    #[must_use]
    pub fn new(mut message: impl ClientMessage) -> Self {
        Self {
            properties: message.take_properties(),
            parts: Parts {
                id: message.take_message_id(),
                topic: message.take_topic(),
                body: message.take_body(),
                tag: message.take_tag(),
                keys: message.take_keys(),
                group: message.take_message_group(),
                delivery: message.take_delivery_timestamp(),
                is_transaction: message.transaction_enabled(),
            },
        }
    }

    /// What spans tell of it.
    #[must_use]
    pub fn facts(&self) -> Message<'_> {
        self.parts.facts()
    }

    /// Begins to send it: see [`crate::Producer::send`].
    pub fn begin_to_send(&mut self, producer: &crate::Producer) -> MessageSpan {
        producer.send(&mut self.properties, &self.parts.facts())
    }

    /// Puts it into a batch: see [`crate::SendBatch::add`].
    pub fn join(&mut self, batch: &mut crate::SendBatch<'_>) {
        batch.add(&mut self.properties, &self.parts.facts());
    }
}

impl Parts {
    fn facts(&self) -> Message<'_> {
        let mut message = Message::new()
            .id(&self.id)
            .destination(&self.topic)
            .body_size(self.body.len())
            .keys(self.keys.iter().map(String::as_str));
        if let Some(tag) = &self.tag {
            message = message.tag(tag);
        }
        // As the client decides, in this order.
        if self.is_transaction {
            message.message_type(MessageType::Transaction)
        } else if let Some(delivery) = self.delivery {
            message.delivery(time(delivery))
        } else if let Some(group) = &self.group {
            message.group(group)
        } else {
            message.message_type(MessageType::Normal)
        }
    }
}

impl ClientMessage for Outgoing {
    fn take_message_id(&mut self) -> String {
        self.parts.id.clone()
    }

    fn take_topic(&mut self) -> String {
        // The client asks more than once.
        self.parts.topic.clone()
    }

    fn take_body(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.parts.body)
    }

    fn take_tag(&mut self) -> Option<String> {
        self.parts.tag.take()
    }

    fn take_keys(&mut self) -> Vec<String> {
        std::mem::take(&mut self.parts.keys)
    }

    fn take_properties(&mut self) -> HashMap<String, String> {
        std::mem::take(&mut self.properties)
    }

    fn take_message_group(&mut self) -> Option<String> {
        self.parts.group.take()
    }

    fn take_delivery_timestamp(&mut self) -> Option<i64> {
        self.parts.delivery.take()
    }

    fn transaction_enabled(&mut self) -> bool {
        self.parts.is_transaction
    }
}

impl Carrier for Outgoing {
    fn value(&self, key: &str) -> Option<&[u8]> {
        self.properties.value(key)
    }
}

impl CarrierMut for Outgoing {
    fn set_value(&mut self, key: &str, value: &str) {
        self.properties.set_value(key, value);
    }

    fn remove_value(&mut self, key: &str) {
        self.properties.remove_value(key);
    }
}
