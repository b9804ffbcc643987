//! Who receives, processes and settles messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::trace::{Link, TraceContextExt};
use opentelemetry::{Context, KeyValue};

use crate::carrier::Carrier;
use crate::conventions::{Operation, Settlement, own_attribute};
use crate::instrumentation::{Instrumentation, Place, Prepared, ProcessParent};
use crate::message::Message;
use crate::poll::Poll;
use crate::producer::{count, rename};
use crate::received::Received;
use crate::span::{MessageSpan, Start};
use crate::{Destination, TraceContext};

/// In the context of a batch's span: its messages have been counted, also if they are processed one by one within it.
#[cfg(feature = "metrics")]
struct CountedInBatch(Arc<Prepared>);

#[cfg(feature = "metrics")]
impl CountedInBatch {
    fn within(context: &Context, process: &Arc<Prepared>) -> bool {
        context.get::<Self>().is_some_and(|batch| Arc::ptr_eq(&batch.0, process))
    }
}

/// Receives from one destination. Made by [`Instrumentation::consumer`]; make it once.
///
/// * A **listener** that is called with messages: [`process`](Self::process) or [`process_batch`](Self::process_batch).
/// * A **loop** that asks for messages: [`poll`](Self::poll) around the asking, then the same for each.
/// * Whoever **settles** by a call of its own: [`settle`](Self::settle).
///
/// Within a batch's span, messages may be processed one by one, each with a span of its own.
///
/// Clients that fetch ahead call nothing here until they hand a message over.
#[derive(Clone, Debug)]
pub struct Consumer {
    pub(crate) instrumentation: Instrumentation,
    destination: Destination,
    group: Option<String>,
    more: Vec<KeyValue>,
    pub(crate) receive: Arc<Prepared>,
    process: Arc<Prepared>,
    settlements: [Arc<Prepared>; Settlement::NAMED.len()],
    /// Whether messages are asked for: then polls count them, and not their processing.
    polls: Arc<AtomicBool>,
}

impl Consumer {
    pub(crate) fn new(
        instrumentation: Instrumentation,
        destination: Destination,
        group: Option<&str>,
    ) -> Self {
        let place = Place { destination: &destination, group, more: &[] };
        Self {
            receive: instrumentation.prepare(Operation::Receive, &place),
            process: instrumentation.prepare(Operation::Process, &place),
            settlements: Settlement::NAMED
                .map(|settlement| instrumentation.prepare_settlement(settlement, &place)),
            polls: Arc::default(),
            group: group.map(str::to_owned),
            more: Vec::new(),
            instrumentation,
            destination,
        }
    }

    /// One that counts its messages with another: where that one polls, this one's messages have been counted.
    pub(crate) fn counting_with(self, other: &Self) -> Self {
        Self { polls: Arc::clone(&other.polls), ..self }
    }

    /// An attribute of all its spans, such as Kafka's cluster id or RocketMQ's consumption model.
    #[must_use]
    pub fn with_attribute(mut self, attribute: KeyValue) -> Self {
        self.more.push(attribute);
        let place = self.place();
        let receive = self.instrumentation.prepare(Operation::Receive, &place);
        let process = self.instrumentation.prepare(Operation::Process, &place);
        let prepare = |settlement| self.instrumentation.prepare_settlement(settlement, &place);
        let settlements = Settlement::NAMED.map(prepare);
        Self { receive, process, settlements, ..self }
    }

    fn place(&self) -> Place<'_> {
        Place { destination: &self.destination, group: self.group.as_deref(), more: &self.more }
    }

    /// Begins to ask for messages. There is no span until some have come: an empty poll is none.
    pub fn poll(&self) -> Poll<'_> {
        self.polls.store(true, Ordering::Relaxed);
        Poll::begin(self)
    }

    /// Begins to process one message.
    ///
    /// The span links to the context that created the message. Its parent is the span around it or, where there is none,
    /// the message's, so that sending and processing are one trace: see [`ProcessParent`].
    pub fn process<C: Carrier + ?Sized>(&self, carrier: &C, message: &Message<'_>) -> MessageSpan {
        let created = TraceContext::extract(carrier).map(|context| context.to_opentelemetry());
        let mut start = Start::of(&self.process);
        start.attributes.extend(message.attributes(self.instrumentation.system));
        rename(&mut start.attributes, message);
        for (key, waited) in
            [(own_attribute::QUEUEING, message.queueing()), (own_attribute::AWAIT, message.awaited())]
        {
            start.attributes.extend(waited.map(|waited| KeyValue::new(key, waited.as_secs_f64())));
        }
        if let Some(created) = created {
            start.links.push(Link::with_context(created.clone()));
            let surrounding = start.parent.span().span_context().clone();
            let from_message = match self.instrumentation.process_parent {
                ProcessParent::Surrounding => false,
                ProcessParent::MessageUnlessWithinSpan => !surrounding.is_valid(),
                ProcessParent::Message => true,
            };
            if from_message {
                if surrounding.is_valid() {
                    start.links.push(Link::with_context(surrounding));
                }
                start.parent = start.parent.with_remote_span_context(created);
            }
        }
        self.processing(start, std::iter::once(message), 1)
    }

    /// Begins to process a batch in one call of a handler: one span that links to each message.
    ///
    /// What all messages have in common stands on the span, the rest on their links. OpenTelemetry's SDK keeps 128 links of a
    /// span unless it is told otherwise, and counts what it drops.
    pub fn process_batch<'a, C: Carrier + ?Sized + 'a>(
        &self,
        messages: impl IntoIterator<Item = (&'a C, Message<'a>)>,
    ) -> MessageSpan {
        let received = Received::of(messages, self.instrumentation.system);
        let mut start = Start::of(&self.process);
        received.describe(&mut start);
        let span = self.processing(start, received.messages(), received.count());
        #[cfg(feature = "metrics")]
        let span = span.with_value(CountedInBatch(Arc::clone(&self.process)));
        span
    }

    fn processing<'a>(
        &self,
        start: Start<'_>,
        messages: impl Iterator<Item = &'a Message<'a>>,
        number: u64,
    ) -> MessageSpan {
        let is_pushed = !self.polls.load(Ordering::Relaxed);
        #[cfg(feature = "metrics")]
        let is_pushed = is_pushed && !CountedInBatch::within(&start.parent, &self.process);
        self.waited(messages, is_pushed);
        count(start.start(&self.instrumentation), if is_pushed { number } else { 0 })
    }

    /// Tells the metrics how long messages waited.
    #[cfg_attr(not(feature = "metrics"), allow(unused_variables))]
    fn waited<'a>(&self, messages: impl Iterator<Item = &'a Message<'a>>, is_pushed: bool) {
        #[cfg(feature = "metrics")]
        for message in messages {
            if is_pushed {
                self.instrumentation.instruments.queued(&self.process, message);
            }
            self.instrumentation.instruments.awaited(&self.process, message);
        }
    }

    /// Begins to settle one message; `carrier` is `()` where the message isn't at hand any more.
    pub fn settle<C: Carrier + ?Sized>(
        &self,
        settlement: Settlement,
        carrier: &C,
        message: &Message<'_>,
    ) -> MessageSpan {
        let prepared = self.settlement(settlement);
        let mut start = Start::of(&prepared);
        start.attributes.extend(message.attributes(self.instrumentation.system));
        rename(&mut start.attributes, message);
        let created = TraceContext::extract(carrier).map(|context| context.to_opentelemetry());
        start.links.extend(created.map(Link::with_context));
        start.start(&self.instrumentation)
    }

    /// Begins to settle a batch of messages in one call, which are linked to.
    pub fn settle_batch<'a, C: Carrier + ?Sized + 'a>(
        &self,
        settlement: Settlement,
        messages: impl IntoIterator<Item = (&'a C, Message<'a>)>,
    ) -> MessageSpan {
        let prepared = self.settlement(settlement);
        let mut start = Start::of(&prepared);
        Received::of(messages, self.instrumentation.system).describe(&mut start);
        start.start(&self.instrumentation)
    }

    fn settlement(&self, settlement: Settlement) -> Arc<Prepared> {
        match Settlement::NAMED.iter().position(|named| *named == settlement) {
            Some(position) => Arc::clone(&self.settlements[position]),
            None => self.instrumentation.prepare_settlement(settlement, &self.place()),
        }
    }

    /// A context whose spans publish this consumer's destination and group, for work that belongs to it but not to a message:
    /// what is current, if [`Instrumentation::with_attributes`] was not said.
    pub fn context(&self) -> Context {
        let current = Context::current();
        match self.instrumentation.with_attributes {
            Some(with_attributes) => with_attributes(&current, &self.process.record),
            None => current,
        }
    }
}
