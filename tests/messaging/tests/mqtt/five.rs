//! The client by MQTT 5: one that subscribes, one that publishes.

use std::future::Future;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Publish;
use rumqttc::v5::{AsyncClient, Event, EventLoop, Incoming, MqttOptions};
use spanprof_brokers::Mosquitto;

use crate::address;

/// More than the acknowledgements that can wait to go out.
const REQUESTS: usize = 1_000;

/// Subscribes with QoS 1, and acknowledges by hand.
pub(crate) struct Subscriber {
    pub(crate) client: AsyncClient,
    events: EventLoop,
}

impl Subscriber {
    /// Returns when it is subscribed.
    pub(crate) async fn new(broker: &Mosquitto, id: &str, topic: &str) -> Self {
        let (host, port) = address(broker);
        let mut options = MqttOptions::new(id, host, port);
        options.set_manual_acks(true);
        let (client, mut events) = AsyncClient::new(options, REQUESTS);
        client.subscribe(topic, QoS::AtLeastOnce).await.expect("there is room");
        while !matches!(
            events.poll().await.expect("the broker is there"),
            Event::Incoming(Incoming::SubAck(_))
        ) {}
        Self { client, events }
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Publish {
        loop {
            if let Event::Incoming(Incoming::Publish(message)) =
                self.events.poll().await.expect("the broker is there")
            {
                return message;
            }
        }
    }
}

/// Runs a publisher, until it is through and the broker has closed the connection.
pub(crate) async fn publish<F: Future<Output = ()>>(
    broker: &Mosquitto,
    id: &str,
    publisher: impl FnOnce(AsyncClient) -> F,
) {
    let (host, port) = address(broker);
    let (client, mut events) = AsyncClient::new(MqttOptions::new(id, host, port), 16);
    let publisher = publisher(client.clone());
    // Behind the last message, so that the broker reads that before it closes.
    let publish = async {
        publisher.await;
        client.disconnect().await.expect("the event loop runs");
    };
    let run = async { while events.poll().await.is_ok() {} };
    tokio::join!(publish, run);
}
