//! Which message goes where, and who makes its spans.

use std::sync::Arc;

use spanprof_messaging::clients::mqtt::v5::{self, Received, ReceivedOrJson};
use spanprof_messaging::clients::rocketmq_grpc::Producer;
use spanprof_messaging::{Consumer, Destination, Instrumentation, MessageSpan, System};

use rumqttc::v5::mqttbytes::v5::Publish;
use std::time::Instant;

use crate::configuration::{Configuration, Rule};

/// A rule, with what makes the spans of its messages.
#[derive(Debug)]
pub struct Route {
    rule: Rule,
    /// Of the MQTT side.
    pub consumer: Consumer,
    /// Of the RocketMQ side.
    pub producer: Producer,
}

impl Route {
    /// Begins to process a message, in the trace that it carries or as the first span of one.
    pub fn process(&self, publish: &Publish, received: Instant) -> MessageSpan {
        let facts = v5::facts(publish).received(received);
        if self.rule.trace_in_json {
            self.consumer.process(&ReceivedOrJson::new(publish), &facts)
        } else {
            self.consumer.process(&Received(publish), &facts)
        }
    }

    /// The topic of RocketMQ.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.rule.topic
    }
}

/// All rules, in their order.
#[derive(Debug)]
pub struct Routes(Vec<Arc<Route>>);

impl Routes {
    /// By a configuration; their spans are the global tracer's.
    #[must_use]
    pub fn new(configuration: &Configuration) -> Self {
        let mqtt = &configuration.mqtt;
        let of_mqtt = Instrumentation::new(System::Mqtt)
            .client_id(&mqtt.client_id)
            .server(&mqtt.host, mqtt.port)
            .with_attributes(spanprof::with_attributes);
        let of_rocketmq = Instrumentation::new(System::RocketMq).with_attributes(spanprof::with_attributes);
        let route = |rule: &Rule| {
            // Topics name devices, so spans are named by the filter.
            let filter = rule.filter.to_string();
            Arc::new(Route {
                rule: rule.clone(),
                consumer: of_mqtt.consumer(Destination::from(filter.as_str()).template(filter), None),
                producer: Producer::new(&of_rocketmq, rule.topic.as_str()),
            })
        };
        Self(configuration.rules.iter().map(route).collect())
    }

    /// The first that matches a topic.
    #[must_use]
    pub fn of(&self, topic: &str) -> Option<&Arc<Route>> {
        self.0.iter().find(|route| route.rule.filter.matches(topic))
    }

    /// Their filters, in their order.
    pub fn filters(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|route| route.rule.filter.as_str())
    }
}
