//! One connection to the MQTT broker, from CONNECT to its end.
//!
//! The broker is told how many messages may be with the bridge. Not all keep to it (mosquitto 2.0.11 sends more as
//! soon as one is acknowledged, and whatever it likes to a session that goes on), so reading stops while there is no
//! room. Where it stops for longer than one and a half times the keep-alive, as RocketMQ is away, the broker ends the
//! connection. That costs a reconnect and some messages that come twice.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectReturnCode, DisconnectReasonCode, Filter, RetainForwardRule, SubAck, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, Incoming, MqttOptions, StateError};
use tokio::time::timeout;

use crate::configuration::Mqtt;
use crate::forwarding::{Forwarding, Taken};
use crate::rocketmq::RocketMq;
use crate::routes::Routes;
use crate::stop::Stop;

/// After so long without a word the broker is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// More than there are packet identifiers, by a few.
const REQUESTS: usize = u16::MAX as usize + 8;

/// How a connection ended.
#[derive(Debug)]
pub enum Ended {
    /// As it was told to.
    Stopped,
    /// It broke, or did not come about: another one may.
    Lost {
        /// What the client says.
        reason: String,
        /// Whether there was one.
        was_connected: bool,
    },
    /// The broker refuses the bridge, and will again.
    Refused(String),
}

/// Receives and forwards until the connection ends or `stop` says so.
pub async fn run(mqtt: &Mqtt, routes: &Arc<Routes>, rocketmq: &Arc<RocketMq>, stop: &mut Stop) -> Ended {
    // Acknowledgements never wait for room, as nobody polls while a message waits for its own: there are fewer packet
    // identifiers.
    let (client, mut event_loop) = AsyncClient::new(options(mqtt), REQUESTS);
    // It goes out when the connection is there. Each time, as the rules may have changed, or the broker lost the
    // session.
    client
        .try_subscribe_many(routes.filters().map(subscription))
        .expect("filters are well-formed, and there is room");
    let forwarding = Forwarding::start(routes, rocketmq, client.clone(), mqtt.in_flight);
    let ended = tokio::select! {
        biased;
        () = stop.said() => Ended::Stopped,
        ended = receive(mqtt, routes, &mut event_loop, &forwarding) => ended,
    };
    if matches!(ended, Ended::Stopped) {
        forwarding.close().await;
        let _ = timeout(FAREWELL, take_leave(&client, &mut event_loop)).await;
    } else {
        // So that nothing is acknowledged any more: the numbers would be another connection's.
        drop(event_loop);
        forwarding.close().await;
    }
    ended
}

fn options(mqtt: &Mqtt) -> MqttOptions {
    let mut options = MqttOptions::new(&mqtt.client_id, &mqtt.host, mqtt.port);
    options
        .set_keep_alive(KEEP_ALIVE)
        .set_clean_start(false)
        .set_session_expiry_interval(Some(mqtt.session_expiry))
        .set_receive_maximum(Some(mqtt.in_flight))
        .set_max_packet_size(Some(mqtt.largest_packet))
        .set_manual_acks(true);
    if let Some(login) = &mqtt.login {
        options.set_credentials(&login.user, &login.secret);
    }
    options
}

fn subscription(filter: &str) -> Filter {
    Filter {
        // Retained messages once, and not at each connection.
        retain_forward_rule: RetainForwardRule::OnNewSubscribe,
        ..Filter::new(filter, QoS::AtLeastOnce)
    }
}

async fn receive(mqtt: &Mqtt, routes: &Routes, event_loop: &mut EventLoop, forwarding: &Forwarding) -> Ended {
    let mut was_connected = false;
    let mut dropped = 0_u64;
    let mut unmatched = 0_u64;
    loop {
        let incoming = match event_loop.poll().await {
            Ok(Event::Incoming(incoming)) => incoming,
            Ok(Event::Outgoing(_)) => continue,
            Err(error) => return lost(mqtt, &error, was_connected),
        };
        match incoming {
            Incoming::ConnAck(answer) => {
                was_connected = true;
                let session =
                    if answer.session_present { "its session goes on" } else { "it has a new session" };
                eprintln!(
                    "bridge: {} is connected to {}:{}; {session}",
                    mqtt.client_id, mqtt.host, mqtt.port
                );
            }
            Incoming::SubAck(answer) => {
                if let Some(refused) = refused(routes, &answer) {
                    return Ended::Refused(refused);
                }
                eprintln!("bridge: subscribed");
            }
            Incoming::Publish(publish) => match forwarding.take(publish).await {
                Taken::Forwarded => {}
                Taken::Unmatched => {
                    unmatched += 1;
                    if unmatched.is_power_of_two() {
                        eprintln!(
                            "bridge: {unmatched} messages matched no rule: the session has older subscriptions"
                        );
                    }
                }
                Taken::Dropped => {
                    dropped += 1;
                    if dropped.is_power_of_two() {
                        eprintln!("bridge: {dropped} messages of QoS 0 had no room and were dropped");
                    }
                }
            },
            _ => {}
        }
    }
}

/// What the broker doesn't let the bridge subscribe to.
fn refused(routes: &Routes, answer: &SubAck) -> Option<String> {
    let mut codes = routes.filters().zip(&answer.return_codes);
    let is_granted = |code: &SubscribeReasonCode| {
        matches!(code, SubscribeReasonCode::Success(QoS::AtLeastOnce | QoS::ExactlyOnce))
    };
    let (filter, code) = codes.find(|(_, code)| !is_granted(code))?;
    Some(match code {
        SubscribeReasonCode::Success(_) => {
            format!(
                "the broker grants QoS 0 alone for `{filter}`, by which messages get lost; allow it QoS 1"
            )
        }
        code => format!(
            "the broker refuses the subscription to `{filter}`: {code:?}; allow it there, or remove the rule"
        ),
    })
}

fn lost(mqtt: &Mqtt, error: &ConnectionError, was_connected: bool) -> Ended {
    use ConnectReturnCode as Code;
    match error {
        ConnectionError::ConnectionRefused(
            code @ (Code::BadUserNamePassword
            | Code::NotAuthorized
            | Code::Banned
            | Code::BadAuthenticationMethod
            | Code::BadClientId
            | Code::ClientIdentifierNotValid
            | Code::RefusedProtocolVersion
            | Code::UnsupportedProtocolVersion),
        ) => Ended::Refused(format!(
            "the broker refuses `{}`: {code:?}; look at `username`, `password_file` and `client_id`, and whether it \
             speaks MQTT 5",
            mqtt.client_id
        )),
        ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        }) => Ended::Refused(format!(
            "another client has connected as `{}`; give each bridge a `client_id` of its own",
            mqtt.client_id
        )),
        error => Ended::Lost { reason: error.to_string(), was_connected },
    }
}

/// Sends the acknowledgements that are left, and a DISCONNECT behind them. The session stays.
async fn take_leave(client: &AsyncClient, event_loop: &mut EventLoop) {
    if client.disconnect().await.is_err() {
        return;
    }
    while let Ok(event) = event_loop.poll().await {
        if event == Event::Outgoing(Outgoing::Disconnect) {
            return;
        }
    }
}
