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
