//! Many messages with spans and tags on: none lost or doubled, and each span that processes one linked to the one that
//! sent it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use spanprof_brokers::{RocketMq, TopicKind, require};
use spanprof_messaging::clients::rocketmq_grpc::{Consumer, Producer};
use spanprof_messaging::{Instrumentation, Operation, System};
use spanprof_messaging_tests::Spans;

use crate::came::{Came, each_was_received};
use crate::clients;

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
    let came = Arc::new(Came::new(&name, number));

    clients::run(async {
        let senders =
            (0..4).map(|part| tokio::spawn(send(broker, rocketmq.clone(), name.clone(), part, number)));
        let senders: Vec<_> = senders.collect();
        let receivers =
            (0..2).map(|_| tokio::spawn(receive(broker, rocketmq.clone(), name.clone(), Arc::clone(&came))));
        let receivers: Vec<_> = receivers.collect();
        for task in senders.into_iter().chain(receivers) {
            task.await.expect("no client fails");
        }
    });

    came.each_once_in_its_senders_trace(&spans);
    each_was_received(&spans, number);
    assert_eq!(spans.of(Operation::Settle).len(), number as usize, "an acknowledgement for each message");
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

async fn receive(broker: &RocketMq, rocketmq: Instrumentation, topic: String, came: Arc<Came>) {
    let client = clients::consumer(broker, &topic, &topic).await;
    let consumer = Consumer::new(&rocketmq, topic.clone(), &topic);
    let filter = clients::all();
    while !came.is_complete() {
        // Long enough that no message comes again while this machine is slow.
        let deliveries = tokio::select! {
            deliveries = consumer.receive_with(&client, &filter, 32, Duration::from_secs(300)) => deliveries,
            () = came.complete() => return,
        };
        for delivery in deliveries.expect("the broker answers") {
            let handler = async {
                came.note(delivery.body(), &delivery);
                Ok::<_, Infallible>(())
            };
            consumer.handle(&client, &delivery, handler).await.expect("it is acknowledged");
        }
    }
}
