//! The bridge: connections to the MQTT broker, one after the other, until it is stopped.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::timeout;

use crate::backoff::Backoff;
use crate::configuration::Configuration;
use crate::connection::{self, Ended};
use crate::rocketmq::RocketMq;
use crate::routes::Routes;
use crate::stop::Stop;

/// The MQTT broker will not have the bridge; no further attempt would help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

/// Bridges until `stop` says so. Brokers that are away are waited for, however long.
///
/// # Errors
/// Where the MQTT broker refuses the bridge.
pub async fn run(configuration: &Configuration, mut stop: Stop) -> Result<(), Refused> {
    let topics: BTreeSet<_> = configuration.rules.iter().map(|rule| rule.topic.clone()).collect();
    let rocketmq = Arc::new(RocketMq::new(&configuration.rocketmq, topics.into_iter().collect()));
    let routes = Arc::new(Routes::new(configuration));
    let mqtt = &configuration.mqtt;
    let mut waits = Backoff::default();
    let mut is_away = false;
    loop {
        match connection::run(mqtt, &routes, &rocketmq, &mut stop).await {
            Ended::Stopped => return Ok(()),
            Ended::Refused(why) => return Err(Refused(why)),
            Ended::Lost { reason, was_connected } => {
                if was_connected {
                    waits = Backoff::default();
                }
                if was_connected || !is_away {
                    eprintln!("bridge: the MQTT broker at {}:{} is away: {reason}", mqtt.host, mqtt.port);
                }
                is_away = true;
            }
        }
        let wait = waits.next().unwrap_or_default();
        // Whether it was the time or the stop, the next connection sees.
        let _ = timeout(wait, stop.said()).await;
    }
}
