//! What can go wrong in a process of the demo.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a process of the demo ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// A socket could not be opened or used.
    #[error("{what}: {source}")]
    Network {
        /// What was tried.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The broker ended or never accepted a connection.
    #[error("the broker on {address} does not answer: {reason}")]
    Broker {
        /// Where it was expected.
        address: SocketAddr,
        /// What is known.
        reason: String,
    },
    /// The connection to the broker was lost or refused.
    #[error("connection to the broker: {0}")]
    Connection(#[from] Box<rumqttc::v5::ConnectionError>),
    /// The client refused a request.
    #[error("request to the broker: {0}")]
    Client(#[from] Box<rumqttc::v5::ClientError>),
    /// The official broker is not on this machine.
    #[error("{what}; get it by `{command}`")]
    Missing {
        /// What is missing, in words.
        what: String,
        /// The command that gets it.
        command: String,
    },
    /// The official broker is here and did not start, or refused a topic or a group.
    #[error("{0}")]
    Refused(String),
    /// RocketMQ's client failed.
    #[cfg(feature = "rocketmq")]
    #[error("RocketMQ's client: {0}")]
    RocketMq(#[from] Box<rocketmq::error::ClientError>),
    /// Kafka's client failed.
    #[cfg(feature = "kafka")]
    #[error("Kafka's client: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// The truth file could not be written.
    #[error("{}: {source}", path.display())]
    Truth {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A thread, runtime or signal handler could not be set up.
    #[error("setting up: {0}")]
    Setup(#[from] std::io::Error),
    /// One of the three processes could not be started or said something unexpected.
    #[error("the {role} process: {reason}")]
    Process {
        /// Which of the three.
        role: &'static str,
        /// What happened.
        reason: String,
    },
}

#[cfg(any(feature = "rocketmq", feature = "kafka"))]
impl From<spanprof_brokers::StartError> for DemoError {
    fn from(error: spanprof_brokers::StartError) -> Self {
        match error {
            spanprof_brokers::StartError::NotHere(missing) => {
                Self::Missing { what: missing.what().to_owned(), command: missing.command().to_owned() }
            }
            failed => Self::Refused(failed.to_string()),
        }
    }
}

#[cfg(any(feature = "rocketmq", feature = "kafka"))]
impl From<spanprof_brokers::Refused> for DemoError {
    fn from(refused: spanprof_brokers::Refused) -> Self {
        Self::Refused(refused.to_string())
    }
}
