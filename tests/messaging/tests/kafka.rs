//! Kafka: nothing lost or doubled with spans on, and every process span is linked to the span that sent its message.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use spanprof_brokers::{Kafka, require};
use spanprof_messaging::clients::kafka;
use spanprof_messaging::{Instrumentation, System};
use spanprof_messaging_tests::{Spans, attribute};

/// Nothing comes for so long: then all has come, or something is lost.
const SILENCE: Duration = Duration::from_secs(60);

#[test]
fn two_thousand_messages_one_by_one() {
    let Some(broker) = require("two_thousand_messages_one_by_one", Kafka::shared()) else { return };
    every_message_once(broker, "one-by-one", 2_000, 1);
}

#[test]
fn two_thousand_messages_in_batches() {
    let Some(broker) = require("two_thousand_messages_in_batches", Kafka::shared()) else { return };
    every_message_once(broker, "in-batches", 2_000, 32);
}

#[test]
#[ignore = "a minute"]
fn a_hundred_thousand_messages_in_batches() {
    let Some(broker) = require("a_hundred_thousand_messages_in_batches", Kafka::shared()) else { return };
    every_message_once(broker, "a-hundred-thousand", 100_000, 32);
}

fn every_message_once(broker: &Kafka, topic: &str, count: usize, largest_batch: usize) {
    broker.topic(topic, 4).expect("the topic is made");
    let _publishing = spanprof::Agent::builder().service_name("kafka-test").start().expect("it publishes");
    let spans = Spans::with_processor(spanprof::ProfileProcessor::new());
    let instrumentation = Instrumentation::new(System::Kafka).with_tracer_provider(spans.provider());
    let begin = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| send(broker, &instrumentation, topic, count));
        consume(broker, &instrumentation, topic, count, largest_batch);
    });
    println!("{count} messages in {:.1} s", begin.elapsed().as_secs_f64());

    let sent = spans.by_id(&format!("send {topic}"));
    let processed = spans.named(&format!("process {topic}"));
    assert_eq!((sent.len(), processed.len()), (count, count));
    let mut creators = HashSet::new();
    for process in &processed {
        let link = process.links.iter().next().expect("a link to the message's creation");
        let send = &sent[&link.span_context.span_id()];
        assert!(creators.insert(link.span_context.span_id()), "one process span for each that was sent");
        assert_eq!(process.span_context.trace_id(), send.span_context.trace_id(), "one trace");
        assert_eq!(process.parent_span_id, send.span_context.span_id());
        for key in ["messaging.kafka.offset", "messaging.destination.partition.id"] {
            assert_eq!(attribute(process, key), attribute(send, key), "the answer and the delivery agree");
        }
    }
    let received = spans.named(&format!("poll {topic}"));
    assert_eq!(received.iter().map(|poll| poll.links.len()).sum::<usize>(), count);
    let settled = spans.named(&format!("commit {topic}"));
    assert_eq!(settled.iter().map(|commit| commit.links.len()).sum::<usize>(), count);
    assert!(received.iter().all(|poll| poll.links.len() <= largest_batch));
    if largest_batch > 1 {
        assert!(received.len() < count, "some batches had several");
    }
}

fn send(broker: &Kafka, instrumentation: &Instrumentation, topic: &str, count: usize) {
    let orders = instrumentation.producer(topic);
    let client: ThreadedProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("linger.ms", "5")
        .create_with_context(kafka::EndsSpans)
        .expect("the configuration is right");
    for number in 0..count {
        let text = number.to_string();
        let mut record = kafka::sending_base(&orders, BaseRecord::to(topic).key(&text).payload(&text));
        // The span goes on while the client's queue is full: so long it took to send.
        while let Err((error, again)) = client.send(record) {
            assert!(matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)), "{error}");
            thread::yield_now();
            record = again;
        }
    }
    client.flush(SILENCE).expect("all are answered");
}

fn consume(
    broker: &Kafka,
    instrumentation: &Instrumentation,
    topic: &str,
    count: usize,
    largest_batch: usize,
) {
    let orders = instrumentation.consumer(topic, "billing");
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("group.id", format!("{topic}-billing"))
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()
        .expect("the configuration is right");
    client.subscribe(&[topic]).expect("it subscribes");
    let mut seen = HashSet::new();
    while seen.len() < count {
        let batch = if largest_batch == 1 {
            kafka::poll(&orders, &client, SILENCE).into_iter().collect::<Result<Vec<_>, _>>()
        } else {
            kafka::poll_batch(&orders, &client, largest_batch, SILENCE)
        };
        let batch = batch.expect("it polls");
        assert!(!batch.is_empty(), "{} of {count} came", seen.len());
        for message in &batch {
            let process = kafka::process(&orders, message);
            let number = process.enter(|| message.payload_view::<str>().unwrap().unwrap().to_owned());
            assert!(seen.insert(number.clone()), "{number} came twice");
            process.done();
        }
        kafka::commit_batch(&orders, &client, &batch, CommitMode::Async).expect("it commits");
    }
    if let Some(more) = kafka::poll(&orders, &client, Duration::from_millis(500)) {
        panic!("one more: {more:?}");
    }
}
