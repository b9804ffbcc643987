//! A bridge from MQTT to RocketMQ that people could deploy: it loses nothing that it has acknowledged, and each
//! message stays in its device's trace.
//!
//! # How a message travels
//!
//! 1. A device publishes, by MQTT 3.1.1 or 5; the MQTT broker keeps the message for the bridge's session.
//! 2. [`connection`] receives it. At most `in_flight` messages are with the bridge at a time: the broker is told so,
//!    and reading stops where it sends more.
//! 3. [`forwarding`] hands it to one of a few lanes, by its topic: what one device says on a topic goes to RocketMQ in
//!    its order, and a slow topic does not hold up the others.
//! 4. A lane begins the process span, in the trace of the device's send span or, where the message carries none, as the
//!    first of a trace. [`rocketmq`] sends the message within it until RocketMQ has given its receipt.
//! 5. Then, and in the order of receipt, the bridge acknowledges to the MQTT broker.
//!
//! A bridge that is killed between 4 and 5 gets the message again: **at least once**, and twice at times. Both copies
//! stand in the device's trace.
//!
//! # What was refused
//!
//! - **Going on with a connection's acknowledgements after it broke.** They name packets of that connection, and one
//!   that comes late may confirm another message under the same number. A connection has a client and acknowledgements
//!   of its own, and all end with it.
//! - **A store of its own.** The MQTT broker's session is one, and has to be there anyway.
//! - **Acknowledging what RocketMQ refuses.** It is tried again, and said on the terminal, until somebody mends the
//!   topic.

pub mod backoff;
pub mod bridge;
pub mod configuration;
pub mod connection;
pub mod filter;
pub mod forwarding;
pub mod message;
pub mod rocketmq;
pub mod routes;
pub mod span_file;
pub mod stop;
