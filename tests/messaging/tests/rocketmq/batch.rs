//! Batches: a context in each inner message, and what becomes of one that stands on the wrapper alone.

use std::collections::HashSet;
use std::time::Duration;

use opentelemetry_sdk::trace::SpanData;
use spanprof_brokers::{RocketMq, RocketMqOptions, RocketMqVersion, TopicKind, require};
use spanprof_messaging::clients::rocketmq_grpc::{Consumer, Producer};
use spanprof_messaging::conventions::attribute as key;
use spanprof_messaging::{Instrumentation, Operation, System, TraceContext};
use spanprof_messaging_tests::{Ids, Spans, attribute, ids, links, parent};

use crate::{clients, frames};

const IN_A_BATCH: usize = 32;

/// Receives and processes so many messages.
async fn process(broker: &RocketMq, rocketmq: &Instrumentation, topic: &str, mut number: usize) {
    let client = clients::consumer(broker, topic, topic).await;
    let consumer = Consumer::new(rocketmq, topic.to_owned(), topic);
    while number > 0 {
        let deliveries = consumer.receive_with(&client, &clients::all(), 32, Duration::from_secs(300)).await;
        for delivery in deliveries.expect("the broker answers") {
            let handled = consumer.handle(&client, &delivery, async { Ok::<_, String>(()) }).await;
            handled.expect("it is acknowledged");
            number -= 1;
        }
    }
}

fn one_each(spans: &[SpanData]) -> HashSet<Ids> {
    spans.iter().map(ids).collect()
}

#[test]
fn each_message_of_a_batch_arrives_with_a_context_of_its_own() {
    let test = "each_message_of_a_batch_arrives_with_a_context_of_its_own";
    let Some(broker) = require(test, RocketMq::shared()) else { return };
    broker.topic("batched", TopicKind::Normal, 1).expect("the topic is made");
    broker.group("batched", 3).expect("the group is made");
    let spans = Spans::new();
    let rocketmq = spans.instrumentation(System::RocketMq);
    clients::run(async {
        let client = clients::producer(broker, "batched").await;
        let messages = (0..IN_A_BATCH)
            .map(|number| clients::message("batched", number.to_string().as_bytes()))
            .collect();
        let sent = Producer::new(&rocketmq, "batched").batch_send(&client, messages).await;
        sent.expect("the broker takes it");
        process(broker, &rocketmq, "batched", IN_A_BATCH).await;
    });

    let created = spans.of(Operation::Create);
    assert_eq!(one_each(&created).len(), IN_A_BATCH, "a create span for each");
    let sent = spans.of(Operation::Send);
    assert_eq!(sent.len(), 1, "one send span for all");
    assert_eq!(attribute(&sent[0], key::BATCH_COUNT).as_deref(), Some(IN_A_BATCH.to_string().as_str()));
    assert_eq!(links(&sent[0]).into_iter().collect::<HashSet<_>>(), one_each(&created));
    let processed = spans.of(Operation::Process);
    assert_eq!(processed.len(), IN_A_BATCH);
    for span in &processed {
        let message = attribute(span, key::MESSAGE_ID);
        let own = created.iter().find(|created| attribute(created, key::MESSAGE_ID) == message);
        let own = ids(own.expect("it has its id still"));
        assert_eq!(links(span), [own], "{span:?}");
        assert_eq!(parent(span), own, "{span:?}");
    }
}

/// Sends a batch as producers under older instrumentations do, and tells the spans that processed it.
fn sent_with_a_context_on_the_wrapper(broker: &RocketMq, wrapper: &TraceContext<'_>) -> Vec<SpanData> {
    broker.topic("wrapped", TopicKind::Normal, 1).expect("the topic is made");
    broker.group("wrapped", 3).expect("the group is made");
    let properties = format!("traceparent\u{1}{}\u{2}", wrapper.to_traceparent().as_str());
    let bodies: Vec<_> = (0..IN_A_BATCH).map(|number| number.to_string().into_bytes()).collect();
    frames::send_batch(broker.broker(), "wrapped", &properties, &bodies).expect("the broker takes it");
    let spans = Spans::new();
    let rocketmq = spans.instrumentation(System::RocketMq);
    clients::run(process(broker, &rocketmq, "wrapped", IN_A_BATCH));
    let processed = spans.of(Operation::Process);
    assert_eq!(processed.len(), IN_A_BATCH);
    processed
}

fn theirs() -> TraceContext<'static> {
    TraceContext::parse("00-99999999999999999999999999999999-9999999999999999-01").expect("it is well-formed")
}

#[test]
fn an_old_broker_hands_on_the_context_of_the_wrapper() {
    let test = "an_old_broker_hands_on_the_context_of_the_wrapper";
    let version = RocketMqVersion::CopiesWrapperProperties;
    let started = RocketMq::start_with(RocketMqOptions { version, ..RocketMqOptions::default() });
    let Some(broker) = require(test, started) else { return };
    let wrapper = theirs().to_opentelemetry();
    for span in sent_with_a_context_on_the_wrapper(&broker, &theirs()) {
        assert_eq!(links(&span), [(wrapper.trace_id(), wrapper.span_id())], "{span:?}");
        assert_eq!(parent(&span), links(&span)[0], "{span:?}");
    }
}

#[test]
fn the_newest_broker_drops_the_context_of_the_wrapper() {
    let test = "the_newest_broker_drops_the_context_of_the_wrapper";
    let Some(broker) = require(test, RocketMq::shared()) else { return };
    let processed = sent_with_a_context_on_the_wrapper(broker, &theirs());
    for span in &processed {
        assert_eq!(links(span), [], "{span:?}");
    }
    let traces: HashSet<_> = processed.iter().map(|span| ids(span).0).collect();
    assert_eq!(traces.len(), IN_A_BATCH, "each is a trace of its own, and none is in another's");
}
