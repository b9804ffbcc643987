//! Whatever a device sends passes: none can stop the bridge with a message that RocketMQ would refuse.

use std::collections::HashMap;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::PublishProperties;
use rumqttc::v5::{AsyncClient, Event, Incoming, MqttOptions};
use spanprof_brokers::{Mosquitto, RocketMq, TopicKind, require};
use spanprof_messaging::clients::rocketmq_grpc::Consumer;
use spanprof_messaging::{Instrumentation, System};
use spanprof_messaging_tests::Spans;

use crate::consumer;
use crate::running::Setting;
use crate::told::by_id;

/// A message, by its topic.
type Odd = (String, Vec<u8>, Vec<(String, String)>);

fn odd_ones() -> Vec<Odd> {
    let plain = |topic: &str, payload: &[u8]| (topic.to_owned(), payload.to_vec(), Vec::new());
    let with = |topic: &str, pairs: Vec<(&str, &str)>| {
        let pairs = pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        (topic.to_owned(), b"{}".to_vec(), pairs)
    };
    let many = (0..1_000).map(|number| (format!("name-{number}"), "v".repeat(40))).collect();
    let (long, context) = ("l".repeat(40_000), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    vec![
        plain("sensors/empty", b""),
        plain("sensors/binary", &[0, 1, 2, 0xff, 0xfe]),
        plain("sensors/large", &vec![b'x'; 3 << 20]),
        plain("sensors/a blank/and ß", b"{}"),
        plain("sensors//", b"{}"),
        plain(&format!("sensors/{}", "t".repeat(60_000)), b"{}"),
        plain("sensors/junk", b"{\"traceparent\":\"00-junk\",\"tracestate\":7"),
        (("sensors/many").to_owned(), b"{}".to_vec(), many),
        with("sensors/long", vec![("name", &long), (&long, "value"), ("", "value"), ("empty", "")]),
        // RocketMQ's own names, which would delay or hide the message.
        with(
            "sensors/own",
            vec![("DELAY", "18"), ("TRAN_MSG", "true"), ("KEYS", "k"), ("UNIQ_KEY", "u"), ("TAGS", "t")],
        ),
        with("sensors/twice", vec![("traceparent", context), ("traceparent", "junk"), ("tracestate", &long)]),
    ]
}

#[test]
fn whatever_a_device_sends_passes() {
    let Some(mosquitto) = require("whatever_a_device_sends_passes", Mosquitto::start()) else { return };
    let Some(rocketmq) = require("whatever_a_device_sends_passes", RocketMq::shared()) else { return };
    rocketmq.topic("odd", TopicKind::Normal, 4).expect("the topic is made");
    rocketmq.group("odd", 3).expect("the group is made");
    let setting = Setting::new(&mosquitto, rocketmq, "sensors/#", "odd");
    let bridge = setting.start();
    let came = consumer::run(async {
        publish(&mosquitto, odd_ones()).await;
        consume(rocketmq, odd_ones().len()).await
    });
    for (topic, payload, _) in odd_ones() {
        let body = if payload.is_empty() { vec![0] } else { payload };
        // A property takes no more of it.
        let shown = &topic[..topic.len().min(1_024)];
        assert!(came.get(shown).is_some_and(|come| *come == body), "{shown}");
    }
    assert!(bridge.stop().success());
    let spans = setting.spans();
    for (_, span) in by_id(&spans, "send") {
        assert_eq!(span.error, None);
    }
    let twice = spans.iter().find(|span| span.attributes["messaging.destination.name"] == "sensors/twice");
    assert_eq!(twice.expect("it came").trace, "0af7651916cd43dd8448eb211c80319c");
}

async fn publish(broker: &Mosquitto, messages: Vec<Odd>) {
    let (host, port) = broker.address().split_once(':').expect("it is host and port");
    let mut options = MqttOptions::new("odd", host, port.parse().expect("it is a port"));
    options.set_max_packet_size(Some(8 << 20));
    let (client, mut event_loop) = AsyncClient::new(options, messages.len());
    let mut left = messages.len();
    for (topic, payload, user_properties) in messages {
        let properties = PublishProperties { user_properties, ..PublishProperties::default() };
        let sent = client.publish_with_properties(topic, QoS::AtLeastOnce, false, payload, properties).await;
        sent.expect("there is room");
    }
    while left > 0 {
        let event = event_loop.poll().await.expect("the broker is there");
        left -= usize::from(matches!(event, Event::Incoming(Incoming::PubAck(_))));
    }
}

/// The bodies of so many different messages, by the property that has their topic.
async fn consume(rocketmq: &RocketMq, number: usize) -> HashMap<String, Vec<u8>> {
    let spans = Spans::new();
    let instrumentation = Instrumentation::new(System::RocketMq).with_tracer_provider(spans.provider());
    let consumer = Consumer::new(&instrumentation, "odd", "odd");
    let client = consumer::connect(rocketmq, "odd").await;
    let mut came = HashMap::new();
    while came.len() < number {
        for delivery in consumer::receive(&consumer, &client).await {
            came.insert(delivery.properties()["mqtt_topic"].clone(), delivery.body().to_vec());
            consumer.ack(&client, &delivery).await.expect("the broker answers");
        }
    }
    came
}
