//! A device: publishes ten readings and prints its spans, as lines of JSON.
//!
//! ```text
//! tests/brokers/broker start mosquitto
//! cargo run --manifest-path examples/mqtt-rocketmq-bridge/Cargo.toml --bin device
//! cargo run --manifest-path examples/mqtt-rocketmq-bridge/Cargo.toml --bin device -- --mqtt 3.1.1
//! ```
//!
//! By MQTT 5 the trace goes along as a user property. 3.1.1 has none, so it becomes a member of the payload, which has
//! to be JSON then; all who read the payload see it.

use clap::{Parser, ValueEnum};
use opentelemetry_sdk::trace::SdkTracerProvider;
use rumqttc::v5;
use spanprof_messaging::clients::mqtt;
use spanprof_messaging::{Destination, Instrumentation, Producer, System};
use spanprof_mqtt_rocketmq_bridge::span_file::SpanLines;

/// Publishes temperatures, each within a send span, and waits until the broker has them.
#[derive(Debug, Parser)]
struct Arguments {
    /// The version of MQTT.
    #[arg(long, default_value = "5")]
    mqtt: Version,
    /// The broker's host.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The broker's port.
    #[arg(long, default_value_t = 1883)]
    port: u16,
    /// Which sensor it is.
    #[arg(long, default_value = "7")]
    sensor: String,
    /// How many readings.
    #[arg(long, default_value_t = 10)]
    readings: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Version {
    #[value(name = "3.1.1")]
    Three,
    #[value(name = "5")]
    Five,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    // Each thread publishes the span that it works on, for a profiler beside it.
    let _spanprof = spanprof::Agent::builder().service_name("device").start()?;
    let spans = SdkTracerProvider::builder().with_span_processor(SpanLines::to(std::io::stdout())).build();
    // Once per topic. The topic names the sensor, so its spans are named by a template.
    let topic = format!("sensors/{}/celsius", arguments.sensor);
    let destination = Destination::from(topic.as_str()).template("sensors/{sensor}/celsius");
    let readings = Instrumentation::new(System::Mqtt).with_tracer_provider(&spans).producer(destination);
    match arguments.mqtt {
        Version::Three => three(&arguments, &topic, &readings).await,
        Version::Five => five(&arguments, &topic, &readings).await,
    }
}

fn reading(number: u32) -> String {
    format!("{{\"number\":{number},\"celsius\":{}.5}}", 20 + number % 5)
}

async fn three(
    arguments: &Arguments,
    topic: &str,
    readings: &Producer,
) -> Result<(), Box<dyn std::error::Error>> {
    use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS};
    let options = MqttOptions::new(format!("sensor-{}", arguments.sensor), &arguments.host, arguments.port);
    let (client, mut event_loop) = AsyncClient::new(options, arguments.readings as usize + 1);
    for number in 0..arguments.readings {
        // Instead of `client.publish(…)`. Without the word `json` nothing changes on the wire, and the bridge starts
        // the trace.
        let payload = reading(number).into_bytes();
        mqtt::v4::publish_json(readings, &client, topic, QoS::AtLeastOnce, &payload).await?;
    }
    let mut acknowledged = 0;
    while acknowledged < arguments.readings {
        if let Event::Incoming(Incoming::PubAck(_)) = event_loop.poll().await? {
            acknowledged += 1;
        }
    }
    Ok(())
}

async fn five(
    arguments: &Arguments,
    topic: &str,
    readings: &Producer,
) -> Result<(), Box<dyn std::error::Error>> {
    use v5::mqttbytes::{QoS, v5::PublishProperties};
    use v5::{AsyncClient, Event, Incoming, MqttOptions};
    let options = MqttOptions::new(format!("sensor-{}", arguments.sensor), &arguments.host, arguments.port);
    let (client, mut event_loop) = AsyncClient::new(options, arguments.readings as usize + 1);
    for number in 0..arguments.readings {
        let properties = PublishProperties {
            content_type: Some("application/json".to_owned()),
            user_properties: vec![("firmware".to_owned(), "1.2".to_owned())],
            ..PublishProperties::default()
        };
        // Instead of `client.publish_with_properties(…)`.
        mqtt::v5::publish(readings, &client, topic, QoS::AtLeastOnce, reading(number), properties).await?;
    }
    let mut acknowledged = 0;
    while acknowledged < arguments.readings {
        if let Event::Incoming(Incoming::PubAck(_)) = event_loop.poll().await? {
            acknowledged += 1;
        }
    }
    Ok(())
}
