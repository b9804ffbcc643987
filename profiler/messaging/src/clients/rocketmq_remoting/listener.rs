//! Listeners of push consumers.

use std::borrow::Cow;

use rocketmq_client_rust::{
    ClientResult, ConsumeConcurrentlyContext, ConsumeConcurrentlyStatus, ConsumeOrderlyContext,
    ConsumeOrderlyStatus, MessageListenerConcurrently, MessageListenerOrderly,
};
use rocketmq_model::common::message::message_ext::MessageExt;

use super::{error_type, facts, process};
use crate::{Consumer, MessageSpan};

/// A listener of the client's, called within a process span: on its own thread, so that the thread's record says what
/// it works on. It is a listener of the same kind itself.
///
/// The client calls it with one message, unless its `consume_message_batch_max_size` says more: then there is one span
/// for all of them, which links to each.
#[derive(Clone, Debug)]
pub struct Listener<L> {
    consumer: Consumer,
    listener: L,
    last_attempt: Option<u32>,
}

impl<L> Listener<L> {
    /// Wraps a listener.
    pub fn new(consumer: &Consumer, listener: L) -> Self {
        Self { consumer: consumer.clone(), listener, last_attempt: None }
    }

    /// After how many deliveries the broker gives up: the group's retries and one, 17 unless it was configured. With
    /// it, a failed last delivery is told as one that goes to the dead-letter queue and not as one that comes again.
    #[must_use]
    pub fn last_attempt(mut self, attempt: u32) -> Self {
        self.last_attempt = Some(attempt);
        self
    }

    fn begin(&self, messages: &[&MessageExt]) -> MessageSpan {
        match messages {
            [message] => process(&self.consumer, message),
            batch => self
                .consumer
                .process_batch(batch.iter().map(|message| (message.properties(), facts(message)))),
        }
    }

    fn failed(
        &self,
        span: MessageSpan,
        messages: &[&MessageExt],
        error_type: Cow<'static, str>,
        description: impl ToString,
    ) {
        let is_last = |last: u32| {
            messages.iter().all(|message| i64::from(message.reconsume_times()) + 1 >= i64::from(last))
        };
        if self.last_attempt.is_some_and(is_last) {
            span.dead_lettered(error_type, description);
        } else {
            span.retried(error_type, description);
        }
    }
}

impl<L: MessageListenerConcurrently> MessageListenerConcurrently for Listener<L> {
    fn consume_message(
        &self,
        messages: &[&MessageExt],
        context: &ConsumeConcurrentlyContext,
    ) -> ClientResult<ConsumeConcurrentlyStatus> {
        let span = self.begin(messages);
        let result = span.enter(|| self.listener.consume_message(messages, context));
        match &result {
            Ok(ConsumeConcurrentlyStatus::ConsumeSuccess) => span.done(),
            Ok(later) => self.failed(span, messages, later.to_string().into(), ""),
            Err(error) => self.failed(span, messages, error_type(error), error),
        }
        result
    }
}

impl<L: MessageListenerOrderly> MessageListenerOrderly for Listener<L> {
    fn consume_message(
        &self,
        messages: &[&MessageExt],
        context: &mut ConsumeOrderlyContext,
    ) -> ClientResult<ConsumeOrderlyStatus> {
        let span = self.begin(messages);
        let result = span.enter(|| self.listener.consume_message(messages, context));
        #[allow(deprecated)] // The client still takes these.
        match &result {
            Ok(ConsumeOrderlyStatus::Success | ConsumeOrderlyStatus::Commit) => span.done(),
            Ok(later) => self.failed(span, messages, later.to_string().into(), ""),
            Err(error) => self.failed(span, messages, error_type(error), error),
        }
        result
    }
}
