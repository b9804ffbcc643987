//! Asking for messages: a span if some came or the asking failed, nothing if none came.

use std::borrow::Cow;
use std::time::{Instant, SystemTime};

use opentelemetry::trace::Link;

use crate::TraceContext;
use crate::carrier::Carrier;
use crate::consumer::Consumer;
use crate::message::Message;
use crate::producer::{count, rename};
use crate::received::Received;
use crate::span::Start;

/// A poll, receive, pop or pull that is going on. Made by [`Consumer::poll`].
///
/// Say what came: [`one`](Self::one) or [`many`](Self::many), by which API it is and not by how many came; or
/// [`failed`](Self::failed). What came to nothing, and what is dropped, leaves no span and no metric: consumers would drown in
/// them, and a long poll's time is nobody's work.
///
/// ```
/// # use std::collections::HashMap;
/// use spanprof_messaging::{Instrumentation, Message, System};
/// # fn receive() -> Result<Vec<HashMap<String, String>>, (i32, String)> { Ok(vec![]) }
/// let consumer = Instrumentation::new(System::RocketMq).consumer("orders", "billing");
/// let poll = consumer.poll();
/// match receive() {
///     Ok(messages) => poll.many(messages.iter().map(|message| (message, Message::new()))),
///     Err((code, text)) => match spanprof_messaging::rocketmq::answers::grpc_error(code) {
///         Some(error) => poll.failed(error, text),
///         None => poll.empty(),
///     },
/// }
/// ```
#[must_use = "without a word of what came, there is no span"]
#[derive(Debug)]
pub struct Poll<'a> {
    consumer: &'a Consumer,
    since: (SystemTime, Instant),
}

impl<'a> Poll<'a> {
    pub(crate) fn begin(consumer: &'a Consumer) -> Self {
        Self { consumer, since: (SystemTime::now(), Instant::now()) }
    }

    /// Nothing came.
    pub fn empty(self) {}

    /// One message came, by an API that gives one at a time.
    pub fn one<C: Carrier + ?Sized>(self, carrier: &C, message: &Message<'_>) {
        let mut start = self.start();
        start.attributes.extend(message.attributes(self.consumer.instrumentation.system));
        rename(&mut start.attributes, message);
        let created = TraceContext::extract(carrier).map(|context| context.to_opentelemetry());
        start.links.extend(created.map(Link::with_context));
        self.end(start, std::iter::once(message), 1);
    }

    /// Messages came, by an API that gives several at a time; none at all is an empty poll.
    pub fn many<'m, C: Carrier + ?Sized + 'm>(
        self,
        messages: impl IntoIterator<Item = (&'m C, Message<'m>)>,
    ) {
        let received = Received::of(messages, self.consumer.instrumentation.system);
        if received.count() == 0 {
            return;
        }
        let mut start = self.start();
        received.describe(&mut start);
        self.end(start, received.messages(), received.count());
    }

    /// The broker or the client answered with an error. Codes of an empty poll are none.
    pub fn failed(self, error_type: impl Into<Cow<'static, str>>, description: impl ToString) {
        self.start().start(&self.consumer.instrumentation).failed(error_type, description);
    }

    fn start(&self) -> Start<'a> {
        let mut start = Start::of(&self.consumer.receive);
        start.since = Some(self.since);
        start
    }

    #[cfg_attr(not(feature = "metrics"), allow(unused_variables))]
    fn end<'m>(&self, start: Start<'_>, messages: impl Iterator<Item = &'m Message<'m>>, number: u64) {
        #[cfg(feature = "metrics")]
        for message in messages {
            self.consumer.instrumentation.instruments.queued(&self.consumer.receive, message);
        }
        count(start.start(&self.consumer.instrumentation), number).done();
    }
}
