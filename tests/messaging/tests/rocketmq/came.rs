//! Numbered messages that came, and what is to hold of their spans.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

use opentelemetry_sdk::trace::SpanData;
use spanprof_context::Key;
use spanprof_context::thread::capture;
use spanprof_messaging::conventions::{attribute as key, own_attribute};
use spanprof_messaging::{Carrier, Operation, TraceContext};
use spanprof_messaging_tests::{Ids, Spans, attribute, ids, links, parent};
use tokio::sync::Notify;

/// What came of a topic, whose name is its group's too.
pub(crate) struct Came {
    name: String,
    wanted: u32,
    /// The contexts that a message came with, once for each time.
    contexts: Mutex<HashMap<u32, Vec<Ids>>>,
    /// Handlers whose thread did not say what it worked on.
    untagged: AtomicU32,
    all: Notify,
}

impl Came {
    pub(crate) fn new(name: &str, wanted: u32) -> Self {
        let name = name.to_owned();
        Self { name, wanted, contexts: Mutex::default(), untagged: AtomicU32::new(0), all: Notify::new() }
    }

    /// What a handler does with a message.
    pub(crate) fn note(&self, body: &[u8], carrier: &(impl Carrier + ?Sized)) {
        let number = u32::from_be_bytes(body.try_into().expect("the body is a number"));
        let sender =
            TraceContext::extract(carrier).expect("the message carries a context").to_opentelemetry();
        let is_tagged = capture().is_some_and(|(published, attributes)| {
            // The sender's trace, for it is a child of it.
            published.trace_id.0 == sender.trace_id().to_bytes()
                && attributes.get(Key::MessagingDestinationName) == Some(&self.name)
                && attributes.get(Key::MessagingConsumerGroupName) == Some(&self.name)
                && attributes.get(Key::MessagingOperationName) == Some("process")
        });
        if !is_tagged {
            self.untagged.fetch_add(1, Ordering::Relaxed);
        }
        self.contexts().entry(number).or_default().push((sender.trace_id(), sender.span_id()));
        if self.is_complete() {
            self.all.notify_waiters();
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.contexts().len() == self.wanted as usize
    }

    /// Returns when all have come.
    pub(crate) async fn complete(&self) {
        let all = self.all.notified();
        tokio::pin!(all);
        all.as_mut().enable();
        if !self.is_complete() {
            all.await;
        }
    }

    fn contexts(&self) -> MutexGuard<'_, HashMap<u32, Vec<Ids>>> {
        self.contexts.lock().expect("no handler panics")
    }

    /// All came once, and each process span is a child of the span that sent its message.
    pub(crate) fn each_once_in_its_senders_trace(&self, spans: &Spans) {
        let contexts = self.contexts();
        assert_eq!(contexts.len(), self.wanted as usize);
        let doubled: Vec<_> = contexts.iter().filter(|(_, times)| times.len() != 1).collect();
        assert!(doubled.is_empty(), "{doubled:?}");
        assert_eq!(self.untagged.load(Ordering::Relaxed), 0, "each handler's thread says what it works on");

        let message =
            |span: &SpanData| attribute(span, key::MESSAGE_ID).expect("it says its message").into_owned();
        let sent: HashMap<_, _> =
            spans.of(Operation::Send).iter().map(|span| (message(span), ids(span))).collect();
        assert_eq!(sent.len(), contexts.len(), "a send span for each message");
        let processed = spans.of(Operation::Process);
        assert_eq!(processed.len(), contexts.len(), "a process span for each message");
        for span in &processed {
            // By the message's id, which no context has a part in.
            let sender = sent[&message(span)];
            assert_eq!(links(span), [sender], "{span:?}");
            assert_eq!(parent(span), sender, "{span:?}");
            assert_eq!(attribute(span, own_attribute::DELIVERY_ATTEMPT).as_deref(), Some("1"), "{span:?}");
            assert_eq!(attribute(span, key::ERROR_TYPE), None, "{span:?}");
        }
        let mut in_messages: Vec<_> = contexts.values().flatten().copied().collect();
        let mut of_spans: Vec<_> = sent.into_values().collect();
        in_messages.sort_by_key(|ids| ids.1.to_bytes());
        of_spans.sort_by_key(|ids| ids.1.to_bytes());
        assert_eq!(in_messages, of_spans, "messages carry what the spans are");
    }
}

/// Each message was in one poll that found something; no other poll has a span.
pub(crate) fn each_was_received(spans: &Spans, number: u32) {
    let received: Vec<_> = spans.of(Operation::Receive).iter().map(|span| links(span).len()).collect();
    assert!(received.iter().all(|messages| *messages > 0), "no span of an empty poll");
    assert_eq!(received.iter().sum::<usize>(), number as usize);
}
