//! RocketMQ: the agent's clients over remoting and over gRPC, and ours over gRPC.

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Duration;

use opentelemetry::SpanId;
use opentelemetry::trace::SpanKind;
use spanprof_brokers::{JavaClient, JavaProgram, RocketMq, TopicKind, require};
use spanprof_messaging::clients::rocketmq_grpc::{Consumer, Producer};
use spanprof_messaging::{Instrumentation, System, TraceContext};
use spanprof_messaging_tests::Spans;

use crate::spans::{Conventions, Seen, assert_all, assert_one_trace, ours, the_next, until_its_end};
use crate::{JAVA_FLAGS, MESSAGES, clients};

const REMOTING_PRODUCER: JavaProgram = JavaProgram {
    client: JavaClient::RocketMqRemoting,
    class: "RemotingProducer",
    source: include_str!("RemotingProducer.java"),
};

const REMOTING_CONSUMER: JavaProgram = JavaProgram {
    client: JavaClient::RocketMqRemoting,
    class: "RemotingPushConsumer",
    source: include_str!("RemotingPushConsumer.java"),
};

const GRPC_PRODUCER: JavaProgram = JavaProgram {
    client: JavaClient::RocketMqGrpc,
    class: "GrpcProducer",
    source: include_str!("GrpcProducer.java"),
};

const GRPC_CONSUMER: JavaProgram = JavaProgram {
    client: JavaClient::RocketMqGrpc,
    class: "GrpcPushConsumer",
    source: include_str!("GrpcPushConsumer.java"),
};

#[test]
fn a_java_producer_over_remoting_and_our_consumer_are_one_trace() {
    let test = "a_java_producer_over_remoting_and_our_consumer_are_one_trace";
    let Some(broker) = broker(test) else { return };
    for conventions in Conventions::BOTH {
        from_java_to_us(broker, &REMOTING_PRODUCER, conventions);
    }
}

#[test]
fn a_java_producer_over_grpc_and_our_consumer_are_one_trace() {
    let test = "a_java_producer_over_grpc_and_our_consumer_are_one_trace";
    let Some(broker) = broker(test) else { return };
    for conventions in Conventions::BOTH {
        from_java_to_us(broker, &GRPC_PRODUCER, conventions);
    }
}

#[test]
fn our_producer_and_a_java_consumer_over_remoting_are_one_trace() {
    let test = "our_producer_and_a_java_consumer_over_remoting_are_one_trace";
    let Some(broker) = broker(test) else { return };
    for conventions in Conventions::BOTH {
        from_us_to_java(broker, &REMOTING_CONSUMER, conventions);
    }
}

#[test]
fn our_producer_and_a_java_consumer_over_grpc_are_one_trace() {
    let test = "our_producer_and_a_java_consumer_over_grpc_are_one_trace";
    let Some(broker) = broker(test) else { return };
    for conventions in Conventions::BOTH {
        from_us_to_java(broker, &GRPC_CONSUMER, conventions);
    }
}

/// By the old conventions the agent puts one context on the batch's wrapper, which this broker drops.
#[test]
fn a_java_batch_by_the_old_conventions_loses_its_context() {
    let test = "a_java_batch_by_the_old_conventions_loses_its_context";
    let Some(broker) = broker(test) else { return };
    let (sent, processed) = a_java_batch(broker, Conventions::Old);
    assert_eq!(sent.len(), 1, "{sent:#?}");
    assert_eq!(sent[0].message().split(',').count(), MESSAGES, "one span with all ids: {sent:#?}");
    let traces: HashSet<_> = processed.iter().map(|span| span.ids.0).collect();
    assert_eq!(traces.len(), MESSAGES, "each is a trace of its own");
    assert!(!traces.contains(&sent[0].ids.0), "and none is in the sender's");
    for span in &processed {
        assert_eq!((span.parent, &span.links), (SpanId::INVALID, &Vec::new()), "{span:?}");
    }
}

/// By the new ones it makes a create span for each message, whose context is in the message.
#[test]
fn a_java_batch_by_the_new_conventions_keeps_its_traces() {
    let test = "a_java_batch_by_the_new_conventions_keeps_its_traces";
    let Some(broker) = broker(test) else { return };
    let (sent, processed) = a_java_batch(broker, Conventions::New);
    let (created, sent): (Vec<_>, Vec<_>) =
        sent.into_iter().partition(|span| span.attribute("messaging.operation.type") == Some("create"));
    assert_eq!((created.len(), sent.len()), (MESSAGES, 1), "{sent:#?}");
    let links: HashSet<_> = sent[0].links.iter().copied().collect();
    assert_eq!(links, created.iter().map(|span| span.ids).collect(), "one span sends all");
    assert_one_trace(&created, &processed, true);
}

fn broker(test: &str) -> Option<&'static RocketMq> {
    require(test, JavaClient::fetch())?;
    require(test, RocketMq::shared())
}

/// Where a client of that kind begins.
fn address(broker: &RocketMq, client: JavaClient) -> &str {
    match client {
        JavaClient::RocketMqGrpc => broker.proxy(),
        _ => broker.name_server(),
    }
}

/// A topic and a group of one name.
fn make(broker: &RocketMq, name: &str) {
    broker.topic(name, TopicKind::Normal, 2).expect("the topic is made");
    broker.group(name, 3).expect("the group is made");
}

fn from_java_to_us(broker: &RocketMq, program: &JavaProgram, conventions: Conventions) {
    let topic = conventions.name(program.class);
    make(broker, &topic);
    let arguments = [address(broker, program.client), &topic, &MESSAGES.to_string()];
    let producer = program.start(conventions.settings(), &arguments).expect("it starts");
    let sent = until_its_end(producer);
    assert_all(&sent, &conventions.send(&topic), &SpanKind::Producer);

    let spans = Spans::new();
    let contexts = clients::run(consume(broker, &spans, &topic));
    for context in contexts {
        let context = context.expect("each message carries a context");
        assert_eq!(context.flags(), JAVA_FLAGS);
        assert!(context.is_sampled());
    }
    let processed = spans.named(&format!("process {topic}"));
    assert!(processed.iter().all(|span| span.span_context.is_sampled()));
    assert_one_trace(&sent, &ours(processed), true);
}

/// One by one, and as many in a batch.
fn from_us_to_java(broker: &RocketMq, program: &JavaProgram, conventions: Conventions) {
    let topic = conventions.name(program.class);
    make(broker, &topic);
    let spans = Spans::new();
    clients::run(produce(broker, &spans, &topic));
    let mut created = ours(spans.named(&format!("send {topic}")));
    created.retain(|span| span.attribute("messaging.batch.message_count").is_none());
    created.extend(ours(spans.named(&format!("create {topic}"))));
    assert_eq!(created.len(), 2 * MESSAGES);

    let arguments = [address(broker, program.client), &topic, &topic];
    let mut consumer = program.start(conventions.settings(), &arguments).expect("it starts");
    let processed = the_next(&mut consumer, 2 * MESSAGES);
    for span in &processed {
        assert_eq!((&span.name, &span.kind), (&conventions.process(&topic), &SpanKind::Consumer), "{span:?}");
    }
    assert_one_trace(&created, &processed, conventions == Conventions::New);
}

/// The spans of a Java producer that sent one batch, and our spans that processed its messages.
fn a_java_batch(broker: &RocketMq, conventions: Conventions) -> (Vec<Seen>, Vec<Seen>) {
    let topic = conventions.name("java-batch");
    make(broker, &topic);
    let arguments = [broker.name_server(), &topic, &MESSAGES.to_string(), "batch"];
    let producer = REMOTING_PRODUCER.start(conventions.settings(), &arguments).expect("it starts");
    let sent = until_its_end(producer);
    let spans = Spans::new();
    clients::run(consume(broker, &spans, &topic));
    let processed = ours(spans.named(&format!("process {topic}")));
    assert_eq!(processed.len(), MESSAGES);
    (sent, processed)
}

/// Processes all messages, and tells which contexts they carried.
async fn consume(broker: &RocketMq, spans: &Spans, topic: &str) -> Vec<Option<TraceContext<'static>>> {
    let client = clients::consumer(broker, topic, topic).await;
    let consumer = Consumer::new(&instrumentation(spans), topic.to_owned(), topic);
    let mut contexts = Vec::new();
    while contexts.len() < MESSAGES {
        let deliveries = consumer.receive_with(&client, &clients::all(), 32, Duration::from_secs(300)).await;
        for delivery in deliveries.expect("the broker answers") {
            contexts.push(TraceContext::extract(&delivery).map(|context| context.without_tracestate()));
            let handled = consumer.handle(&client, &delivery, async { Ok::<_, Infallible>(()) }).await;
            handled.expect("it is acknowledged");
        }
    }
    contexts
}

/// Sends one by one, then a batch.
async fn produce(broker: &RocketMq, spans: &Spans, topic: &str) {
    let client = clients::producer(broker, topic).await;
    let producer = Producer::new(&instrumentation(spans), topic.to_owned());
    let messages = || (0..MESSAGES).map(|number| clients::message(topic, number.to_string().as_bytes()));
    for message in messages() {
        producer.send(&client, message).await.expect("the broker takes it");
    }
    producer.batch_send(&client, messages().collect()).await.expect("the broker takes them");
}

fn instrumentation(spans: &Spans) -> Instrumentation {
    Instrumentation::new(System::RocketMq).with_tracer_provider(spans.provider())
}
