//! Helpers for clients that people use, each behind a feature by the client's name.
//!
//! A helper wraps a call of the client's own: it takes the client's types, gives back what the client gives back, and makes
//! the spans around it. Whatever it has no function for is called on the client as ever. Refused: types that stand in for
//! the client's. They would have to follow every version of it, and to hide what they don't know.

#[cfg(feature = "rdkafka")]
pub mod kafka;
#[cfg(feature = "rumqttc")]
pub mod mqtt;
#[cfg(feature = "async-nats")]
pub mod nats;
#[cfg(feature = "rocketmq")]
pub mod rocketmq_grpc;
#[cfg(feature = "rocketmq-remoting")]
pub mod rocketmq_remoting;
