//! MQTT on mosquitto, versions 5 and 3.1.1 mixed: nothing lost or doubled with spans on, every process span in the
//! trace of its send span and linked to it, and consumers that know nothing of contexts read what they always read.

mod five;
mod three;
mod trace;

use std::collections::HashSet;
use std::future::Future;
use std::time::Duration;

use opentelemetry::trace::FutureExt;
use spanprof_brokers::{Mosquitto, require};
use spanprof_messaging::carrier::Carrier;
use spanprof_messaging::clients::mqtt;
use spanprof_messaging::mqtt::envelope;
use spanprof_messaging::{Instrumentation, Message, System};
use spanprof_messaging_tests::Spans;

use crate::trace::{each_process_span_belongs_to_its_send_span, number_of, payload, request};

/// Of each kind.
const MESSAGES: u32 = 2_000;

/// After this long a test hangs, on however slow a machine.
const HANGS: Duration = Duration::from_secs(600);

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("threads can be had");
    runtime.block_on(async { tokio::time::timeout(HANGS, test).await.expect("the test doesn't hang") })
}

fn instrumentation(spans: &Spans) -> Instrumentation {
    Instrumentation::new(System::Mqtt).with_tracer_provider(spans.provider())
}

/// Host and port.
fn address(broker: &Mosquitto) -> (&str, u16) {
    let (host, port) = broker.address().split_once(':').expect("it is host and port");
    (host, port.parse().expect("it is a port"))
}

/// Each of the numbers, once.
fn all_once(numbers: &[u32]) {
    let different: HashSet<_> = numbers.iter().collect();
    assert_eq!((different.len(), numbers.len()), (MESSAGES as usize, MESSAGES as usize), "lost or doubled");
}

#[test]
fn user_properties_carry_the_trace() {
    let Some(broker) = require("user_properties_carry_the_trace", Mosquitto::shared()) else { return };
    let spans = Spans::new();
    let producer = instrumentation(&spans).producer("five");
    let consumer = instrumentation(&spans).consumer("five", None);
    run(async {
        let mut knowing = five::Subscriber::new(broker, "five-knowing", "five").await;
        let mut unknowing = three::Subscriber::new(broker, "five-unknowing", "five").await;
        let publish = five::publish(broker, "five-device", |client| {
            let producer = producer.clone();
            async move {
                for number in 0..MESSAGES {
                    let publish = mqtt::v5::publish(
                        &producer,
                        &client,
                        "five",
                        rumqttc::v5::mqttbytes::QoS::AtLeastOnce,
                        payload(number),
                        Default::default(),
                    );
                    publish.with_context(request(number)).await.expect("the event loop runs");
                }
            }
        });
        let process = async {
            let mut numbers = Vec::new();
            for _ in 0..MESSAGES {
                let message = knowing.next().await;
                let process = mqtt::v5::process(&consumer, &message);
                numbers.push(process.enter(|| number_of(&message.payload)));
                process.done();
                mqtt::v5::acknowledge(&consumer, &knowing.client, &message)
                    .await
                    .expect("the event loop runs");
            }
            all_once(&numbers);
        };
        let read = async {
            let mut numbers = Vec::new();
            for _ in 0..MESSAGES {
                let message = unknowing.next().await;
                numbers.push(number_of(&message.payload));
                assert_eq!(message.payload, payload(numbers[numbers.len() - 1]).as_bytes(), "byte for byte");
                unknowing.client.ack(&message).await.expect("the event loop runs");
            }
            all_once(&numbers);
        };
        tokio::join!(publish, process, read);
    });
    each_process_span_belongs_to_its_send_span(&spans, "five", MESSAGES);
    assert_eq!(spans.named("ack five").len(), MESSAGES as usize);
}

#[test]
fn json_carries_the_trace_by_3_1_1() {
    let Some(broker) = require("json_carries_the_trace_by_3_1_1", Mosquitto::shared()) else { return };
    let (by_three, by_five) = (Spans::new(), Spans::new());
    let of_three = instrumentation(&by_three);
    let producer = of_three.producer("json");
    let (consumer, gateway) =
        (of_three.consumer("json", None), instrumentation(&by_five).consumer("json", None));
    run(async {
        let mut three = three::Subscriber::new(broker, "json-three", "json").await;
        let mut five = five::Subscriber::new(broker, "json-five", "json").await;
        let mut unknowing = three::Subscriber::new(broker, "json-unknowing", "json").await;
        let publish = three::publish(broker, "json-device", |client| {
            let producer = producer.clone();
            async move {
                for number in 0..MESSAGES {
                    let payload = payload(number);
                    let quality = rumqttc::QoS::AtLeastOnce;
                    let publish =
                        mqtt::v4::publish_json(&producer, &client, "json", quality, payload.as_bytes());
                    publish.with_context(request(number)).await.expect("the event loop runs");
                }
            }
        });
        let process_by_three = async {
            let mut numbers = Vec::new();
            for _ in 0..MESSAGES {
                let message = three.next().await;
                let process = mqtt::v4::process_json(&consumer, &message);
                numbers.push(process.enter(|| number_of(&message.payload)));
                process.done();
                mqtt::v4::acknowledge(&consumer, &three.client, &message).await.expect("the event loop runs");
            }
            all_once(&numbers);
        };
        let process_by_five = async {
            for _ in 0..MESSAGES {
                let message = five.next().await;
                mqtt::v5::process_json(&gateway, &message).done();
                mqtt::v5::acknowledge(&gateway, &five.client, &message).await.expect("the event loop runs");
            }
        };
        let read = async {
            let mut numbers = Vec::new();
            for _ in 0..MESSAGES {
                let message = unknowing.next().await;
                // Who parses finds the members that it knows, as they were, and one more.
                let mut body: serde_json::Value =
                    serde_json::from_slice(&message.payload).expect("it is JSON");
                let members = body.as_object_mut().expect("it is an object");
                assert!(members.remove("traceparent").is_some());
                let number = number_of(&message.payload);
                let known: serde_json::Value = serde_json::from_str(&payload(number)).expect("it is JSON");
                assert_eq!(body, known);
                numbers.push(number);
                unknowing.client.ack(&message).await.expect("the event loop runs");
            }
            all_once(&numbers);
        };
        tokio::join!(publish, process_by_three, process_by_five, read);
    });
    each_process_span_belongs_to_its_send_span(&by_three, "json", MESSAGES);
    let mut by_five = by_five.named("process json");
    let mut by_three = by_three.named("process json");
    // The gateway sees the same creators.
    let creator = |span: &opentelemetry_sdk::trace::SpanData| span.parent_span_id.to_bytes();
    by_five.sort_by_key(creator);
    by_three.sort_by_key(creator);
    assert!(by_five.iter().map(creator).eq(by_three.iter().map(creator)));
}

#[test]
fn an_envelope_carries_the_trace_and_what_has_none_stays_as_it_is() {
    let test = "an_envelope_carries_the_trace_and_what_has_none_stays_as_it_is";
    let Some(broker) = require(test, Mosquitto::shared()) else { return };
    let spans = Spans::new();
    let producer = instrumentation(&spans).producer("envelope");
    let consumer = instrumentation(&spans).consumer("envelope", None);
    run(async {
        let mut subscriber = three::Subscriber::new(broker, "envelope-knowing", "envelope").await;
        let publish = three::publish(broker, "envelope-device", |client| {
            let producer = producer.clone();
            async move {
                for number in 0..2 * MESSAGES {
                    let bytes = payload(number / 2).into_bytes();
                    // Each number twice: in an envelope by a device that has one, and bare.
                    let send = {
                        let _request = request(number / 2).attach();
                        (number % 2 == 0).then(|| producer.send(&mut (), &Message::new()))
                    };
                    let context = send.as_ref().and_then(|send| send.trace_context());
                    let bytes = envelope::wrap(&bytes, context.as_ref()).into_owned();
                    let sent = client.publish("envelope", rumqttc::QoS::AtLeastOnce, false, bytes).await;
                    sent.expect("the event loop runs");
                    if let Some(send) = send {
                        send.done();
                    }
                }
            }
        });
        let process = async {
            let (mut enveloped, mut bare) = (Vec::new(), Vec::new());
            for _ in 0..2 * MESSAGES {
                let message = subscriber.next().await;
                let (context, inner) = envelope::unwrap(&message.payload);
                let number = number_of(inner);
                assert_eq!(inner, payload(number).as_bytes(), "byte for byte");
                let carrier = context.map(|context| context.to_traceparent());
                assert_eq!(carrier.value("traceparent").is_some(), context.is_some());
                if context.is_some() {
                    consumer.process(&carrier, &mqtt::v4::facts(&message)).done();
                    enveloped.push(number);
                } else {
                    bare.push(number);
                }
                mqtt::v4::acknowledge(&consumer, &subscriber.client, &message).await.expect("the loop runs");
            }
            all_once(&enveloped);
            all_once(&bare);
        };
        tokio::join!(publish, process);
    });
    each_process_span_belongs_to_its_send_span(&spans, "envelope", MESSAGES);
}

#[test]
fn by_3_1_1_nothing_is_on_the_wire_unless_it_is_asked_for() {
    let test = "by_3_1_1_nothing_is_on_the_wire_unless_it_is_asked_for";
    let Some(broker) = require(test, Mosquitto::shared()) else { return };
    let spans = Spans::new();
    let producer = instrumentation(&spans).producer("bare");
    let consumer = instrumentation(&spans).consumer("bare", None);
    run(async {
        let mut subscriber = three::Subscriber::new(broker, "bare-consumer", "bare").await;
        let publish = three::publish(broker, "bare-device", |client| {
            let producer = producer.clone();
            async move {
                for number in 0..MESSAGES {
                    let quality = rumqttc::QoS::AtLeastOnce;
                    let publish = mqtt::v4::publish(&producer, &client, "bare", quality, payload(number));
                    publish.await.expect("the event loop runs");
                }
            }
        });
        let process = async {
            let mut numbers = Vec::new();
            for _ in 0..MESSAGES {
                let message = subscriber.next().await;
                let process = mqtt::v4::process(&consumer, &message);
                let number = number_of(&message.payload);
                assert_eq!(message.payload, payload(number).as_bytes(), "byte for byte");
                numbers.push(number);
                process.done();
                mqtt::v4::acknowledge(&consumer, &subscriber.client, &message).await.expect("the loop runs");
            }
            all_once(&numbers);
        };
        tokio::join!(publish, process);
    });
    // The trace starts where the message is received.
    let processed = spans.named("process bare");
    assert_eq!(processed.len(), MESSAGES as usize);
    assert!(processed.iter().all(|span| span.links.is_empty()));
    assert!(processed.iter().all(|span| span.parent_span_id == opentelemetry::SpanId::INVALID));
}
