//! A message that fails comes again in the same trace, and goes to the dead letters in the end.

use std::time::Duration;

use rocketmq::SimpleConsumer;
use spanprof_brokers::{RocketMq, TopicKind, require};
use spanprof_messaging::clients::rocketmq_grpc::{Consumer, Delivery, Producer, Unsettled};
use spanprof_messaging::conventions::{attribute as key, own_attribute};
use spanprof_messaging::{Operation, System};
use spanprof_messaging_tests::{Spans, attribute, each, ids, links, parent, some};

use crate::clients;

/// The shortest that the proxy takes: so long a message that failed isn't seen.
const INVISIBLE: Duration = Duration::from_secs(10);

/// The next message, however long it takes.
async fn next(consumer: &Consumer, client: &SimpleConsumer) -> Delivery {
    loop {
        let deliveries = consumer.receive_with(client, &clients::all(), 1, INVISIBLE).await;
        if let Some(delivery) = deliveries.expect("the broker answers").pop() {
            return delivery;
        }
    }
}

async fn fails_before(attempt: i32, delivery: &Delivery) -> Result<(), String> {
    if delivery.delivery_attempt() < attempt { Err("the database is away".to_owned()) } else { Ok(()) }
}

#[test]
fn a_message_that_fails_twice_is_processed_three_times_in_one_trace() {
    let test = "a_message_that_fails_twice_is_processed_three_times_in_one_trace";
    let Some(broker) = require(test, RocketMq::shared()) else { return };
    broker.topic("retried", TopicKind::Normal, 1).expect("the topic is made");
    broker.group("retried", 5).expect("the group is made");
    let spans = Spans::new();
    let rocketmq = spans.instrumentation(System::RocketMq);
    clients::run(async {
        let client = clients::producer(broker, "retried").await;
        let message = clients::message("retried", b"fails twice");
        Producer::new(&rocketmq, "retried").send(&client, message).await.expect("the broker takes it");

        let client = clients::consumer(broker, "retried", "retried").await;
        let consumer = Consumer::new(&rocketmq, "retried", "retried").last_attempt(6);
        for attempt in 1..=3 {
            let delivery = next(&consumer, &client).await;
            assert_eq!(delivery.delivery_attempt(), attempt);
            let handled = consumer.handle(&client, &delivery, fails_before(3, &delivery)).await;
            assert_eq!(handled.is_ok(), attempt == 3, "{handled:?}");
        }
    });

    let sent = spans.of(Operation::Send).remove(0);
    let processed = spans.of(Operation::Process);
    assert_eq!(each(&processed, own_attribute::DELIVERY_ATTEMPT), ["1", "2", "3"].map(some));
    for span in &processed {
        assert_eq!(parent(span), ids(&sent), "{span:?}");
        assert_eq!(links(span), [ids(&sent)], "{span:?}");
        assert_eq!(attribute(span, key::MESSAGE_ID), attribute(&sent, key::MESSAGE_ID), "{span:?}");
        assert_eq!(span.name, "process retried");
    }
    assert_eq!(each(&processed, own_attribute::OUTCOME), [some("retry"), some("retry"), None]);
    let string = some("alloc::string::String");
    assert_eq!(each(&processed, key::ERROR_TYPE), [string.clone(), string, None]);
    // What was acknowledged is the third.
    let settled = spans.of(Operation::Settle);
    assert_eq!(each(&settled, own_attribute::DELIVERY_ATTEMPT), [some("3")]);
    assert_eq!(parent(&settled[0]), ids(&processed[2]));
}

#[test]
fn a_dead_letter_says_so_and_keeps_its_trace() {
    let test = "a_dead_letter_says_so_and_keeps_its_trace";
    let Some(broker) = require(test, RocketMq::shared()) else { return };
    broker.topic("doomed", TopicKind::Normal, 1).expect("the topic is made");
    broker.group("doomed", 1).expect("the group is made");
    // Where its dead letters go; readable, as one is that the broker makes only after someone has said so.
    broker.topic("%DLQ%doomed", TopicKind::Normal, 1).expect("the topic is made");
    broker.group("undertaker", 3).expect("the group is made");
    let spans = Spans::new();
    let rocketmq = spans.instrumentation(System::RocketMq);
    clients::run(async {
        let client = clients::producer(broker, "doomed").await;
        let message = clients::message("doomed", b"always fails");
        Producer::new(&rocketmq, "doomed").send(&client, message).await.expect("the broker takes it");

        let client = clients::consumer(broker, "doomed", "doomed").await;
        let consumer = Consumer::new(&rocketmq, "doomed", "doomed").last_attempt(2);
        for _ in 1..=2 {
            let delivery = next(&consumer, &client).await;
            let handled = consumer.handle(&client, &delivery, fails_before(i32::MAX, &delivery)).await;
            assert!(matches!(handled, Err(Unsettled::Handler(_))), "{handled:?}");
        }
        // It goes there when the proxy is asked for it once more.
        let dead = clients::consumer(broker, "%DLQ%doomed", "undertaker").await;
        let undertaker = Consumer::new(&rocketmq, "%DLQ%doomed", "undertaker").dead_letters_of("doomed");
        let filter = clients::all();
        let delivery = tokio::select! {
            delivery = next(&undertaker, &dead) => delivery,
            () = async {
                loop {
                    let more = consumer.receive_with(&client, &filter, 1, INVISIBLE).await;
                    assert!(more.expect("the broker answers").is_empty(), "it was its last attempt");
                }
            } => unreachable!("it asks without end"),
        };
        assert_eq!(delivery.body(), b"always fails");
        undertaker.handle(&dead, &delivery, fails_before(0, &delivery)).await.expect("it is acknowledged");
    });

    let sent = spans.of(Operation::Send).remove(0);
    let processed = spans.of(Operation::Process);
    let names: Vec<_> = processed.iter().map(|span| span.name.as_ref()).collect();
    assert_eq!(names, ["process doomed", "process doomed", "process %DLQ%doomed"]);
    assert_eq!(each(&processed, own_attribute::DELIVERY_ATTEMPT)[..2], ["1", "2"].map(some));
    assert_eq!(each(&processed, own_attribute::OUTCOME), [some("retry"), some("dead_letter"), None]);
    assert_eq!(each(&processed, own_attribute::DEAD_LETTER_OF), [None, None, some("doomed")]);
    for span in &processed {
        assert_eq!(parent(span), ids(&sent), "{span:?}");
    }
}
