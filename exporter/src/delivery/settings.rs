//! What every sink with a server must be told, and what is wrong with it.

use std::fmt;

/// How to sign in.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Not at all.
    #[default]
    None,
    /// HTTP basic authentication.
    Basic {
        /// The user; for Grafana Cloud the instance's number.
        user: String,
        /// The password or key.
        password: String,
    },
    /// A bearer token.
    Bearer {
        /// The token.
        token: String,
    },
}

/// Secrets don't belong in logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Credentials::None => "None",
            Credentials::Basic { .. } => "Basic { .. }",
            Credentials::Bearer { .. } => "Bearer { .. }",
        })
    }
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The address is no URL.
    #[error("{url:?} is no address of a server ({reason}): it should look like http://localhost:4040")]
    Url {
        /// The address given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A label or tag that the server would refuse or hide.
    #[error("the tag {name:?} can't be used: {reason}")]
    Tag {
        /// The name given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A tenant or credential that can't be sent in a header.
    #[error("the {what} holds characters that HTTP can't send")]
    Header {
        /// Which of them.
        what: &'static str,
    },
    /// A number that can't work.
    #[error("{what} must be {must}")]
    Number {
        /// Which of them.
        what: &'static str,
        /// What it must be.
        must: &'static str,
    },
}
