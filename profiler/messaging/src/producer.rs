//! Who sends messages, one by one or in batches.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::trace::{Link, SpanContext, SpanKind};

use crate::carrier::CarrierMut;
use crate::conventions::{Operation, attribute};
use crate::instrumentation::{Instrumentation, Place, Prepared};
use crate::message::Message;
use crate::span::{MessageSpan, Start};
use crate::{Destination, TraceContext, inject_span};

/// Sends to one destination. Made by [`Instrumentation::producer`]; make it once.
///
/// ```
/// # use std::collections::HashMap;
/// use spanprof_messaging::{Instrumentation, Message, System, rocketmq::answers::remoting_error};
/// let orders = Instrumentation::new(System::RocketMq).producer("orders");
/// let mut properties = HashMap::<String, String>::new();
/// let send = orders.send(&mut properties, &Message::new().tag("placed"));
/// match send.enter(|| Ok::<_, (i32, &str)>("0A0B…")) { // the client's own call
///     Ok(id) => send.message_id(id).done(),
///     Err((code, remark)) => send.failed(remoting_error(code).unwrap_or("_OTHER"), remark),
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Producer {
    instrumentation: Instrumentation,
    destination: Destination,
    more: Vec<KeyValue>,
    send: Arc<Prepared>,
    create: Arc<Prepared>,
}

impl Producer {
    pub(crate) fn new(instrumentation: Instrumentation, destination: Destination) -> Self {
        let place = Place { destination: &destination, group: None, more: &[] };
        let send = instrumentation.prepare(Operation::Send, &place);
        let create = instrumentation.prepare(Operation::Create, &place);
        Self { instrumentation, destination, more: Vec::new(), send, create }
    }

    /// An attribute of all its spans, such as Kafka's cluster id.
    #[must_use]
    pub fn with_attribute(mut self, attribute: KeyValue) -> Self {
        self.more.push(attribute);
        let place = Place { destination: &self.destination, group: None, more: &self.more };
        self.send = self.instrumentation.prepare(Operation::Send, &place);
        self.create = self.instrumentation.prepare(Operation::Create, &place);
        self
    }

    /// Begins to send one message, and puts the span's context into it.
    ///
    /// A message that carries a context already keeps it, as the conventions ask: whoever put it there created the message.
    /// The span then links to that and is of kind `CLIENT`. Whoever forwards a message as a new one takes the old
    /// `traceparent` out before.
    pub fn send<C: CarrierMut + ?Sized>(&self, carrier: &mut C, message: &Message<'_>) -> MessageSpan {
        let created = TraceContext::extract(carrier).map(|context| context.to_opentelemetry());
        let mut start = Start::of(&self.send);
        start.attributes.extend(message.attributes(self.instrumentation.system));
        rename(&mut start.attributes, message);
        if let Some(created) = created {
            start.kind = SpanKind::Client;
            start.links.push(Link::with_context(created));
            return self.sending(start, 1);
        }
        let span = self.sending(start, 1);
        inject_span(&span.span_context(), carrier);
        span
    }

    /// Begins to make a batch: [`add`](SendBatch::add) each message, then [`send`](SendBatch::send).
    ///
    /// Each message gets a create span of its own, whose context it carries, and the send span links to all of them; or all
    /// carry the send span's: see [`Instrumentation::create_spans`].
    pub fn batch(&self) -> SendBatch<'_> {
        let shared = (!self.instrumentation.creates).then(|| self.sending(Start::of(&self.send), 0));
        SendBatch { producer: self, shared, links: Vec::new(), count: 0 }
    }

    fn sending(&self, start: Start<'_>, messages: u64) -> MessageSpan {
        let span = start.start(&self.instrumentation);
        count(span, messages)
    }
}

/// A span with how many messages its end counts.
#[cfg_attr(not(feature = "metrics"), allow(unused_mut, unused_variables))]
pub(crate) fn count(mut span: MessageSpan, messages: u64) -> MessageSpan {
    #[cfg(feature = "metrics")]
    {
        span.measures.messages = messages;
    }
    span
}

/// A message's own destination in place of the producer's or consumer's.
pub(crate) fn rename(attributes: &mut Vec<KeyValue>, message: &Message<'_>) {
    let Some(destination) = message.destination else { return };
    let own = KeyValue::new(attribute::DESTINATION_NAME, destination.to_owned());
    match attributes.iter_mut().find(|name| name.key == own.key) {
        Some(name) => *name = own,
        None => attributes.push(own),
    }
}

/// A batch that is being made.
#[must_use = "nothing is sent until `send`"]
#[derive(Debug)]
pub struct SendBatch<'a> {
    producer: &'a Producer,
    /// The send span, where all messages carry its context.
    shared: Option<MessageSpan>,
    links: Vec<Link>,
    count: u64,
}

impl SendBatch<'_> {
    /// Puts a context into a message of the batch; into the message itself, not into what wraps the batch.
    ///
    /// A message that carries one already keeps it.
    pub fn add<C: CarrierMut + ?Sized>(&mut self, carrier: &mut C, message: &Message<'_>) {
        self.count += 1;
        if let Some(created) = TraceContext::extract(carrier) {
            self.links.push(Link::with_context(created.to_opentelemetry()));
            return;
        }
        if let Some(shared) = &self.shared {
            inject_span(&shared.span_context(), carrier);
            return;
        }
        let created = self.create(message);
        if inject_span(&created, carrier) {
            self.links.push(Link::with_context(created));
        }
    }

    /// A create span, which is over at once.
    fn create(&self, message: &Message<'_>) -> SpanContext {
        let producer = self.producer;
        let mut start = Start::of(&producer.create);
        start.attributes.extend(message.attributes(producer.instrumentation.system));
        rename(&mut start.attributes, message);
        let span = start.start(&producer.instrumentation);
        let context = span.span_context();
        span.done();
        context
    }

    /// Begins to send the batch.
    pub fn send(self) -> MessageSpan {
        let messages = KeyValue::new(attribute::BATCH_COUNT, i64::try_from(self.count).unwrap_or(i64::MAX));
        if let Some(span) = self.shared {
            for link in self.links {
                span.add_link(link);
            }
            span.set_attribute(messages);
            return count(span, self.count);
        }
        let mut start = Start::of(&self.producer.send);
        start.kind = SpanKind::Client;
        start.attributes.push(messages);
        start.links = self.links;
        self.producer.sending(start, self.count)
    }
}
