//! Polls, and what follows them.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::FutureExt;
use rocketmq_client_rust::{ClientResult, DefaultLitePullConsumer};
use rocketmq_model::common::message::message_ext::MessageExt;

use super::{error_type, facts};
use crate::conventions::Settlement;
use crate::{Consumer, MessageSpan};

/// As the client's `poll_with_timeout_zero_copy`: one receive span, which links to all messages; nothing if none came.
///
/// The client fetches ahead, and tells no errors of it.
pub async fn poll(
    consumer: &Consumer,
    client: &DefaultLitePullConsumer,
    timeout: Duration,
) -> Vec<Arc<MessageExt>> {
    let poll = consumer.poll();
    let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let messages = client.poll_with_timeout_zero_copy(milliseconds).await;
    poll.many(messages.iter().map(|message| (message.properties(), facts(message))));
    messages
}

/// Begins to process one message.
pub fn process(consumer: &Consumer, message: &MessageExt) -> MessageSpan {
    consumer.process(message.properties(), &facts(message))
}

/// As the client's `commit_all`, after `batch` was processed: a settle span, which links to its messages.
///
/// Needed where the client's automatic commit is off. That one commits with each poll what the polls before it gave.
///
/// # Errors
/// The client's own.
pub async fn commit(
    consumer: &Consumer,
    client: &DefaultLitePullConsumer,
    batch: &[Arc<MessageExt>],
) -> ClientResult<()> {
    let messages = batch.iter().map(|message| (message.properties(), facts(message)));
    let span = consumer.settle_batch(Settlement::Acknowledge, messages);
    let committed = client.commit_all().with_context(span.context().clone()).await;
    match &committed {
        Ok(()) => span.done(),
        Err(error) => span.failed(error_type(error), error),
    }
    committed
}
