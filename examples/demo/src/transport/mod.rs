//! How orders travel: by which protocol, through which broker.
//!
//! The story is the same on all of them. MQTT needs nothing but the program itself; the official brokers need Java, and
//! are behind features, as their clients are heavy.

#[cfg(feature = "kafka")]
pub(crate) mod kafka;
pub(crate) mod mqtt;
#[cfg(any(feature = "rocketmq", feature = "kafka"))]
pub(crate) mod official;
#[cfg(feature = "rocketmq")]
pub(crate) mod rocketmq;

use crate::error::DemoError;

/// A protocol with its broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    /// MQTT 5, by a broker inside the process.
    #[default]
    Mqtt,
    /// The official RocketMQ, over gRPC.
    #[cfg(feature = "rocketmq")]
    #[value(name = "rocketmq")]
    RocketMq,
    /// The official Kafka.
    #[cfg(feature = "kafka")]
    Kafka,
}

impl Transport {
    /// The broker's name, with its version where it has one.
    pub fn broker(self) -> String {
        match self {
            Self::Mqtt => "an MQTT broker".to_owned(),
            #[cfg(feature = "rocketmq")]
            Self::RocketMq => rocketmq::title(),
            #[cfg(feature = "kafka")]
            Self::Kafka => kafka::title(),
        }
    }

    /// Gets what the broker needs and this machine lacks; it says on the standard error what it gets, as that takes time.
    ///
    /// Errors with [`DemoError::Missing`] where that can't be had.
    pub fn prepare(self) -> Result<(), DemoError> {
        match self {
            Self::Mqtt => Ok(()),
            #[cfg(feature = "rocketmq")]
            Self::RocketMq => Ok(spanprof_brokers::RocketMqVersion::Newest.fetch()?),
            #[cfg(feature = "kafka")]
            Self::Kafka => Ok(spanprof_brokers::Kafka::fetch()?),
        }
    }
}
