//! NATS by `async-nats`: core, and JetStream in [`jetstream`].
//!
//! ```no_run
//! use async_nats::HeaderMap;
//! use spanprof_messaging::{Instrumentation, System, clients::nats};
//!
//! # async fn run(mut subscriber: impl AsyncIterator) -> Result<(), Box<dyn std::error::Error>> {
//! let client = async_nats::connect("127.0.0.1:4222").await?;
//! let instrumentation = Instrumentation::new(System::Nats);
//!
//! let orders = instrumentation.producer("orders");
//! nats::publish(&orders, &client, "orders", HeaderMap::new(), "7 tins").await?;
//!
//! let orders = instrumentation.consumer("orders", "billing"); // the queue group
//! # let message = subscriber.next().await.ok_or("the subscription has ended")?;
//! // … of `client.queue_subscribe("orders", "billing")`, whose messages are a stream …
//! let process = nats::process(&orders, &message);
//! process.enter(|| { /* the work */ });
//! process.done();
//! # Ok(())
//! # }
//! # trait AsyncIterator { async fn next(&mut self) -> Option<async_nats::Message>; }
//! ```
//!
//! # What is true of the client
//!
//! * Core's `publish` returns when the client has the message. A send span says that, and not that a server has it;
//!   that of JetStream waits for the server's answer.
//! * Names of headers are compared exactly. What a Go program wrote as `Traceparent` is found too.

use std::fmt::{Debug, Display};

use async_nats::{Client, HeaderMap, PublishError};

use crate::carrier::{Carrier, CarrierMut};
use crate::{Consumer, Message, MessageSpan, Producer};

/// The headers of a message that came, which may have none; the first value of a name counts.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a>(pub Option<&'a HeaderMap>);

impl Carrier for Received<'_> {
    fn value(&self, key: &str) -> Option<&[u8]> {
        first(self.0?, key)
    }
}

/// The headers of a message that goes out.
#[derive(Debug)]
pub struct Outgoing<'a>(pub &'a mut HeaderMap);

impl Carrier for Outgoing<'_> {
    fn value(&self, key: &str) -> Option<&[u8]> {
        first(self.0, key)
    }
}

impl CarrierMut for Outgoing<'_> {
    fn set_value(&mut self, key: &str, value: &str) {
        self.remove_value(key);
        self.0.insert(key, value);
    }

    fn remove_value(&mut self, key: &str) {
        let is_it = |name: &str| name.eq_ignore_ascii_case(key);
        if !self.0.iter().any(|(name, _)| is_it(name.as_ref())) {
            return;
        }
        // The client's type has no way to remove a name.
        let mut kept = HeaderMap::new();
        for (name, values) in self.0.iter().filter(|(name, _)| !is_it((*name).as_ref())) {
            for value in values {
                kept.append(name.clone(), value.clone());
            }
        }
        *self.0 = kept;
    }
}

fn first<'a>(headers: &'a HeaderMap, key: &str) -> Option<&'a [u8]> {
    let named = |is_it: &dyn Fn(&str) -> bool| headers.iter().find(|(name, _)| is_it((*name).as_ref()));
    let (_, values) = named(&|name| name == key).or_else(|| named(&|name| name.eq_ignore_ascii_case(key)))?;
    values.first().map(AsRef::as_ref)
}

/// Ends a span by what the client gave: its kind of error is the error's type.
fn end<T, K>(
    span: MessageSpan,
    result: Result<T, async_nats::error::Error<K>>,
) -> Result<T, async_nats::error::Error<K>>
where
    K: Clone + Debug + Display + PartialEq,
{
    match &result {
        Ok(_) => span.done(),
        Err(error) => span.failed(format!("{:?}", error.kind()), error),
    }
    result
}

/// What a message says of itself.
pub fn facts(message: &async_nats::Message) -> Message<'_> {
    Message::new().destination(message.subject.as_str()).body_size(message.payload.len())
}

/// Publishes within a send span, whose context goes along in the headers.
///
/// # Errors
/// The client's own.
pub async fn publish(
    producer: &Producer,
    client: &Client,
    subject: &str,
    mut headers: HeaderMap,
    payload: impl Into<Vec<u8>>,
) -> Result<(), PublishError> {
    let payload = payload.into();
    let span = publishing(producer, subject, payload.len(), &mut headers);
    end(span, client.publish_with_headers(subject.to_owned(), headers, payload.into()).await)
}

/// Begins to publish, and puts the span's context into the headers: for calls that are not here, such as requests.
pub fn publishing(
    producer: &Producer,
    subject: &str,
    body_size: usize,
    headers: &mut HeaderMap,
) -> MessageSpan {
    producer.send(&mut Outgoing(headers), &Message::new().destination(subject).body_size(body_size))
}

/// Begins to process a message of a subscription.
pub fn process(consumer: &Consumer, message: &async_nats::Message) -> MessageSpan {
    consumer.process(&Received(message.headers.as_ref()), &facts(message))
}

/// JetStream, where messages are stored and acknowledged.
pub mod jetstream {
    use async_nats::HeaderMap;
    use async_nats::jetstream::context::{PublishError, PublishErrorKind};
    use async_nats::jetstream::publish::PublishAck;
    use async_nats::jetstream::{AckKind, Context, Message as Stored};
    use opentelemetry::trace::FutureExt;

    use super::{Received, end, publishing};
    use crate::{Consumer, Message, MessageSpan, Producer, Settlement};

    /// What a message says of itself and of its delivery: the sequence number, the attempt, and when it was stored.
    pub fn facts(message: &Stored) -> Message<'_> {
        let facts = super::facts(&message.message);
        let Ok(info) = message.info() else { return facts };
        let facts = facts
            .offset(i64::try_from(info.stream_sequence).unwrap_or(i64::MAX))
            .stored(info.published.into());
        match u32::try_from(info.delivered) {
            Ok(attempt) => facts.attempt(attempt),
            Err(_) => facts,
        }
    }

    /// Publishes within a send span, and waits until the server has stored the message.
    ///
    /// # Errors
    /// The client's own, of the sending or of the server's answer.
    pub async fn publish(
        producer: &Producer,
        context: &Context,
        subject: &str,
        mut headers: HeaderMap,
        payload: impl Into<Vec<u8>>,
    ) -> Result<PublishAck, PublishError> {
        let payload = payload.into();
        let span = publishing(producer, subject, payload.len(), &mut headers);
        let within = span.context().clone();
        let sent =
            async { context.publish_with_headers(subject.to_owned(), headers, payload.into()).await?.await };
        match sent.with_context(within).await {
            Ok(stored) => {
                span.offset(i64::try_from(stored.sequence).unwrap_or(i64::MAX)).done();
                Ok(stored)
            }
            Err(error) => end::<_, PublishErrorKind>(span, Err(error)),
        }
    }

    /// Begins to process a message, of a pull or a push consumer.
    pub fn process(consumer: &Consumer, message: &Stored) -> MessageSpan {
        consumer.process(&Received(message.message.headers.as_ref()), &facts(message))
    }

    /// Tells the server what became of a message, within a settle span; does not wait for its answer, as the client's
    /// `ack_with`.
    ///
    /// # Errors
    /// The client's own.
    pub async fn settle(
        consumer: &Consumer,
        message: &Stored,
        kind: AckKind,
    ) -> Result<(), async_nats::Error> {
        let settlement = match kind {
            AckKind::Ack | AckKind::Next => Settlement::Acknowledge,
            AckKind::Nak(_) => Settlement::Reject,
            AckKind::Progress => Settlement::Extend,
            AckKind::Term => Settlement::Other("term"),
        };
        let span = consumer.settle(settlement, &Received(message.message.headers.as_ref()), &facts(message));
        let settled = message.ack_with(kind).with_context(span.context().clone()).await;
        match &settled {
            Ok(()) => span.done(),
            Err(error) => span.failed("ClientError", error),
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_of_a_header_counts_and_capitals_are_found() {
        let mut headers = HeaderMap::new();
        headers.append("Traceparent", "a");
        headers.append("Traceparent", "b");
        headers.insert("other", "kept");
        assert_eq!(Received(Some(&headers)).value("traceparent"), Some(&b"a"[..]));
        Outgoing(&mut headers).set_value("traceparent", "c");
        assert_eq!(headers.len(), 2);
        assert_eq!(Outgoing(&mut headers).value("traceparent"), Some(&b"c"[..]));
        assert_eq!(Outgoing(&mut headers).value("other"), Some(&b"kept"[..]));
        assert_eq!(Received(Some(&headers)).value(""), None);
        assert_eq!(Received(None).value("traceparent"), None);
    }
}
