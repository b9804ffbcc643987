//! What carries a request to the server and its answer back.

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::{ClientBuilder, RequestBuilder, Response};

use super::answers::{self, Attempt};

/// How a compressed message becomes a request, and an answer a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// A POST whose body is the message.
    Post {
        /// What the body is.
        content_type: &'static str,
    },
    /// A call of gRPC.
    #[cfg(feature = "grpc")]
    Grpc,
}

impl Carrier {
    /// A client that speaks it.
    pub(super) fn client(self, builder: ClientBuilder) -> ClientBuilder {
        match self {
            Carrier::Post { .. } => builder,
            #[cfg(feature = "grpc")]
            Carrier::Grpc => builder.http2_prior_knowledge(),
        }
    }

    /// The body of a request with a message that is compressed by gzip.
    pub(super) fn body(self, message: bytes::Bytes) -> bytes::Bytes {
        match self {
            Carrier::Post { .. } => message,
            #[cfg(feature = "grpc")]
            Carrier::Grpc => super::grpc::framed(&message).into(),
        }
    }

    /// A request with the headers that say what its body is.
    pub(super) fn named(self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Carrier::Post { content_type } => {
                request.header(CONTENT_TYPE, content_type).header(CONTENT_ENCODING, "gzip")
            }
            #[cfg(feature = "grpc")]
            Carrier::Grpc => super::grpc::named(request),
        }
    }

    /// What an answer means.
    pub(super) async fn judge(self, response: Response) -> Attempt {
        match self {
            Carrier::Post { .. } => answers::judge(response).await,
            #[cfg(feature = "grpc")]
            Carrier::Grpc => super::grpc::judge(response).await,
        }
    }
}
