//! Over the remoting protocol: push listeners, polls, batches, retries.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry_sdk::trace::SpanData;
use rocketmq_client_rust::{
    ClientResult, ClientRuntime, ConsumeConcurrentlyContext, ConsumeConcurrentlyStatus,
    ConsumeOrderlyContext, ConsumeOrderlyStatus, DefaultMQPushConsumer, MQPushConsumer,
    MessageListenerConcurrently,
};
use rocketmq_model::common::message::MessageTrait as _;
use rocketmq_model::common::message::message_ext::MessageExt;
use spanprof_brokers::{RocketMq, TopicKind, require};
use spanprof_messaging::clients::rocketmq_remoting::{Listener, commit, poll, process, send, send_batch};
use spanprof_messaging::conventions::{attribute as key, own_attribute};
use spanprof_messaging::{Instrumentation, Operation, System};
use spanprof_messaging_tests::remoting as clients;
use spanprof_messaging_tests::{Spans, attribute, each, ids, links, parent, some};
use tokio::sync::mpsc;

use crate::came::{Came, each_was_received};

const IN_A_BATCH: usize = 32;

/// How long a poll waits; one that ends with nothing is followed by another.
const POLL: Duration = Duration::from_secs(5);

#[test]
fn a_listener_is_called_within_each_messages_trace() {
    listener_is_called("a_listener_is_called_within_each_messages_trace", 2_000);
}

#[test]
#[ignore = "takes minutes"]
fn a_listener_is_called_a_hundred_thousand_times() {
    listener_is_called("a_listener_is_called_a_hundred_thousand_times", 100_000);
}

fn listener_is_called(test: &str, number: u32) {
    let Some(broker) = require(test, RocketMq::shared()) else { return };
    let name = format!("pushed-{number}");
    broker.topic(&name, TopicKind::Normal, 4).expect("the topic is made");
    broker.group(&name, 3).expect("the group is made");
    let agent = spanprof::Agent::builder().service_name("test").start().expect("nothing wrong is set");
    assert!(agent.notes().is_empty(), "{:?}", agent.notes());
    let spans = Spans::new();
    let rocketmq = spans.instrumentation(System::RocketMq).with_attributes(spanprof::with_attributes);
    let came = Arc::new(Came::new(&name, number));

    clients::run(|runtime| async move {
        let noted = Arc::clone(&came);
        let note = move |messages: &[&MessageExt], _: &ConsumeConcurrentlyContext| {
            for message in messages {
                noted.note(message.message_inner().body_slice(), message.properties());
            }
            Ok(ConsumeConcurrentlyStatus::ConsumeSuccess)
        };
        let listener = Listener::new(&rocketmq.consumer(name.clone(), name.as_str()), note);
        let mut consumer = clients::push_consumer(&runtime, broker.name_server(), &name).build();
        start(&mut consumer, &name, listener).await;
        send_numbers(&runtime, broker, &rocketmq, &name, number).await;
        came.complete().await;
        consumer.shutdown().await;
        came.each_once_in_its_senders_trace(&spans);
        let processed = spans.of(Operation::Process);
        assert!(processed.iter().all(|span| attribute(span, own_attribute::QUEUEING).is_some()));
    });
}

#[test]
fn polled_messages_are_processed_in_their_own_traces() {
    let test = "polled_messages_are_processed_in_their_own_traces";
    let Some(broker) = require(test, RocketMq::shared()) else { return };
    let (name, number) = ("polled", 500);
    broker.topic(name, TopicKind::Normal, 4).expect("the topic is made");
    broker.group(name, 3).expect("the group is made");
    let _agent = spanprof::Agent::builder().service_name("test").start().expect("nothing wrong is set");
    let spans = Spans::new();
    let rocketmq = spans.instrumentation(System::RocketMq).with_attributes(spanprof::with_attributes);
    let came = Came::new(name, number);

    clients::run(async |runtime| {
        send_numbers(&runtime, broker, &rocketmq, name, number).await;
        let client = clients::pull_consumer(&runtime, broker, name, name).await;
        let consumer = rocketmq.consumer(name, name);
        while !came.is_complete() {
            let messages = poll(&consumer, &client, POLL).await;
            for message in &messages {
                let process = process(&consumer, message);
                process.enter(|| came.note(message.message_inner().body_slice(), message.properties()));
                process.done();
            }
            if !messages.is_empty() {
                commit(&consumer, &client, &messages).await.expect("it commits");
            }
        }
        client.shutdown().await;
    });

    came.each_once_in_its_senders_trace(&spans);
    each_was_received(&spans, number);
    let settled: usize = spans.of(Operation::Settle).iter().map(|span| links(span).len()).sum();
    assert_eq!(settled, number as usize, "each is committed once");
}

#[test]
fn each_message_of_a_batch_over_remoting_has_a_context_of_its_own() {
    let test = "each_message_of_a_batch_over_remoting_has_a_context_of_its_own";
    let (created, processed) = batch(test, "batched-one", 1);
    assert_eq!(processed.len(), IN_A_BATCH);
    for span in &processed {
        let message = attribute(span, key::MESSAGE_ID);
        let own = created.iter().find(|created| attribute(created, key::MESSAGE_ID) == message);
        let own = ids(own.expect("it has its id still"));
        assert_eq!(links(span), [own], "{span:?}");
        assert_eq!(parent(span), own, "{span:?}");
    }
}

#[test]
fn a_listener_of_batches_has_one_span_for_each() {
    let (created, processed) =
        batch("a_listener_of_batches_has_one_span_for_each", "batched-all", IN_A_BATCH as u32);
    let all: Vec<_> = processed.iter().flat_map(links).collect();
    assert_eq!(all.len(), created.len(), "none twice");
    assert_eq!(all.into_iter().collect::<HashSet<_>>(), created.iter().map(ids).collect());
    for span in &processed {
        // A call with one message alone, as the client happens to cut batches, is told as such.
        if let Some(count) = attribute(span, key::BATCH_COUNT) {
            assert_eq!(count, links(span).len().to_string());
            assert!(!links(span).contains(&parent(span)), "no one of them is its parent");
        }
    }
}

/// Sends a batch to a listener that takes so many at once; gives the spans of its messages' creation, and of its
/// processing.
fn batch(test: &str, name: &str, at_once: u32) -> (Vec<SpanData>, Vec<SpanData>) {
    let Some(broker) = require(test, RocketMq::shared()) else { return Default::default() };
    broker.topic(name, TopicKind::Normal, 1).expect("the topic is made");
    broker.group(name, 3).expect("the group is made");
    let spans = Spans::new();
    let rocketmq = spans.instrumentation(System::RocketMq);
    clients::run(async |runtime| {
        let producer = clients::producer(&runtime, broker).await;
        let messages = (0..IN_A_BATCH).map(|number| clients::message(name, number.to_string().as_bytes()));
        let sent = send_batch(&rocketmq.producer(name.to_owned()), &producer, messages.collect()).await;
        sent.expect("the broker takes it");

        let (told, mut calls) = mpsc::unbounded_channel();
        let tell = move |messages: &[&MessageExt], _: &ConsumeConcurrentlyContext| {
            told.send(messages.len()).expect("the test listens");
            Ok(ConsumeConcurrentlyStatus::ConsumeSuccess)
        };
        let builder = clients::push_consumer(&runtime, broker.name_server(), name)
            .consume_message_batch_max_size(at_once);
        let mut consumer = builder.build();
        start(&mut consumer, name, Listener::new(&rocketmq.consumer(name.to_owned(), name), tell)).await;
        let mut number = 0;
        while number < IN_A_BATCH {
            number += calls.recv().await.expect("the listener lives");
        }
        consumer.shutdown().await;
    });
    let created = spans.of(Operation::Create);
    assert_eq!(created.len(), IN_A_BATCH, "a create span for each");
    let sent = spans.of(Operation::Send);
    assert_eq!(sent.len(), 1, "one send span for all");
    assert_eq!(links(&sent[0]), created.iter().map(ids).collect::<Vec<_>>());
    (created, spans.of(Operation::Process))
}

#[test]
fn a_message_that_a_listener_refuses_twice_is_processed_three_times() {
    let test = "a_message_that_a_listener_refuses_twice_is_processed_three_times";
    let Some(broker) = require(test, RocketMq::shared()) else { return };
    let name = "refused-twice";
    broker.topic(name, TopicKind::Normal, 1).expect("the topic is made");
    broker.group(name, 5).expect("the group is made");
    let spans = Spans::new();
    let rocketmq = spans.instrumentation(System::RocketMq);
    clients::run(async |runtime| {
        let (told, mut attempts) = mpsc::unbounded_channel();
        let refuse = move |messages: &[&MessageExt], _: &ConsumeConcurrentlyContext| {
            let times = messages[0].reconsume_times();
            told.send(times).expect("the test listens");
            match times {
                0 => Ok(ConsumeConcurrentlyStatus::ReconsumeLater),
                1 => Err(rocketmq_client_rust::ClientError::illegal_argument("the database is away")),
                _ => Ok(ConsumeConcurrentlyStatus::ConsumeSuccess),
            }
        };
        let mut consumer = clients::push_consumer(&runtime, broker.name_server(), name).build();
        let listener = Listener::new(&rocketmq.consumer(name, name), refuse).last_attempt(6);
        start(&mut consumer, name, listener).await;
        let producer = clients::producer(&runtime, broker).await;
        let sent = send(&rocketmq.producer(name), &producer, clients::message(name, b"fails twice")).await;
        sent.expect("the broker takes it");
        for times in 0..=2 {
            assert_eq!(attempts.recv().await, Some(times));
        }
        consumer.shutdown().await;
    });

    let sent = spans.of(Operation::Send).remove(0);
    let processed = spans.of(Operation::Process);
    assert_eq!(each(&processed, own_attribute::DELIVERY_ATTEMPT), ["1", "2", "3"].map(some));
    for span in &processed {
        assert_eq!(parent(span), ids(&sent), "{span:?}");
        assert_eq!(links(span), [ids(&sent)], "{span:?}");
        assert_eq!(attribute(span, key::MESSAGE_ID), attribute(&sent, key::MESSAGE_ID), "{span:?}");
        assert_eq!(span.name, "process refused-twice");
    }
    assert_eq!(each(&processed, own_attribute::OUTCOME), [some("retry"), some("retry"), None]);
    let errors = each(&processed, key::ERROR_TYPE);
    assert_eq!((&errors[0], &errors[2]), (&some("RECONSUME_LATER"), &None));
    assert!(errors[1].is_some(), "{errors:?}");
    // Only the first delivery is from the queue that the producer was told of.
    assert_eq!(
        each(&processed, key::PARTITION),
        [attribute(&sent, key::PARTITION), None, None],
        "queues of the group's retries are none of the topic's"
    );
}

#[test]
fn a_message_that_a_listener_always_refuses_is_a_dead_letter() {
    let test = "a_message_that_a_listener_always_refuses_is_a_dead_letter";
    let Some(broker) = require(test, RocketMq::shared()) else { return };
    let (name, dead) = ("refused", "%DLQ%refused");
    broker.topic(name, TopicKind::Normal, 1).expect("the topic is made");
    broker.group(name, 1).expect("the group is made");
    // Readable, as one is that the broker makes only after someone has said so.
    broker.topic(dead, TopicKind::Normal, 1).expect("the topic is made");
    broker.group("gravedigger", 3).expect("the group is made");
    let spans = Spans::new();
    let rocketmq = spans.instrumentation(System::RocketMq);
    clients::run(async |runtime| {
        let refuse =
            |_: &[&MessageExt], _: &ConsumeConcurrentlyContext| Ok(ConsumeConcurrentlyStatus::ReconsumeLater);
        let builder = clients::push_consumer(&runtime, broker.name_server(), name).max_reconsume_times(1);
        let mut consumer = builder.build();
        let listener = Listener::new(&rocketmq.consumer(name, name), refuse).last_attempt(2);
        start(&mut consumer, name, listener).await;
        let producer = clients::producer(&runtime, broker).await;
        let sent = send(&rocketmq.producer(name), &producer, clients::message(name, b"always fails")).await;
        sent.expect("the broker takes it");

        let client = clients::pull_consumer(&runtime, broker, dead, "gravedigger").await;
        let gravedigger = rocketmq.consumer(dead, "gravedigger");
        let letter = loop {
            if let Some(letter) = poll(&gravedigger, &client, POLL).await.pop() {
                break letter;
            }
        };
        process(&gravedigger, &letter).done();
        client.shutdown().await;
        consumer.shutdown().await;
    });

    let sent = spans.of(Operation::Send).remove(0);
    let processed = spans.of(Operation::Process);
    let names: Vec<_> = processed.iter().map(|span| span.name.as_ref()).collect();
    assert_eq!(names, ["process refused", "process refused", "process %DLQ%refused"]);
    assert_eq!(each(&processed, own_attribute::OUTCOME), [some("retry"), some("dead_letter"), None]);
    assert_eq!(each(&processed, own_attribute::DEAD_LETTER_OF), [None, None, some(name)]);
    for span in &processed {
        assert_eq!(parent(span), ids(&sent), "{span:?}");
    }
}

#[test]
fn a_listener_in_order_is_called_again_with_the_same_message() {
    let test = "a_listener_in_order_is_called_again_with_the_same_message";
    let Some(broker) = require(test, RocketMq::shared()) else { return };
    let name = "in-order";
    broker.topic(name, TopicKind::Fifo, 1).expect("the topic is made");
    broker.orderly_group(name, 5).expect("the group is made");
    let spans = Spans::new();
    let rocketmq = spans.instrumentation(System::RocketMq);
    clients::run(async |runtime| {
        let (told, mut bodies) = mpsc::unbounded_channel();
        let calls = AtomicUsize::new(0);
        let suspend = move |messages: &[&MessageExt], _: &mut ConsumeOrderlyContext| {
            told.send(messages[0].message_inner().body_slice().to_vec()).expect("the test listens");
            match calls.fetch_add(1, Ordering::Relaxed) {
                0 => Ok(ConsumeOrderlyStatus::SuspendCurrentQueueAMoment),
                _ => Ok(ConsumeOrderlyStatus::Success),
            }
        };
        let mut consumer = clients::push_consumer(&runtime, broker.name_server(), name).build();
        consumer.subscribe(name, "*").await.expect("it subscribes");
        consumer.register_message_listener_orderly(Listener::new(&rocketmq.consumer(name, name), suspend));
        consumer.start().await.expect("the consumer starts");
        let producer = clients::producer(&runtime, broker).await;
        for body in ["first", "second"] {
            let mut message = clients::message(name, body.as_bytes());
            message.put_property("__SHARDINGKEY".into(), "customer-7".into());
            send(&rocketmq.producer(name), &producer, message).await.expect("the broker takes it");
        }
        for body in ["first", "first", "second"] {
            assert_eq!(bodies.recv().await.as_deref(), Some(body.as_bytes()));
        }
        consumer.shutdown().await;
    });

    let sent = spans.of(Operation::Send);
    assert_eq!(each(&sent, key::ROCKETMQ_TYPE), ["fifo", "fifo"].map(some));
    let processed = spans.of(Operation::Process);
    let parents: Vec<_> = processed.iter().map(parent).collect();
    assert_eq!(parents, [ids(&sent[0]), ids(&sent[0]), ids(&sent[1])]);
    assert_eq!(each(&processed, own_attribute::DELIVERY_ATTEMPT), ["1", "2", "1"].map(some));
    assert_eq!(each(&processed, own_attribute::OUTCOME), [some("retry"), None, None]);
    assert_eq!(each(&processed, key::ROCKETMQ_GROUP), ["customer-7"; 3].map(some));
}

async fn start(
    consumer: &mut DefaultMQPushConsumer,
    topic: &str,
    listener: impl MessageListenerConcurrently + 'static,
) {
    consumer.subscribe(topic, "*").await.expect("it subscribes");
    consumer.register_message_listener_concurrently(listener);
    consumer.start().await.expect("the consumer starts");
}

/// Four senders, each with a quarter of the numbers.
async fn send_numbers(
    runtime: &Arc<ClientRuntime>,
    broker: &RocketMq,
    rocketmq: &Instrumentation,
    topic: &str,
    number: u32,
) {
    let client = Arc::new(clients::producer(runtime, broker).await);
    let senders = (0..4).map(|part| {
        let (client, producer, topic) =
            (Arc::clone(&client), rocketmq.producer(topic.to_owned()), topic.to_owned());
        tokio::spawn(async move {
            for body in (part..number).step_by(4) {
                let message = clients::message(&topic, &body.to_be_bytes());
                send(&producer, &client, message).await?;
            }
            ClientResult::Ok(())
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.expect("no sender panics").expect("the broker takes it");
    }
}
