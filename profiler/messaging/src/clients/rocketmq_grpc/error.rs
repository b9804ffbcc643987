//! What fails, and the spans' word for it.

use std::fmt;

use rocketmq::error::{ClientError, ErrorKind};

use crate::MessageSpan;

/// Why a message was not settled, and will come again.
#[derive(Debug)]
pub enum Unsettled<E> {
    /// Its handler failed.
    Handler(E),
    /// It was processed, but the acknowledgement failed.
    Acknowledgement(ClientError),
}

impl<E: fmt::Display> fmt::Display for Unsettled<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handler(error) => error.fmt(out),
            Self::Acknowledgement(error) => write!(out, "not acknowledged: {error}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for Unsettled<E> {}

pub(super) fn end<T>(span: MessageSpan, result: Result<T, ClientError>) -> Result<T, ClientError> {
    match &result {
        Ok(_) => span.done(),
        Err(error) => span.failed(error_type(error), error),
    }
    result
}

/// The proxy's name for an error, such as `TOPIC_NOT_FOUND`; of one that isn't the proxy's, the client's kind of it.
#[must_use]
pub fn error_type(error: &ClientError) -> String {
    let code = error.context().iter().find(|(key, _)| *key == "code").map(|(_, code)| code.clone());
    match (error.kind(), code) {
        (ErrorKind::Server, Some(code)) => code,
        (kind, _) => format!("{kind:?}"),
    }
}
