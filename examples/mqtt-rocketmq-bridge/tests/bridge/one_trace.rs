//! One trace from the device through both brokers to the consumer.

use std::collections::{HashMap, HashSet};
use std::process::Command;

use opentelemetry::trace::{SpanId, TraceContextExt};
use serde_json::{Value, json};
use spanprof_brokers::{Mosquitto, RocketMq, TopicKind, require};
use spanprof_messaging::clients::rocketmq_grpc::Consumer;
use spanprof_messaging::{Instrumentation, System, TraceContext};
use spanprof_messaging_tests::Spans;

use crate::consumer;
use crate::running::Setting;
use crate::told::{Told, by_id, read};

const READINGS: usize = 10;

/// What the consumer saw of a message.
struct Came {
    /// The span that its `traceparent` names.
    sender: String,
    body: Vec<u8>,
    properties: HashMap<String, String>,
    keys: Vec<String>,
    process: SpanId,
}

#[test]
fn from_a_device_of_mqtt_5() {
    let Some(seen) = from_device_to_consumer("from_a_device_of_mqtt_5", "5", "trace-five") else { return };
    for came in &seen.came {
        let number = serde_json::from_slice::<Value>(&came.body).expect("it is JSON")["number"].as_u64();
        let number = number.expect("it is numbered");
        // The body is what the device's program made, byte for byte.
        assert_eq!(
            came.body,
            format!("{{\"number\":{number},\"celsius\":{}.5}}", 20 + number % 5).into_bytes()
        );
        assert_eq!(came.properties["mqtt_user_firmware"], "1.2");
        assert_eq!(came.properties["mqtt_content_type"], "application/json");
        assert!(!came.properties.contains_key("mqtt_user_traceparent"));
    }
    for settle in by_id(&seen.bridge, "settle").values() {
        assert_eq!(settle.links.len(), 1, "the message that is acknowledged: {settle:?}");
    }
}

#[test]
fn from_a_device_of_mqtt_3_1_1_by_json() {
    let test = "from_a_device_of_mqtt_3_1_1_by_json";
    let Some(seen) = from_device_to_consumer(test, "3.1.1", "trace-three") else { return };
    for came in &seen.came {
        // Who knows nothing of contexts finds its members as they were.
        let mut body: Value = serde_json::from_slice(&came.body).expect("it is JSON");
        let number = body["number"].as_u64().expect("it is numbered");
        assert_eq!(body["celsius"], json!(20.5 + (number % 5) as f64));
        let members = body.as_object_mut().expect("it is an object");
        // The device's own context stays in the body: the bridge changes nothing there.
        let context = members.remove("traceparent").expect("the device put it there");
        let context = TraceContext::parse(context.as_str().expect("it is text")).expect("it can be read");
        assert!(by_id(&seen.device, "send").contains_key(&context.span_id().to_string()));
        assert_eq!(members.len(), 2);
    }
}

/// What everybody saw.
struct Seen {
    device: Vec<Told>,
    bridge: Vec<Told>,
    came: Vec<Came>,
}

fn from_device_to_consumer(test: &str, mqtt: &str, name: &str) -> Option<Seen> {
    let mosquitto = require(test, Mosquitto::start())?;
    let rocketmq = require(test, RocketMq::shared())?;
    rocketmq.topic(name, TopicKind::Normal, 4).expect("the topic is made");
    rocketmq.group(name, 3).expect("the group is made");
    let setting = Setting::new(&mosquitto, rocketmq, "sensors/+/celsius", name);
    let bridge = setting.start();

    let device = device(&mosquitto, mqtt, name);
    let spans = Spans::new();
    let came = consumer::run(consume(rocketmq, &spans, name));
    assert!(bridge.stop().success());
    let bridge = setting.spans();

    each_message_is_one_chain(&device, &bridge, &spans, &came, name);
    Some(Seen { device, bridge, came })
}

/// Runs the example's device, and gives its spans.
fn device(mosquitto: &Mosquitto, mqtt: &str, sensor: &str) -> Vec<Told> {
    let (host, port) = mosquitto.address().split_once(':').expect("it is host and port");
    let output = Command::new(env!("CARGO_BIN_EXE_device"))
        .args(["--mqtt", mqtt, "--host", host, "--port", port, "--sensor", sensor])
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{output:?}");
    read(&String::from_utf8(output.stdout).expect("JSON is text"))
}

async fn consume(rocketmq: &RocketMq, spans: &Spans, topic: &str) -> Vec<Came> {
    let instrumentation = Instrumentation::new(System::RocketMq).with_tracer_provider(spans.provider());
    let consumer = Consumer::new(&instrumentation, topic.to_owned(), topic);
    let client = consumer::connect(rocketmq, topic).await;
    let mut came = Vec::new();
    while came.len() < READINGS {
        for delivery in consumer::receive(&consumer, &client).await {
            let note = async {
                let context = TraceContext::extract(&delivery).expect("the message carries a context");
                came.push(Came {
                    sender: context.span_id().to_string(),
                    body: delivery.body().to_vec(),
                    properties: delivery.properties().clone(),
                    keys: delivery.keys().to_vec(),
                    process: opentelemetry::Context::current().span().span_context().span_id(),
                });
                Ok::<_, std::convert::Infallible>(())
            };
            consumer.handle(&client, &delivery, note).await.expect("it is acknowledged");
        }
    }
    came
}

/// Device's send ← bridge's process ← bridge's send ← consumer's process, each by parent, and by link where the
/// conventions want one.
fn each_message_is_one_chain(device: &[Told], bridge: &[Told], spans: &Spans, came: &[Came], name: &str) {
    let sent = by_id(device, "send");
    let processed = by_id(bridge, "process");
    let forwarded = by_id(bridge, "send");
    let settled = by_id(bridge, "settle");
    for number in [sent.len(), processed.len(), forwarded.len(), settled.len(), came.len()] {
        assert_eq!(number, READINGS);
    }
    let consumed = spans.by_id(&format!("process {name}"));
    assert_eq!(consumed.len(), READINGS);
    let mut traces = HashSet::new();
    for came in came {
        let consume = &consumed[&came.process];
        let trace = consume.span_context.trace_id().to_string();
        assert_eq!(consume.parent_span_id.to_string(), came.sender);
        let links: Vec<_> =
            consume.links.iter().map(|link| link.span_context.span_id().to_string()).collect();
        assert_eq!(links, std::slice::from_ref(&came.sender));

        let forward = &forwarded[&came.sender];
        assert_eq!((&forward.trace, &forward.links), (&trace, &vec![]));
        assert_eq!(forward.attributes["messaging.system"], "rocketmq");
        assert_eq!(forward.attributes["messaging.destination.name"], name);

        let process = &processed[forward.parent.as_ref().expect("it is within the process span")];
        let send = &sent[process.parent.as_ref().expect("it is in the device's trace")];
        assert_eq!(process.links, [(trace.clone(), send.id.clone())]);
        assert_eq!((&process.trace, &send.trace, &send.parent), (&trace, &trace, &None));
        assert_eq!(process.attributes["messaging.system"], "mqtt");
        assert_eq!(process.attributes["messaging.destination.name"], format!("sensors/{name}/celsius"));
        assert_eq!(process.attributes["messaging.destination.template"], "sensors/+/celsius");
        assert_eq!((&process.error, &forward.error), (&None, &None));

        let acknowledged =
            settled.values().filter(|settle| settle.parent.as_ref() == Some(&process.id)).count();
        assert_eq!(acknowledged, 1);
        assert_eq!(came.properties["mqtt_topic"], format!("sensors/{name}/celsius"));
        assert_eq!(came.keys, [format!("sensors/{name}/celsius")]);
        assert!(traces.insert(trace), "each message has a trace of its own");
    }
}
