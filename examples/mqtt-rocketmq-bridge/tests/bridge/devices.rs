//! Devices that publish numbers, each in a trace that can be told from the number.

use opentelemetry::Context;
use opentelemetry::trace::{
    FutureExt, SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState,
};
use spanprof_brokers::Mosquitto;
use spanprof_messaging::clients::mqtt;
use spanprof_messaging::{Instrumentation, Producer, System};
use spanprof_messaging_tests::Spans;

/// The trace of a number.
pub(crate) fn trace_of(number: u32) -> TraceId {
    TraceId::from(u128::from(number) + 1)
}

/// Within the request for which the number is published.
fn request(number: u32) -> Context {
    let (span, flags) = (SpanId::from(7), TraceFlags::SAMPLED);
    let request = SpanContext::new(trace_of(number), span, flags, true, TraceState::NONE);
    Context::new().with_remote_span_context(request)
}

/// The payload of a number.
fn payload(number: u32) -> String {
    format!("{{\"number\":{number}}}")
}

/// Below the device's topic there are eight, so that the bridge has something to do at the same time.
fn topic_of(device: &str, number: u32) -> String {
    format!("{device}/{}", number / 4 % 8)
}

/// The number of a payload, whoever made it.
pub(crate) fn number_of(payload: &[u8]) -> u32 {
    let payload: serde_json::Value = serde_json::from_slice(payload).expect("it is JSON");
    let number = payload["number"].as_u64().and_then(|number| number.try_into().ok());
    number.expect("it is numbered")
}

/// Who publishes as a device, with spans of its own.
fn producer(spans: &Spans, topic: &str) -> Producer {
    Instrumentation::new(System::Mqtt).with_tracer_provider(spans.provider()).producer(topic)
}

/// Publishes numbers by MQTT 5 with QoS 1, and returns when the broker has acknowledged all.
pub(crate) async fn publish_by_5(broker: &Mosquitto, spans: &Spans, topic: &str, numbers: Vec<u32>) {
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::{AsyncClient, Event, Incoming, MqttOptions};
    let (host, port) = broker.address().split_once(':').expect("it is host and port");
    let options = MqttOptions::new(topic.replace('/', "-"), host, port.parse().expect("it is a port"));
    let (client, mut event_loop) = AsyncClient::new(options, 16);
    let producer = producer(spans, topic);
    let count = numbers.len();
    let publish = async {
        for number in numbers {
            let topic = topic_of(topic, number);
            let publish = mqtt::v5::publish(
                &producer,
                &client,
                &topic,
                QoS::AtLeastOnce,
                payload(number),
                Default::default(),
            );
            publish.with_context(request(number)).await.expect("the event loop runs");
        }
    };
    let acknowledged = async {
        let mut acknowledged = 0;
        while acknowledged < count {
            let event = event_loop.poll().await.expect("the broker is there");
            acknowledged += usize::from(matches!(event, Event::Incoming(Incoming::PubAck(_))));
        }
    };
    tokio::join!(publish, acknowledged);
}

/// The same by MQTT 3.1.1, with the context in the payload.
pub(crate) async fn publish_by_3(broker: &Mosquitto, spans: &Spans, topic: &str, numbers: Vec<u32>) {
    use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS};
    let (host, port) = broker.address().split_once(':').expect("it is host and port");
    let options = MqttOptions::new(topic.replace('/', "-"), host, port.parse().expect("it is a port"));
    let (client, mut event_loop) = AsyncClient::new(options, 16);
    let producer = producer(spans, topic);
    let count = numbers.len();
    let publish = async {
        for number in numbers {
            let payload = payload(number).into_bytes();
            let topic = topic_of(topic, number);
            let publish = mqtt::v4::publish_json(&producer, &client, &topic, QoS::AtLeastOnce, &payload);
            publish.with_context(request(number)).await.expect("the event loop runs");
        }
    };
    let acknowledged = async {
        let mut acknowledged = 0;
        while acknowledged < count {
            let event = event_loop.poll().await.expect("the broker is there");
            acknowledged += usize::from(matches!(event, Event::Incoming(Incoming::PubAck(_))));
        }
    };
    tokio::join!(publish, acknowledged);
}
