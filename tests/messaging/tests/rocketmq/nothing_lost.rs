//! Many messages with spans and tags on: none lost or doubled, and each span that processes one linked to the one that
//! sent it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_sdk::trace::SpanData;
use spanprof_brokers::{RocketMq, TopicKind, require};
use spanprof_context::Key;
use spanprof_context::thread::capture;
use spanprof_messaging::clients::rocketmq_grpc::{Consumer, Delivery, Producer};
use spanprof_messaging::conventions::{attribute as key, own_attribute};
use spanprof_messaging::{Instrumentation, Operation, System, TraceContext};
use spanprof_messaging_tests::{Ids, Spans, attribute, ids, links, parent};
use tokio::sync::Notify;

use crate::clients;

/// What came, and how often.
#[derive(Default)]
struct Came {
    numbers: Mutex<HashMap<u32, Vec<Ids>>>,
    /// Handlers whose thread did not say what it worked on.
    untagged: AtomicU32,
    all: Notify,
}

#[test]
fn thousands_of_messages_keep_their_trace() {
    messages_keep_their_trace("thousands_of_messages_keep_their_trace", 2_000);
}

#[test]
#[ignore = "takes minutes"]
fn a_hundred_thousand_messages_keep_their_trace() {
    messages_keep_their_trace("a_hundred_thousand_messages_keep_their_trace", 100_000);
}

fn messages_keep_their_trace(test: &str, number: u32) {
    let Some(broker) = require(test, RocketMq::shared()) else { return };
    let name = format!("kept-{number}");
    broker.topic(&name, TopicKind::Normal, 4).expect("the topic is made");
    broker.group(&name, 3).expect("the group is made");
    let agent = spanprof::Agent::builder().service_name("test").start().expect("nothing wrong is set");
    assert!(agent.notes().is_empty(), "{:?}", agent.notes());
    let spans = Spans::new();
    let rocketmq = spans.instrumentation(System::RocketMq).with_attributes(spanprof::with_attributes);
    let came = Arc::new(Came::default());

    clients::run(async {
        let senders =
            (0..4).map(|part| tokio::spawn(send(broker, rocketmq.clone(), name.clone(), part, number)));
        let senders: Vec<_> = senders.collect();
        let receivers = (0..2).map(|_| {
            tokio::spawn(receive(broker, rocketmq.clone(), name.clone(), Arc::clone(&came), number))
        });
        let receivers: Vec<_> = receivers.collect();
        for task in senders.into_iter().chain(receivers) {
            task.await.expect("no client fails");
        }
    });

    let came = Arc::into_inner(came).expect("all tasks have ended");
    let numbers = came.numbers.into_inner().expect("no handler panics");
    assert_eq!(numbers.len(), number as usize);
    let doubled: Vec<_> = numbers.iter().filter(|(_, times)| times.len() != 1).collect();
    assert!(doubled.is_empty(), "{doubled:?}");
    assert_eq!(came.untagged.into_inner(), 0, "each handler's thread says what it works on");
    each_process_span_belongs_to_its_send_span(&spans, numbers);
}

/// One of four, each with a quarter of the numbers.
async fn send(broker: &RocketMq, rocketmq: Instrumentation, topic: String, part: u32, number: u32) {
    let client = clients::producer(broker, &topic).await;
    let producer = Producer::new(&rocketmq, topic.clone());
    for body in (part..number).step_by(4) {
        let message = clients::message(&topic, &body.to_be_bytes());
        producer.send(&client, message).await.expect("the broker takes it");
    }
}

async fn receive(broker: &RocketMq, rocketmq: Instrumentation, topic: String, came: Arc<Came>, number: u32) {
    let client = clients::consumer(broker, &topic, &topic).await;
    let consumer = Consumer::new(&rocketmq, topic.clone(), &topic);
    let filter = clients::all();
    loop {
        let all = came.all.notified();
        tokio::pin!(all);
        all.as_mut().enable();
        if came.numbers.lock().expect("no handler panics").len() == number as usize {
            return;
        }
        // Long enough that no message comes again while this machine is slow.
        let deliveries = tokio::select! {
            deliveries = consumer.receive_with(&client, &filter, 32, Duration::from_secs(300)) => deliveries,
            () = all => return,
        };
        for delivery in deliveries.expect("the broker answers") {
            let handled = consumer.handle(&client, &delivery, note(&delivery, &topic, &came)).await;
            handled.expect("it is acknowledged");
        }
        if came.numbers.lock().expect("no handler panics").len() == number as usize {
            came.all.notify_waiters();
        }
    }
}

/// The handler.
async fn note(delivery: &Delivery, topic: &str, came: &Came) -> Result<(), Infallible> {
    let body = delivery.body().try_into().expect("the body is a number");
    let sender = TraceContext::extract(delivery).expect("the message carries a context").to_opentelemetry();
    let mut numbers = came.numbers.lock().expect("no handler panics");
    numbers.entry(u32::from_be_bytes(body)).or_default().push((sender.trace_id(), sender.span_id()));
    let is_tagged = capture().is_some_and(|(published, attributes)| {
        // The sender's trace, for it is a child of it.
        published.trace_id.0 == sender.trace_id().to_bytes()
            && attributes.get(Key::MessagingDestinationName) == Some(topic)
            && attributes.get(Key::MessagingConsumerGroupName) == Some(topic)
            && attributes.get(Key::MessagingOperationName) == Some("process")
    });
    if !is_tagged {
        came.untagged.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn each_process_span_belongs_to_its_send_span(spans: &Spans, numbers: HashMap<u32, Vec<Ids>>) {
    let message =
        |span: &SpanData| attribute(span, key::MESSAGE_ID).expect("it says its message").into_owned();
    let sent: HashMap<_, _> =
        spans.of(Operation::Send).iter().map(|span| (message(span), ids(span))).collect();
    assert_eq!(sent.len(), numbers.len(), "a send span for each message");
    let processed = spans.of(Operation::Process);
    assert_eq!(processed.len(), numbers.len(), "a process span for each message");
    for span in &processed {
        // By the message's id, which no context has a part in.
        let sender = sent[&message(span)];
        assert_eq!(links(span), [sender], "{span:?}");
        assert_eq!(parent(span), sender, "{span:?}");
        assert_eq!(attribute(span, own_attribute::DELIVERY_ATTEMPT).as_deref(), Some("1"), "{span:?}");
        assert_eq!(attribute(span, key::ERROR_TYPE), None, "{span:?}");
    }
    let mut in_messages: Vec<_> = numbers.into_values().flatten().collect();
    let mut of_spans: Vec<_> = sent.into_values().collect();
    in_messages.sort_by_key(|ids| ids.1.to_bytes());
    of_spans.sort_by_key(|ids| ids.1.to_bytes());
    assert_eq!(in_messages, of_spans, "messages carry what the spans are");

    let settled = spans.of(Operation::Settle);
    assert_eq!(settled.len(), processed.len(), "an acknowledgement for each message");
    let received: Vec<_> = spans.of(Operation::Receive).iter().map(|span| links(span).len()).collect();
    assert!(received.iter().all(|messages| *messages > 0), "no span of an empty poll");
    assert_eq!(received.iter().sum::<usize>(), processed.len());
}
