//! Kafka: its own client in Java under the agent, and ours by librdkafka.

use std::time::Duration;

use opentelemetry::trace::SpanKind;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{FutureProducer, FutureRecord};
use spanprof_brokers::{JavaClient, JavaProgram, Kafka, require};
use spanprof_messaging::clients::kafka;
use spanprof_messaging::{Instrumentation, System, TraceContext};
use spanprof_messaging_tests::Spans;

use crate::spans::{Conventions, assert_all, assert_one_trace, ours, the_next, until_its_end};
use crate::{JAVA_FLAGS, MESSAGES, clients};

/// Nothing comes for so long: then something is lost.
const SILENCE: Duration = Duration::from_secs(120);

const PRODUCER: JavaProgram = JavaProgram {
    client: JavaClient::Kafka,
    class: "RecordProducer",
    source: include_str!("RecordProducer.java"),
};

const CONSUMER: JavaProgram = JavaProgram {
    client: JavaClient::Kafka,
    class: "RecordConsumer",
    source: include_str!("RecordConsumer.java"),
};

#[test]
fn a_java_producer_of_kafka_and_our_consumer_are_one_trace() {
    let test = "a_java_producer_of_kafka_and_our_consumer_are_one_trace";
    let Some(broker) = broker(test) else { return };
    for conventions in Conventions::BOTH {
        let topic = conventions.name(PRODUCER.class);
        broker.topic(&topic, 1).expect("the topic is made");
        let arguments = [broker.bootstrap_servers(), &topic, &MESSAGES.to_string()];
        let producer = PRODUCER.start(conventions.settings(), &arguments).expect("it starts");
        let sent = until_its_end(producer);
        assert_all(&sent, &conventions.send(&topic), &SpanKind::Producer);

        let spans = Spans::new();
        consume(broker, &spans, &topic);
        let processed = spans.named(&format!("process {topic}"));
        assert!(processed.iter().all(|span| span.span_context.is_sampled()));
        assert_one_trace(&sent, &ours(processed), true);
    }
}

#[test]
fn our_producer_and_a_java_consumer_of_kafka_are_one_trace() {
    let test = "our_producer_and_a_java_consumer_of_kafka_are_one_trace";
    let Some(broker) = broker(test) else { return };
    for conventions in Conventions::BOTH {
        let topic = conventions.name(CONSUMER.class);
        broker.topic(&topic, 1).expect("the topic is made");
        let spans = Spans::new();
        clients::run(produce(broker, &spans, &topic));
        let sent = ours(spans.named(&format!("send {topic}")));

        let arguments = [broker.bootstrap_servers(), &topic, &topic];
        let mut consumer = CONSUMER.start(conventions.settings(), &arguments).expect("it starts");
        let processed = the_next(&mut consumer, MESSAGES);
        assert_all(&processed, &conventions.process(&topic), &SpanKind::Consumer);
        assert_one_trace(&sent, &processed, conventions == Conventions::New);
    }
}

fn broker(test: &str) -> Option<&'static Kafka> {
    require(test, JavaClient::fetch())?;
    require(test, Kafka::shared())
}

fn instrumentation(spans: &Spans) -> Instrumentation {
    Instrumentation::new(System::Kafka).with_tracer_provider(spans.provider())
}

async fn produce(broker: &Kafka, spans: &Spans, topic: &str) {
    let producer = instrumentation(spans).producer(topic.to_owned());
    let client: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .create()
        .expect("the configuration is right");
    for number in 0..MESSAGES {
        let text = number.to_string();
        let record = FutureRecord::<str, _>::to(topic).payload(&text);
        kafka::send(&producer, &client, record, SILENCE).await.expect("the broker takes it");
    }
}

/// Processes all messages. Each carries a context of the agent's: sampled, with a random trace id.
fn consume(broker: &Kafka, spans: &Spans, topic: &str) {
    let consumer = instrumentation(spans).consumer(topic.to_owned(), topic);
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("group.id", topic)
        .set("auto.offset.reset", "earliest")
        .create()
        .expect("the configuration is right");
    client.subscribe(&[topic]).expect("it subscribes");
    for _ in 0..MESSAGES {
        let message = kafka::poll(&consumer, &client, SILENCE).expect("none is lost").expect("it polls");
        let headers = kafka::Received(message.headers());
        let context = TraceContext::extract(&headers).expect("each message carries a context");
        assert_eq!((context.flags(), context.is_sampled()), (JAVA_FLAGS, true));
        kafka::process(&consumer, &message).done();
    }
}
