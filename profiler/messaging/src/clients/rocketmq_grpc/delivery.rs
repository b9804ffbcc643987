//! Messages that have come.

use std::ops::Deref;
use std::time::Instant;

use rocketmq::model::message::MessageView;

use super::time;
use crate::Message;
use crate::carrier::Carrier;

/// A message that has come, and when it came into this process. Everything of the client's own type is at hand.
#[derive(Debug)]
pub struct Delivery {
    pub(super) view: MessageView,
    pub(super) received: Instant,
}

impl Delivery {
    /// The client's own type.
    #[must_use]
    pub fn into_view(self) -> MessageView {
        self.view
    }

    /// What spans tell of it.
    #[must_use]
    pub fn facts(&self) -> Message<'_> {
        facts(&self.view).received(self.received)
    }
}

impl Deref for Delivery {
    type Target = MessageView;

    fn deref(&self) -> &MessageView {
        &self.view
    }
}

impl Carrier for Delivery {
    fn value(&self, key: &str) -> Option<&[u8]> {
        self.view.properties().value(key)
    }
}

/// What spans tell of a message as the client has it.
#[must_use]
pub fn facts(view: &MessageView) -> Message<'_> {
    let mut message = Message::new()
        .id(view.message_id())
        .destination(view.topic())
        .body_size(view.body().len())
        .keys(view.keys().iter().map(String::as_str));
    if let Some(tag) = view.tag() {
        message = message.tag(tag);
    }
    // The client has 0 where the proxy says nothing, as to transactions' checkers.
    if let Some(attempt) = u32::try_from(view.delivery_attempt()).ok().filter(|attempt| *attempt > 0) {
        message = message.attempt(attempt);
    }
    if let Some(delivery) = view.delivery_timestamp() {
        message = message.delivery(time(delivery));
    }
    if let Some(group) = view.message_group() {
        message = message.group(group);
    }
    message
}
