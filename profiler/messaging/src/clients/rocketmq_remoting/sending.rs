//! Sends, one by one or in batches.

use opentelemetry::trace::FutureExt;
use rocketmq_client_rust::{ClientResult, DefaultMQProducer, SendResult, SendStatus};
use rocketmq_model::common::message::MessageTrait;
use rocketmq_model::common::message::message_client_id_setter::MessageClientIDSetter;

use super::error_type;
use crate::carrier::{Carrier, CarrierMut};
use crate::{Message, MessageSpan, MessageType, Producer};

/// A message that is to be sent.
#[derive(Debug)]
pub struct Sent<'a, M>(pub &'a mut M);

impl<M: MessageTrait> Carrier for Sent<'_, M> {
    fn value(&self, key: &str) -> Option<&[u8]> {
        self.0.get_properties().get(key).map(|value| value.as_bytes())
    }
}

impl<M: MessageTrait> CarrierMut for Sent<'_, M> {
    fn set_value(&mut self, key: &str, value: &str) {
        self.0.put_property(key.into(), value.into());
    }

    fn remove_value(&mut self, key: &str) {
        self.0.clear_property(key);
    }
}

/// What the client has of a message before it is sent, apart from its carrier.
struct Parts {
    id: String,
    topic: String,
    body_size: usize,
    tag: Option<String>,
    keys: Option<String>,
    group: Option<String>,
    delay_level: i64,
}

impl Parts {
    /// Gives the message its id, as the client would.
    fn of<M: MessageTrait>(message: &mut M) -> Self {
        MessageClientIDSetter::set_uniq_id(message);
        let property = |key: &str| message.get_properties().get(key).map(|value| value.to_string());
        Self {
            id: property("UNIQ_KEY").unwrap_or_default(),
            topic: message.topic().to_string(),
            body_size: message.get_body().map_or(0, |body| body.len()),
            tag: property("TAGS"),
            keys: property("KEYS"),
            group: property("__SHARDINGKEY"),
            delay_level: message.delay_time_level().into(),
        }
    }

    fn facts(&self) -> Message<'_> {
        let mut facts = Message::new()
            .id(&self.id)
            .destination(&self.topic)
            .body_size(self.body_size)
            .keys(self.keys.iter().flat_map(|keys| keys.split_whitespace()));
        if let Some(tag) = &self.tag {
            facts = facts.tag(tag);
        }
        if let Some(group) = &self.group {
            return facts.group(group);
        }
        match self.delay_level {
            0 => facts.message_type(MessageType::Normal),
            level => facts.delay_level(level),
        }
    }
}

/// As the client's `send`: the message carries the context of the send span.
///
/// # Errors
/// The client's own.
pub async fn send<M: MessageTrait + Send + Sync>(
    producer: &Producer,
    client: &DefaultMQProducer,
    mut message: M,
) -> ClientResult<Option<SendResult>> {
    let parts = Parts::of(&mut message);
    let mut span = producer.send(&mut Sent(&mut message), &parts.facts());
    let sent = client.send(message).with_context(span.context().clone()).await;
    if let Ok(Some(answer)) = &sent {
        span = stored_at(span, answer);
    }
    end(span, sent.as_ref().map(Option::as_ref));
    sent
}

/// As the client's `send_batch`: each message carries a context of its own, of its create span, and what wraps them
/// none.
///
/// # Errors
/// The client's own.
pub async fn send_batch<M: MessageTrait + Send + Sync>(
    producer: &Producer,
    client: &DefaultMQProducer,
    mut messages: Vec<M>,
) -> ClientResult<SendResult> {
    let mut batch = producer.batch();
    for message in &mut messages {
        let parts = Parts::of(message);
        batch.add(&mut Sent(message), &parts.facts());
    }
    let span = batch.send();
    let sent = client.send_batch(messages).with_context(span.context().clone()).await;
    end(span, sent.as_ref().map(Some));
    sent
}

/// Where the broker put it.
fn stored_at(span: MessageSpan, answer: &SendResult) -> MessageSpan {
    let Some(queue) = &answer.message_queue else { return span };
    span.partition(queue.queue_id()).offset(i64::try_from(answer.queue_offset).unwrap_or(i64::MAX))
}

/// Ends a span by the client's result. A message that was stored on fewer disks than wanted was not sent as wanted.
fn end(span: MessageSpan, sent: Result<Option<&SendResult>, &rocketmq_client_rust::ClientError>) {
    match sent.map(|answer| answer.map_or(SendStatus::SendOk, |answer| answer.send_status)) {
        Ok(SendStatus::SendOk) => span.done(),
        Ok(status) => span.failed(status.to_string(), ""),
        Err(error) => span.failed(error_type(error), error),
    }
}
