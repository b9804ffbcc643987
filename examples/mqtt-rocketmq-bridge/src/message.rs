//! A message of MQTT as one of RocketMQ.
//!
//! | MQTT | RocketMQ |
//! |---|---|
//! | payload | body, byte for byte |
//! | no payload | a zero byte and the property `mqtt_empty`, which is `true`: RocketMQ refuses empty bodies |
//! | topic | the property `mqtt_topic`, and the message's key where it can be one |
//! | content type | the property `mqtt_content_type` |
//! | retained | the property `mqtt_retained`, which is `true` |
//! | user property `k` | the property `mqtt_user_k` |
//!
//! The user properties `traceparent` and `tracestate` stay behind: the message gets those of the span that sends it.
//! The names of the others are prefixed, as RocketMQ has names of its own by which a device could delay or hide
//! messages.
//!
//! RocketMQ refuses messages with too many or too long properties, or with control characters in them. As no device
//! may stop the bridge, what doesn't fit is cut or left out: see the constants.

use std::collections::HashMap;

use ::rocketmq::model::message::MessageBuilder;
use rumqttc::v5::mqttbytes::v5::Publish;
use spanprof_messaging::clients::rocketmq_grpc::Outgoing;
use spanprof_messaging::{TRACEPARENT, TRACESTATE};

/// The longest topic that is a key, in bytes.
const LONGEST_KEY: usize = 255;

/// The longest value of a property, in bytes: what is longer is cut.
const LONGEST_VALUE: usize = 1_024;

/// The longest name of a user property that is copied, in bytes.
const LONGEST_NAME: usize = 128;

/// How many user properties are copied.
const MOST_PROPERTIES: usize = 32;

/// How long the user properties that are copied are together, in bytes; half of what RocketMQ takes.
const ALL_PROPERTIES: usize = 8_192;

/// The message that goes to a topic of RocketMQ, without a context.
///
/// # Panics
/// Where that topic is empty, which no configuration has.
#[must_use]
pub fn outgoing(publish: &Publish, mqtt_topic: &str, topic: &str) -> Outgoing {
    let mut builder = MessageBuilder::builder()
        .set_topic(topic)
        .set_body(body(publish))
        .set_properties(properties(publish, mqtt_topic));
    if is_key(mqtt_topic) {
        builder = builder.set_keys(vec![mqtt_topic]);
    }
    Outgoing::new(builder.build().expect("it has a topic and a body"))
}

fn body(publish: &Publish) -> Vec<u8> {
    if publish.payload.is_empty() { vec![0] } else { publish.payload.to_vec() }
}

/// RocketMQ separates keys by blanks.
fn is_key(mqtt_topic: &str) -> bool {
    let has_blanks = mqtt_topic.contains(|letter: char| letter.is_whitespace() || letter.is_control());
    mqtt_topic.len() <= LONGEST_KEY && !has_blanks
}

fn properties(publish: &Publish, mqtt_topic: &str) -> HashMap<String, String> {
    let mut properties = HashMap::from([("mqtt_topic".to_owned(), printable(mqtt_topic))]);
    for (name, is_so) in [("mqtt_retained", publish.retain), ("mqtt_empty", publish.payload.is_empty())] {
        if is_so {
            properties.insert(name.to_owned(), "true".to_owned());
        }
    }
    let Some(given) = &publish.properties else { return properties };
    if let Some(content_type) = &given.content_type {
        properties.insert("mqtt_content_type".to_owned(), printable(content_type));
    }
    let own = given.user_properties.iter().filter(|(name, value)| {
        let is_context = [TRACEPARENT, TRACESTATE].contains(&name.as_str());
        let is_name = !name.contains(char::is_control) && (1..=LONGEST_NAME).contains(&name.len());
        !is_context && is_name && !value.is_empty()
    });
    let mut room = ALL_PROPERTIES;
    for (name, value) in own.take(MOST_PROPERTIES) {
        let value = printable(value);
        let Some(left) = room.checked_sub(name.len() + value.len()) else { break };
        room = left;
        // The first of a name counts, as everywhere in MQTT.
        properties.entry(format!("mqtt_user_{name}")).or_insert(value);
    }
    properties
}

/// As far as RocketMQ takes it: cut, and without control characters.
fn printable(value: &str) -> String {
    let cut = &value[..value.floor_char_boundary(LONGEST_VALUE)];
    cut.replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use ::rocketmq::model::message::Message as _;
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::PublishProperties;

    use super::*;

    fn publish(user_properties: Vec<(String, String)>) -> Publish {
        let properties = PublishProperties {
            user_properties,
            content_type: Some("application/json".to_owned()),
            ..PublishProperties::default()
        };
        Publish::new("sensors/7", QoS::AtLeastOnce, "{}", Some(properties))
    }

    fn of(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn all_but_the_context_goes_along() {
        let given =
            of(&[("firmware", "1.2"), ("traceparent", "old"), ("tracestate", "old"), ("firmware", "2")]);
        let mut message = outgoing(&publish(given), "sensors/7", "readings");
        assert_eq!(message.take_topic(), "readings");
        assert_eq!(message.take_body(), b"{}");
        assert_eq!(message.take_keys(), ["sensors/7"]);
        let expected = of(&[
            ("mqtt_topic", "sensors/7"),
            ("mqtt_content_type", "application/json"),
            ("mqtt_user_firmware", "1.2"),
        ]);
        assert_eq!(message.take_properties(), expected.into_iter().collect());
    }

    #[test]
    fn what_rocketmq_would_refuse_is_cut_or_left_out() {
        let long = "ß".repeat(LONGEST_VALUE);
        let many = (0..1_000).map(|number| (number.to_string(), long.clone())).collect();
        let properties = properties(&publish(many), &long);
        assert!(properties.values().all(|value| value.len() <= LONGEST_VALUE));
        let size: usize = properties.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(size < 16_000 && properties.len() < 40, "{size} {}", properties.len());
        let name = "n".repeat(LONGEST_NAME + 1);
        let given = of(&[("a\u{1}b", "1"), ("", "1"), ("empty", ""), (&name, "1"), ("a", "1\u{2}2")]);
        let properties = super::properties(&publish(given), "a\u{1}b");
        assert_eq!(properties["mqtt_topic"], "a\u{fffd}b");
        assert_eq!(properties["mqtt_user_a"], "1\u{fffd}2");
        assert_eq!(properties.len(), 3);
    }

    #[test]
    fn a_topic_that_rocketmq_would_take_for_several_keys_is_none() {
        assert!(is_key("sensors/7/celsius"));
        for topic in ["sensors/seventh floor", "a\u{1}b", "a\u{a0}b", &"a".repeat(256)] {
            assert!(!is_key(topic), "{topic}");
        }
    }
}
