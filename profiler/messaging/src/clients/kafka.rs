//! Kafka by `rdkafka`: sends, polls one by one or in batches, commits.
//!
//! `rdkafka` was chosen, as it is what services use: it wraps librdkafka, which knows consumer groups, transactions and every
//! broker in use. The clients in pure Rust have no groups.
//!
//! ```no_run
//! use std::time::Duration;
//! use rdkafka::consumer::{BaseConsumer, CommitMode};
//! use rdkafka::producer::{FutureProducer, FutureRecord};
//! use spanprof_messaging::{Instrumentation, System, clients::kafka};
//!
//! # fn handle(_: &rdkafka::message::BorrowedMessage<'_>) -> Result<(), String> { Ok(()) }
//! # async fn run(producer: FutureProducer, consumer: BaseConsumer) -> Result<(), Box<dyn std::error::Error>> {
//! let instrumentation = Instrumentation::new(System::Kafka);
//!
//! let orders = instrumentation.producer("orders");
//! let record = FutureRecord::to("orders").key("7").payload("a book");
//! let delivery = kafka::send(&orders, &producer, record, Duration::from_secs(5)).await;
//!
//! let orders = instrumentation.consumer("orders", "billing");
//! while let Some(message) = kafka::poll(&orders, &consumer, Duration::from_secs(1)) {
//!     let message = message?;
//!     let process = kafka::process(&orders, &message);
//!     match process.enter(|| handle(&message)) {
//!         Ok(()) => process.done(),
//!         Err(error) => process.failed("handler", error),
//!     }
//!     kafka::commit(&orders, &consumer, &message, CommitMode::Async)?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is true of Kafka
//!
//! * librdkafka fetches ahead: a receive span is the time until the application had the message, not the broker's.
//! * A record's time is, unless the topic says `message.timestamp.type=LogAppendTime`, the producer's clock. Only that of the
//!   broker is taken for when a message was stored, so without it there is no queueing time.
//! * A commit confirms all offsets below it. Its span links to the messages that it is called with.

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{
    BorrowedHeaders, BorrowedMessage, DeliveryResult, Header, Headers, Message as KafkaMessage, OwnedHeaders,
    Timestamp, ToBytes,
};
use rdkafka::producer::future_producer::OwnedDeliveryResult;
use rdkafka::producer::{BaseRecord, FutureProducer, FutureRecord, ProducerContext};
use rdkafka::util::{AsyncRuntime, Timeout};
use rdkafka::{Offset, TopicPartitionList};

use crate::carrier::{Carrier, CarrierMut};
use crate::conventions::{OTHER_ERROR, Settlement};
use crate::kafka::error;
use crate::{Consumer, Message, MessageSpan, Producer};

/// A received message's headers, which it may not have; the last of a key counts.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a, H>(pub Option<&'a H>);

impl<H: Headers> Carrier for Received<'_, H> {
    fn value(&self, key: &str) -> Option<&[u8]> {
        self.0?.iter().filter(|header| header.key == key).last()?.value
    }
}

/// The headers of a record that is to be sent, which it may not have yet.
#[derive(Debug)]
pub struct Sent<'a>(pub &'a mut Option<OwnedHeaders>);

impl Carrier for Sent<'_> {
    fn value(&self, key: &str) -> Option<&[u8]> {
        self.0.as_ref()?.iter().filter(|header| header.key == key).last()?.value
    }
}

impl CarrierMut for Sent<'_> {
    fn set_value(&mut self, key: &str, value: &str) {
        self.remove_value(key);
        let headers = self.0.take().unwrap_or_default();
        *self.0 = Some(headers.insert(Header { key, value: Some(value) }));
    }

    /// librdkafka's own removal isn't reached by `rdkafka`: the others are copied, if it is there at all.
    fn remove_value(&mut self, key: &str) {
        let Some(headers) = self.0.as_ref() else { return };
        if headers.iter().all(|header| header.key != key) {
            return;
        }
        let others = headers.iter().filter(|header| header.key != key);
        *self.0 = Some(others.fold(OwnedHeaders::new(), |kept, header| kept.insert(header)));
    }
}

/// What a received message says of itself. A key is told where it is text.
pub fn facts<M: KafkaMessage>(message: &M) -> Message<'_> {
    let mut facts = Message::new()
        .destination(message.topic())
        .partition(message.partition())
        .offset(message.offset())
        .body_size(message.payload().map_or(0, <[u8]>::len))
        .tombstone(message.payload().is_none());
    if let Some(key) = message.key().and_then(|key| std::str::from_utf8(key).ok()) {
        facts = facts.key(key);
    }
    if let Timestamp::LogAppendTime(milliseconds @ 0..) = message.timestamp() {
        facts = facts.stored(SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds.unsigned_abs()));
    }
    facts
}

/// What a record that is to be sent says of itself.
fn facts_of_record<'a, K: ToBytes + ?Sized, P: ToBytes + ?Sized>(
    topic: &'a str,
    key: Option<&'a K>,
    payload: Option<&'a P>,
) -> Message<'a> {
    let facts = Message::new()
        .destination(topic)
        .body_size(payload.map_or(0, |payload| payload.to_bytes().len()))
        .tombstone(payload.is_none());
    match key.and_then(|key| std::str::from_utf8(key.to_bytes()).ok()) {
        Some(key) => facts.key(key),
        None => facts,
    }
}

/// The word for `error.type`: the protocol's name for a broker's error, librdkafka's for one of its own.
pub fn error_type(error_of: &KafkaError) -> Cow<'static, str> {
    let Some(code) = error_of.rdkafka_error_code() else {
        return match error_of {
            KafkaError::Canceled => "canceled".into(),
            KafkaError::Nul(_) => "nul".into(),
            KafkaError::ClientConfig(..) => "client_config".into(),
            _ => OTHER_ERROR.into(),
        };
    };
    match code {
        RDKafkaErrorCode::MessageTimedOut => "_MSG_TIMED_OUT",
        RDKafkaErrorCode::OperationTimedOut => "_TIMED_OUT",
        RDKafkaErrorCode::RequestTimedOut => "REQUEST_TIMED_OUT",
        RDKafkaErrorCode::QueueFull => "_QUEUE_FULL",
        RDKafkaErrorCode::BrokerTransportFailure => "_TRANSPORT",
        RDKafkaErrorCode::AllBrokersDown => "_ALL_BROKERS_DOWN",
        RDKafkaErrorCode::UnknownTopic => "_UNKNOWN_TOPIC",
        RDKafkaErrorCode::UnknownPartition => "_UNKNOWN_PARTITION",
        RDKafkaErrorCode::UnknownGroup => "_UNKNOWN_GROUP",
        RDKafkaErrorCode::PollExceeded => "_MAX_POLL_EXCEEDED",
        RDKafkaErrorCode::NoOffset => "_NO_OFFSET",
        RDKafkaErrorCode::AutoOffsetReset => "_AUTO_OFFSET_RESET",
        RDKafkaErrorCode::Fatal => "_FATAL",
        RDKafkaErrorCode::PurgeQueue => "_PURGE_QUEUE",
        RDKafkaErrorCode::PurgeInflight => "_PURGE_INFLIGHT",
        RDKafkaErrorCode::Fenced => "_FENCED",
        broker => error(broker as i32).unwrap_or(OTHER_ERROR),
    }
    .into()
}

/// Ends a span by what a call gave.
fn end<T>(span: MessageSpan, result: &KafkaResult<T>) {
    match result {
        Ok(_) => span.done(),
        Err(error) => span.failed(error_type(error), error),
    }
}

/// Sends a record, and waits for the broker's answer: one send span, whose context the record carries.
///
/// # Errors
/// The client's own, with the message that was not sent.
pub async fn send<C, R, K, P>(
    producer: &Producer,
    client: &FutureProducer<C, R>,
    mut record: FutureRecord<'_, K, P>,
    queue_timeout: impl Into<Timeout>,
) -> OwnedDeliveryResult
where
    C: ClientContext + 'static,
    R: AsyncRuntime,
    K: ToBytes + ?Sized,
    P: ToBytes + ?Sized,
{
    let span = sending(producer, &mut record);
    let result = client.send(record, queue_timeout).await;
    match &result {
        Ok(delivery) => span.partition(delivery.partition).offset(delivery.offset).done(),
        Err((error, _)) => span.failed(error_type(error), error),
    }
    result
}

/// Begins to send a record, and puts the span's context into it: for those who call `send_result` or spread a send by hand.
pub fn sending<K: ToBytes + ?Sized, P: ToBytes + ?Sized>(
    producer: &Producer,
    record: &mut FutureRecord<'_, K, P>,
) -> MessageSpan {
    let facts = facts_of_record(record.topic, record.key, record.payload);
    producer.send(&mut Sent(&mut record.headers), &facts)
}

/// Begins to send a record of a producer whose context is [`EndsSpans`], which ends the span by the broker's answer:
///
/// ```no_run
/// # fn run(configuration: rdkafka::ClientConfig, orders: &spanprof_messaging::Producer)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// use rdkafka::producer::{BaseRecord, ThreadedProducer};
/// use spanprof_messaging::clients::kafka;
///
/// let client: ThreadedProducer<_> = configuration.create_with_context(kafka::EndsSpans)?;
/// let record = kafka::sending_base(orders, BaseRecord::to("orders").key("7").payload("a book"));
/// client.send(record).map_err(|(error, record)| kafka::refused(record, error))?;
/// # Ok(())
/// # }
/// ```
pub fn sending_base<'a, K: ToBytes + ?Sized, P: ToBytes + ?Sized>(
    producer: &Producer,
    record: BaseRecord<'a, K, P, ()>,
) -> BaseRecord<'a, K, P, Box<MessageSpan>> {
    let BaseRecord { topic, partition, payload, key, timestamp, mut headers, delivery_opaque: () } = record;
    let span = producer.send(&mut Sent(&mut headers), &facts_of_record(topic, key, payload));
    BaseRecord { topic, partition, payload, key, timestamp, headers, delivery_opaque: Box::new(span) }
}

/// Ends the span of a record that the client didn't take, such as where its queue is full, and gives back the error.
pub fn refused<K: ToBytes + ?Sized, P: ToBytes + ?Sized>(
    record: BaseRecord<'_, K, P, Box<MessageSpan>>,
    error: KafkaError,
) -> KafkaError {
    record.delivery_opaque.failed(error_type(&error), &error);
    error
}

/// The context of a `BaseProducer` or `ThreadedProducer` by which the spans of [`sending_base`] end.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndsSpans;

impl ClientContext for EndsSpans {}

impl ProducerContext for EndsSpans {
    type DeliveryOpaque = Box<MessageSpan>;

    fn delivery(&self, result: &DeliveryResult<'_>, span: Box<MessageSpan>) {
        match result {
            Ok(message) => span.partition(message.partition()).offset(message.offset()).done(),
            Err((error, _)) => span.failed(error_type(error), error),
        }
    }
}

/// Asks for one message, which gives a receive span. That none came, or that a partition is at its end, gives none.
///
/// Nothing is given only when the time is over. The client's own `poll` also gives nothing after a rebalance or the answer
/// to a commit.
pub fn poll<'c, C: ConsumerContext>(
    consumer: &Consumer,
    client: &'c BaseConsumer<C>,
    timeout: Duration,
) -> Option<KafkaResult<BorrowedMessage<'c>>> {
    let poll = consumer.poll();
    let result = wait(client, timeout);
    match &result {
        None | Some(Err(KafkaError::PartitionEOF(_))) => poll.empty(),
        Some(Ok(message)) => poll.one(&Received(message.headers()), &facts(message)),
        Some(Err(error)) => poll.failed(error_type(error), error),
    }
    result
}

/// Polls until something comes or the time is over.
fn wait<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    timeout: Duration,
) -> Option<KafkaResult<BorrowedMessage<'_>>> {
    let begin = Instant::now();
    loop {
        let left = timeout.saturating_sub(begin.elapsed());
        let result = client.poll(left);
        if result.is_some() || left.is_zero() {
            return result;
        }
    }
}

/// As [`poll`], by the asynchronous client.
///
/// # Errors
/// The client's own.
pub async fn receive<'c, C, R>(
    consumer: &Consumer,
    client: &'c StreamConsumer<C, R>,
) -> KafkaResult<BorrowedMessage<'c>>
where
    C: ConsumerContext + 'static,
    R: AsyncRuntime,
{
    let poll = consumer.poll();
    let result = client.recv().await;
    match &result {
        Ok(message) => poll.one(&Received(message.headers()), &facts(message)),
        Err(KafkaError::PartitionEOF(_)) => poll.empty(),
        Err(error) => poll.failed(error_type(error), error),
    }
    result
}

/// Asks for a batch: waits for a first message, then takes what has been fetched already, up to `largest`. One receive span,
/// which links to all of them; nothing if none came.
///
/// # Errors
/// The client's own, if it comes before any message; one that comes later is the next call's to find.
pub fn poll_batch<'c, C: ConsumerContext>(
    consumer: &Consumer,
    client: &'c BaseConsumer<C>,
    largest: usize,
    timeout: Duration,
) -> KafkaResult<Vec<BorrowedMessage<'c>>> {
    let poll = consumer.poll();
    let mut batch = Vec::new();
    let mut next = wait(client, timeout);
    while let Some(result) = next {
        match result {
            Ok(message) => batch.push(message),
            Err(KafkaError::PartitionEOF(_)) => {}
            Err(error) if batch.is_empty() => {
                poll.failed(error_type(&error), &error);
                return Err(error);
            }
            Err(_) => break,
        }
        if batch.len() >= largest {
            break;
        }
        next = client.poll(Duration::ZERO);
    }
    poll.many(with_carriers(&carriers(&batch), &batch));
    Ok(batch)
}

/// Begins to process one message: of a batch too, then outside of [`process_batch`]'s span if it is to be in the trace of its
/// sending.
pub fn process<M: KafkaMessage>(consumer: &Consumer, message: &M) -> MessageSpan {
    consumer.process(&Received(message.headers()), &facts(message))
}

/// Begins to process a batch in one call of a handler: one span with a link to each message.
pub fn process_batch(consumer: &Consumer, batch: &[BorrowedMessage<'_>]) -> MessageSpan {
    consumer.process_batch(with_carriers(&carriers(batch), batch))
}

/// Commits a message's offset, and with it all before: a settle span.
///
/// Asynchronously, the span says that it was handed over; the client's `ConsumerContext::commit_callback` gets the answer.
///
/// # Errors
/// The client's own.
pub fn commit<C: ConsumerContext>(
    consumer: &Consumer,
    client: &impl rdkafka::consumer::Consumer<C>,
    message: &BorrowedMessage<'_>,
    mode: CommitMode,
) -> KafkaResult<()> {
    let carrier = Received(message.headers());
    let span = consumer.settle(Settlement::Acknowledge, &carrier, &facts(message));
    let result = span.enter(|| client.commit_message(message, mode));
    end(span, &result);
    result
}

/// Commits a batch: of each partition the highest offset, in one call with one settle span, which links to all messages. An
/// empty batch does nothing.
///
/// # Errors
/// The client's own.
pub fn commit_batch<C: ConsumerContext>(
    consumer: &Consumer,
    client: &impl rdkafka::consumer::Consumer<C>,
    batch: &[BorrowedMessage<'_>],
    mode: CommitMode,
) -> KafkaResult<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let offsets = offsets(batch)?;
    let carriers = carriers(batch);
    let span = consumer.settle_batch(Settlement::Acknowledge, with_carriers(&carriers, batch));
    let result = span.enter(|| client.commit(&offsets, mode));
    end(span, &result);
    result
}

/// What a commit of these messages says: by partition, the offset after the highest.
fn offsets<M: KafkaMessage>(batch: &[M]) -> KafkaResult<TopicPartitionList> {
    let mut highest = std::collections::BTreeMap::new();
    for message in batch {
        let place = (message.topic(), message.partition());
        let offset = highest.entry(place).or_insert(message.offset());
        *offset = message.offset().max(*offset);
    }
    let mut offsets = TopicPartitionList::with_capacity(highest.len());
    for ((topic, partition), offset) in highest {
        offsets.add_partition_offset(topic, partition, Offset::Offset(offset.saturating_add(1)))?;
    }
    Ok(offsets)
}

fn carriers<'m>(batch: &'m [BorrowedMessage<'_>]) -> Vec<Received<'m, BorrowedHeaders>> {
    batch.iter().map(|message| Received(message.headers())).collect()
}

fn with_carriers<'m>(
    carriers: &'m [Received<'m, BorrowedHeaders>],
    batch: &'m [BorrowedMessage<'_>],
) -> impl Iterator<Item = (&'m Received<'m, BorrowedHeaders>, Message<'m>)> {
    carriers.iter().zip(batch.iter().map(facts))
}

#[cfg(test)]
mod tests;
