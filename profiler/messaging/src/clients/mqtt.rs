//! MQTT by `rumqttc`: version 5 with user properties, 3.1.1 with nothing or with JSON by choice.
//!
//! ```no_run
//! use rumqttc::v5::mqttbytes::QoS;
//! use rumqttc::v5::{AsyncClient, Event, EventLoop, Incoming};
//! use spanprof_messaging::{Destination, Instrumentation, System, clients::mqtt};
//!
//! # async fn run(client: AsyncClient, mut event_loop: EventLoop) -> Result<(), Box<dyn std::error::Error>> {
//! let instrumentation = Instrumentation::new(System::Mqtt);
//! // Topics name devices, so spans are named by a template.
//! let celsius = Destination::from("sensors/7/celsius").template("sensors/{sensor}/celsius");
//!
//! let readings = instrumentation.producer(celsius.clone());
//! mqtt::v5::publish(&readings, &client, "sensors/7/celsius", QoS::AtLeastOnce, "21", Default::default()).await?;
//!
//! let readings = instrumentation.consumer(celsius, None);
//! if let Event::Incoming(Incoming::Publish(message)) = event_loop.poll().await? {
//!     let process = mqtt::v5::process(&readings, &message);
//!     process.enter(|| { /* the work */ });
//!     process.done();
//!     mqtt::v5::acknowledge(&readings, &client, &message).await?; // with `set_manual_acks(true)`
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is true of the client
//!
//! * Its `publish` returns when its event loop has the message. A send span says that, and not that a broker answered, which
//!   this client doesn't tell.
//! * An acknowledgement names a packet of the connection that it came by. One that is sent after a reconnect may confirm
//!   another message, if the broker has lost the session: `examples/mqtt-rocketmq-bridge` shows how to keep them apart.
//!
//! Refused: `rumqttc-next`, a successor by another maintainer, which does tell of answers. Its API is another one, and
//! services have this one.

use std::fmt::Display;

use crate::MessageSpan;

/// Ends a span by what the client gave. Its errors have no names of their own.
fn end<E: Display>(span: MessageSpan, result: Result<(), E>) -> Result<(), E> {
    match &result {
        Ok(()) => span.done(),
        Err(error) => span.failed("ClientError", error),
    }
    result
}

/// Version 5.
pub mod v5 {
    use std::borrow::Cow;

    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{Publish, PublishProperties};
    use rumqttc::v5::{AsyncClient, ClientError};

    use super::end;
    use crate::carrier::Carrier;
    use crate::mqtt::json;
    use crate::{Consumer, Message, MessageSpan, Producer, Settlement, TraceContext};

    /// The user properties of a message that came; the first of a key counts.
    #[derive(Clone, Copy, Debug)]
    pub struct Received<'a>(pub &'a Publish);

    impl Carrier for Received<'_> {
        fn value(&self, key: &str) -> Option<&[u8]> {
            self.0.properties.as_ref()?.user_properties.value(key)
        }
    }

    /// The user properties or, where these have no context, the payload as JSON: for consumers of devices of both versions.
    #[derive(Clone, Copy, Debug)]
    pub struct ReceivedOrJson<'a> {
        properties: Received<'a>,
        payload: Option<json::Payload<'a>>,
    }

    impl<'a> ReceivedOrJson<'a> {
        /// Chooses one for both keys: a `tracestate` belongs to the `traceparent` beside it.
        #[must_use]
        pub fn new(publish: &'a Publish) -> Self {
            let properties = Received(publish);
            let has_context = TraceContext::extract(&properties).is_some();
            Self { properties, payload: (!has_context).then_some(json::Payload(&publish.payload)) }
        }
    }

    impl Carrier for ReceivedOrJson<'_> {
        fn value(&self, key: &str) -> Option<&[u8]> {
            match &self.payload {
                Some(payload) => payload.value(key),
                None => self.properties.value(key),
            }
        }
    }

    /// The topic, where it is text, as the standard asks.
    pub fn topic(publish: &Publish) -> Cow<'_, str> {
        String::from_utf8_lossy(&publish.topic)
    }

    /// What a message says of itself.
    pub fn facts(publish: &Publish) -> Message<'_> {
        let facts = Message::new().body_size(publish.payload.len());
        match std::str::from_utf8(&publish.topic) {
            Ok(topic) => facts.destination(topic),
            Err(_) => facts,
        }
    }

    /// Publishes within a send span, whose context goes along as user properties. Not retained: who publishes a message that
    /// stays calls [`publishing`] and the client.
    ///
    /// # Errors
    /// The client's own.
    pub async fn publish(
        producer: &Producer,
        client: &AsyncClient,
        topic: &str,
        qos: QoS,
        payload: impl Into<Vec<u8>>,
        mut properties: PublishProperties,
    ) -> Result<(), ClientError> {
        let payload = payload.into();
        let span = publishing(producer, topic, payload.len(), &mut properties);
        end(span, client.publish_with_properties(topic, qos, false, payload, properties).await)
    }

    /// Begins to publish, and puts the span's context into the properties.
    pub fn publishing(
        producer: &Producer,
        topic: &str,
        body_size: usize,
        properties: &mut PublishProperties,
    ) -> MessageSpan {
        let facts = Message::new().destination(topic).body_size(body_size);
        producer.send(&mut properties.user_properties, &facts)
    }

    /// Begins to process a message.
    pub fn process(consumer: &Consumer, publish: &Publish) -> MessageSpan {
        consumer.process(&Received(publish), &facts(publish))
    }

    /// Begins to process a message whose payload may carry a context, if its user properties have none.
    pub fn process_json(consumer: &Consumer, publish: &Publish) -> MessageSpan {
        consumer.process(&ReceivedOrJson::new(publish), &facts(publish))
    }

    /// Acknowledges a message within a settle span. One of QoS 0 needs none.
    ///
    /// # Errors
    /// The client's own.
    pub async fn acknowledge(
        consumer: &Consumer,
        client: &AsyncClient,
        publish: &Publish,
    ) -> Result<(), ClientError> {
        if publish.qos == QoS::AtMostOnce {
            return Ok(());
        }
        let span = consumer.settle(Settlement::Acknowledge, &Received(publish), &facts(publish));
        end(span, client.ack(publish).await)
    }
}

/// Version 3.1.1, which has nowhere to put a context.
pub mod v4 {
    use rumqttc::{AsyncClient, ClientError, Publish, QoS};

    use super::end;
    use crate::mqtt::json;
    use crate::{Consumer, Message, MessageSpan, Producer, Settlement};

    /// What a message says of itself.
    pub fn facts(publish: &Publish) -> Message<'_> {
        facts_of(&publish.topic, publish.payload.len())
    }

    fn facts_of(topic: &str, body_size: usize) -> Message<'_> {
        Message::new().destination(topic).body_size(body_size)
    }

    /// Publishes within a send span, and changes nothing on the wire: the gateway starts the trace.
    ///
    /// # Errors
    /// The client's own.
    pub async fn publish(
        producer: &Producer,
        client: &AsyncClient,
        topic: &str,
        qos: QoS,
        payload: impl Into<Vec<u8>>,
    ) -> Result<(), ClientError> {
        let payload = payload.into();
        let span = producer.send(&mut (), &facts_of(topic, payload.len()));
        end(span, client.publish(topic, qos, false, payload).await)
    }

    /// As [`publish`], with the context as a member of the payload, if that is a JSON object: see [`json`]. All who read the
    /// payload see that member.
    ///
    /// # Errors
    /// The client's own.
    pub async fn publish_json(
        producer: &Producer,
        client: &AsyncClient,
        topic: &str,
        qos: QoS,
        payload: &[u8],
    ) -> Result<(), ClientError> {
        let span = producer.send(&mut (), &facts_of(topic, payload.len()));
        let payload = json::insert(payload, span.trace_context().as_ref()).into_owned();
        end(span, client.publish(topic, qos, false, payload).await)
    }

    /// Begins to process a message, which carries nothing.
    pub fn process(consumer: &Consumer, publish: &Publish) -> MessageSpan {
        consumer.process(&(), &facts(publish))
    }

    /// Begins to process a message whose payload may carry a context.
    pub fn process_json(consumer: &Consumer, publish: &Publish) -> MessageSpan {
        consumer.process(&json::Payload(&publish.payload), &facts(publish))
    }

    /// Acknowledges a message within a settle span. One of QoS 0 needs none.
    ///
    /// # Errors
    /// The client's own.
    pub async fn acknowledge(
        consumer: &Consumer,
        client: &AsyncClient,
        publish: &Publish,
    ) -> Result<(), ClientError> {
        if publish.qos == QoS::AtMostOnce {
            return Ok(());
        }
        let span = consumer.settle(Settlement::Acknowledge, &(), &facts(publish));
        end(span, client.ack(publish).await)
    }
}

#[cfg(test)]
mod tests {
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{Publish, PublishProperties};

    use super::v5;
    use crate::{Carrier, Instrumentation, System, TraceContext};

    const CONTEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const OTHER: &str = "00-11111111111111111111111111111111-1111111111111111-01";

    fn publish(payload: &str, properties: &[(&str, &str)]) -> Publish {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let properties = PublishProperties {
            user_properties: properties.iter().map(owned).collect(),
            ..PublishProperties::default()
        };
        Publish::new("t", QoS::AtLeastOnce, payload.to_owned(), Some(properties))
    }

    fn trace_of<C: Carrier>(carrier: &C) -> Option<String> {
        TraceContext::extract(carrier).map(|context| context.to_traceparent().as_str().to_owned())
    }

    #[test]
    fn the_first_user_property_counts() {
        let both = publish("", &[("traceparent", CONTEXT), ("traceparent", OTHER)]);
        assert_eq!(trace_of(&v5::Received(&both)).as_deref(), Some(CONTEXT));
        let without = Publish::new("t", QoS::AtMostOnce, "", None);
        assert_eq!(trace_of(&v5::Received(&without)), None);
    }

    #[test]
    fn user_properties_come_before_json_and_keep_their_own_state() {
        let json = format!("{{\"traceparent\":\"{OTHER}\",\"tracestate\":\"a=1\"}}");
        let both = publish(&json, &[("traceparent", CONTEXT)]);
        let carrier = v5::ReceivedOrJson::new(&both);
        assert_eq!(trace_of(&carrier).as_deref(), Some(CONTEXT));
        assert_eq!(carrier.value("tracestate"), None);
        let junk = publish(&json, &[("traceparent", "junk")]);
        let carrier = v5::ReceivedOrJson::new(&junk);
        assert_eq!(trace_of(&carrier).as_deref(), Some(OTHER));
        assert_eq!(carrier.value("tracestate"), Some(&b"a=1"[..]));
    }

    #[test]
    fn what_is_published_carries_its_span_once() {
        use opentelemetry_sdk::trace::SdkTracerProvider;
        let provider = SdkTracerProvider::builder().build();
        let readings = Instrumentation::new(System::Mqtt).with_tracer_provider(&provider).producer("t");
        let mut properties = PublishProperties::default();
        properties.user_properties.push(("firmware".into(), "1.2".into()));
        let span = v5::publishing(&readings, "t", 2, &mut properties);
        let traceparent = span.trace_context().unwrap().to_traceparent();
        let expected = [("firmware", "1.2"), ("traceparent", traceparent.as_str())];
        let written = properties.user_properties.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        assert_eq!(written.collect::<Vec<_>>(), expected);
    }
}
