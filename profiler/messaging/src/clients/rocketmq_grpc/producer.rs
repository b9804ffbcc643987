//! Who sends.

use opentelemetry::trace::FutureExt;
use rocketmq::Producer as ClientProducer;
use rocketmq::error::ClientError;
use rocketmq::model::common::SendReceipt;
use rocketmq::model::message::Message as ClientMessage;
use rocketmq::model::transaction::Transaction;

use super::error::end;
use super::outgoing::Outgoing;
use crate::{Destination, Instrumentation};

/// Sends to one topic by the client's producer, within spans. Make it once.
#[derive(Clone, Debug)]
pub struct Producer(crate::Producer);

impl Producer {
    /// Who sends to a topic.
    #[must_use]
    pub fn new(instrumentation: &Instrumentation, topic: impl Into<Destination>) -> Self {
        Self(instrumentation.producer(topic))
    }

    /// As the client's `send`: the message carries the context of the send span.
    ///
    /// # Errors
    /// The client's own.
    pub async fn send(
        &self,
        client: &ClientProducer,
        message: impl ClientMessage,
    ) -> Result<SendReceipt, ClientError> {
        let mut message = Outgoing::new(message);
        let span = message.begin_to_send(&self.0);
        let sent = client.send(message).with_context(span.context().clone()).await;
        end(span, sent)
    }

    /// As the client's `batch_send`: each message carries a context of its own, of its create span.
    ///
    /// The Java proxy (5.5) answers with one receipt for all of them, which has the ids of all.
    ///
    /// # Errors
    /// The client's own.
    pub async fn batch_send(
        &self,
        client: &ClientProducer,
        messages: Vec<impl ClientMessage>,
    ) -> Result<Vec<SendReceipt>, ClientError> {
        let mut messages: Vec<_> = messages.into_iter().map(Outgoing::new).collect();
        let mut batch = self.0.batch();
        for message in &mut messages {
            message.join(&mut batch);
        }
        let span = batch.send();
        let sent = client.batch_send(messages).with_context(span.context().clone()).await;
        end(span, sent)
    }

    /// As the client's `send_transaction_message`. The span tells of the sending alone; whether the transaction commits
    /// is up to the caller.
    ///
    /// # Errors
    /// The client's own.
    pub async fn send_transaction_message(
        &self,
        client: &ClientProducer,
        message: impl ClientMessage,
    ) -> Result<impl Transaction, ClientError> {
        let mut message = Outgoing::new(message);
        let span = message.begin_to_send(&self.0);
        let sent = client.send_transaction_message(message).with_context(span.context().clone()).await;
        end(span, sent)
    }
}
