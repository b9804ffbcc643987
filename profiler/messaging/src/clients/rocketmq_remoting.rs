//! RocketMQ over the remoting protocol: the community's client, the crate `rocketmq-client-rust` 1.0.
//!
//! The client has hooks, but none that serve: one before a send sees a message that it can't write into, and one before
//! a message is processed is called on another thread than the listener. So sends are made here, and the listener is
//! wrapped.
//!
//! ```no_run
//! use rocketmq_client_rust::{
//!     ClientResult, ConsumeConcurrentlyContext, ConsumeConcurrentlyStatus, DefaultMQProducer, DefaultMQPushConsumer,
//!     MQPushConsumer,
//! };
//! use rocketmq_model::common::message::message_ext::MessageExt;
//! use rocketmq_model::common::message::message_single::Message;
//! use spanprof_messaging::clients::rocketmq_remoting::{Listener, send};
//! use spanprof_messaging::{Instrumentation, System};
//!
//! fn bill(_: &[&MessageExt], _: &ConsumeConcurrentlyContext) -> ClientResult<ConsumeConcurrentlyStatus> {
//!     Ok(ConsumeConcurrentlyStatus::ConsumeSuccess)
//! }
//!
//! # async fn run(producer: DefaultMQProducer, mut consumer: DefaultMQPushConsumer) -> ClientResult<()> {
//! let rocketmq = Instrumentation::new(System::RocketMq);
//! let orders = rocketmq.producer("orders");
//! let message = Message::builder().topic("orders").body_slice(b"7 tins").build_unchecked();
//! send(&orders, &producer, message).await?; // instead of producer.send(message)
//!
//! let orders = rocketmq.consumer("orders", "billing");
//! consumer.subscribe("orders", "*").await?;
//! consumer.register_message_listener_concurrently(Listener::new(&orders, bill)); // instead of bill
//! consumer.start().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What to know of the client
//!
//! - Its futures nest deeply: a program that uses it says `#![recursion_limit = "512"]`.
//! - It needs a `RuntimeOwner` of its crate `rocketmq-runtime`, whose threads all have one name, workers and listeners
//!   alike.
//! - **Give its listeners room.** They run in that runtime's lane `metadata_io`, by default twice as many at once as
//!   there are CPUs; others wait for 5 s, in a queue that the client's own 20 consuming tasks fill on two CPUs. A
//!   message that finds no place there is sent back without its listener having been called: it is no process span, and
//!   comes again as attempt 2. So it went with 17 and with 49 of 2,000 messages. A listener that takes longer than 30 s
//!   is taken for failed while it works. `examples/rocketmq-remoting` configures the runtime so that neither happens:
//!   none of 100,000 messages came again.
//! - It fetches ahead and doesn't tell when: what spans say of queueing is from the broker's storing to the listener,
//!   with the time in the client's own cache.
//! - It decodes properties into a map, where the last of a key counts. A context on a batch's wrapper, which brokers up
//!   to 5.3.3 append to each message, is then the message's. [`send_batch`] puts none there.

mod listener;
mod pull;
mod sending;

pub use listener::Listener;
pub use pull::{commit, poll, process};
pub use sending::{Sent, send, send_batch};

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use rocketmq_client_rust::ClientError;
use rocketmq_model::common::message::message_ext::MessageExt;

use crate::Message;
use crate::conventions::OTHER_ERROR;
use crate::rocketmq::answers::remoting_error;

/// How topics of dead letters begin; the group follows.
const DEAD_LETTERS: &str = "%DLQ%";

/// What a received message says of itself.
///
/// One that is delivered again stands in another queue, that of the group's retries: where is not told of it, as its
/// topic is the first one's.
#[must_use]
pub fn facts(message: &MessageExt) -> Message<'_> {
    let property = |key: &str| message.properties().get(key).map(|value| value.as_str());
    let attempt = u32::try_from(message.reconsume_times()).unwrap_or_default().saturating_add(1);
    let stored = Duration::from_millis(u64::try_from(message.store_timestamp()).unwrap_or_default());
    let mut facts = Message::new()
        // The id that the producer knows. The other one tells where the broker stored it.
        .id(property("UNIQ_KEY").unwrap_or(message.msg_id()))
        .destination(message.topic())
        .body_size(message.message_inner().body_slice().len())
        .keys(property("KEYS").into_iter().flat_map(str::split_whitespace))
        .attempt(attempt);
    if attempt == 1 {
        facts = facts.partition(message.queue_id()).offset(message.queue_offset());
    }
    if let Some(stored) = SystemTime::UNIX_EPOCH.checked_add(stored).filter(|_| !stored.is_zero()) {
        facts = facts.stored(stored);
    }
    if let Some(tag) = property("TAGS") {
        facts = facts.tag(tag);
    }
    if let Some(group) = property("__SHARDINGKEY") {
        facts = facts.group(group);
    }
    if message.topic().starts_with(DEAD_LETTERS)
        && let Some(topic) = property("DLQ_ORIGIN_TOPIC").or_else(|| property("RETRY_TOPIC"))
    {
        facts = facts.dead_letter_of(topic);
    }
    facts
}

/// The word for `error.type`: the protocol's name for a broker's answer, the client's code for an error of its own.
#[must_use]
pub fn error_type(error: &ClientError) -> Cow<'static, str> {
    match error.broker_response_code() {
        Some(code) => remoting_error(code).unwrap_or(OTHER_ERROR).into(),
        None => error.descriptor().code().to_string().into(),
    }
}
