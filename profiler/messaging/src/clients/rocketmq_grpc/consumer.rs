//! Who receives, processes and acknowledges.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use opentelemetry::trace::FutureExt;
use rocketmq::SimpleConsumer;
use rocketmq::error::ClientError;
use rocketmq::model::common::FilterExpression;

use super::delivery::{Delivery, facts};
use super::error::{Unsettled, end, error_type};
use crate::{Destination, Instrumentation, Message, MessageSpan, Settlement};

/// Receives from one topic by the client's simple consumer, within spans. Make it once.
#[derive(Clone, Debug)]
pub struct Consumer {
    consumer: crate::Consumer,
    topic: String,
    last_attempt: Option<u32>,
    dead_letters_of: Option<String>,
}

impl Consumer {
    /// Who receives from a topic, as one of a group.
    #[must_use]
    pub fn new(instrumentation: &Instrumentation, topic: impl Into<Destination>, group: &str) -> Self {
        let topic = topic.into();
        let name = topic.name.clone().into_owned();
        let consumer = instrumentation.consumer(topic, group);
        Self { consumer, topic: name, last_attempt: None, dead_letters_of: None }
    }

    /// After how many deliveries the broker gives up: the group's retries and one. With it, a failed last delivery is
    /// told as one that goes to the dead-letter queue and not as one that comes again. The client doesn't know.
    #[must_use]
    pub fn last_attempt(mut self, attempt: u32) -> Self {
        self.last_attempt = Some(attempt);
        self
    }

    /// The topic that the messages were sent to at first, for a consumer of a dead-letter topic (`%DLQ%` and the
    /// group). The client hides what the proxy tells of it.
    #[must_use]
    pub fn dead_letters_of(mut self, topic: impl Into<String>) -> Self {
        self.dead_letters_of = Some(topic.into());
        self
    }

    /// As the client's `receive`: at most 32 messages, invisible to others for 15 s.
    ///
    /// # Errors
    /// The client's own. That nothing came is none.
    pub async fn receive(
        &self,
        client: &SimpleConsumer,
        filter: &FilterExpression,
    ) -> Result<Vec<Delivery>, ClientError> {
        self.receive_with(client, filter, 32, Duration::from_secs(15)).await
    }

    /// As the client's `receive_with`. There is a span if something came.
    ///
    /// # Errors
    /// The client's own. That nothing came is none.
    pub async fn receive_with(
        &self,
        client: &SimpleConsumer,
        filter: &FilterExpression,
        most: i32,
        invisible: Duration,
    ) -> Result<Vec<Delivery>, ClientError> {
        let poll = self.consumer.poll();
        match client.receive_with(&self.topic, filter, most, invisible).await {
            Ok(views) => {
                poll.many(views.iter().map(|view| (view.properties(), facts(view))));
                let received = Instant::now();
                Ok(views.into_iter().map(|view| Delivery { view, received }).collect())
            }
            Err(error) => {
                poll.failed(error_type(&error), &error);
                Err(error)
            }
        }
    }

    /// Begins to process a message: see [`crate::Consumer::process`].
    pub fn process(&self, delivery: &Delivery) -> MessageSpan {
        self.consumer.process(delivery, &self.facts(delivery))
    }

    /// Ends the span of a message that was not processed: it comes again, or it was its last attempt.
    pub fn failed(
        &self,
        process: MessageSpan,
        delivery: &Delivery,
        error_type: &'static str,
        description: impl ToString,
    ) {
        let attempt = u32::try_from(delivery.delivery_attempt()).unwrap_or_default();
        match self.last_attempt {
            Some(last) if attempt >= last => process.dead_lettered(error_type, description),
            _ => process.retried(error_type, description),
        }
    }

    /// As the client's `ack`, within a span.
    ///
    /// # Errors
    /// The client's own.
    pub async fn ack(&self, client: &SimpleConsumer, delivery: &Delivery) -> Result<(), ClientError> {
        let span = self.consumer.settle(Settlement::Acknowledge, delivery, &self.facts(delivery));
        let acknowledged = client.ack(&delivery.view).with_context(span.context().clone()).await;
        end(span, acknowledged)
    }

    /// Processes a message within a span and, if its handler succeeds, acknowledges it; within the span too, so that
    /// both are one trace. If it fails, the message comes again when its invisible time is over.
    ///
    /// # Errors
    /// The handler's, or the client's from the acknowledgement; after either, the message comes again.
    pub async fn handle<E: fmt::Display>(
        &self,
        client: &SimpleConsumer,
        delivery: &Delivery,
        handler: impl Future<Output = Result<(), E>>,
    ) -> Result<(), Unsettled<E>> {
        let process = self.process(delivery);
        if let Err(error) = handler.with_context(process.context().clone()).await {
            self.failed(process, delivery, std::any::type_name::<E>(), &error);
            return Err(Unsettled::Handler(error));
        }
        let context = process.context().clone();
        // The work is done, whatever becomes of the acknowledgement.
        process.done();
        self.ack(client, delivery).with_context(context).await.map_err(Unsettled::Acknowledgement)
    }

    fn facts<'a>(&'a self, delivery: &'a Delivery) -> Message<'a> {
        match &self.dead_letters_of {
            Some(topic) => delivery.facts().dead_letter_of(topic),
            None => delivery.facts(),
        }
    }
}
