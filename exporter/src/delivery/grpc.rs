//! A call of gRPC, by the HTTP client that is there: a message in a frame, and a status in the trailers.
//!
//! One unary call is a page of gRPC's protocol over HTTP/2. Its library's client was refused: it brings a second HTTP client
//! with a pool, a balancer and TLS of its own, and retries that know nothing of what may have been stored.

use http_body_util::BodyExt as _;
use percent_encoding::percent_decode_str;
use reqwest::header::{CONTENT_TYPE, HeaderMap, TE};
use reqwest::{Body, RequestBuilder, Response, StatusCode};

use super::answers::{self, Attempt, LONGEST_ANSWER};
use super::{DropCause, Failure};

/// Before each message: whether it is compressed, and its length.
const FRAME_HEAD: usize = 5;

/// Status codes of gRPC that decide more than that something failed.
mod code {
    pub(super) const OK: u32 = 0;
    pub(super) const CANCELLED: u32 = 1;
    pub(super) const UNKNOWN: u32 = 2;
    pub(super) const DEADLINE_EXCEEDED: u32 = 4;
    pub(super) const NOT_FOUND: u32 = 5;
    pub(super) const PERMISSION_DENIED: u32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: u32 = 8;
    pub(super) const UNIMPLEMENTED: u32 = 12;
    pub(super) const INTERNAL: u32 = 13;
    pub(super) const UNAVAILABLE: u32 = 14;
    pub(super) const UNAUTHENTICATED: u32 = 16;
}

/// A message that is compressed by gzip, in its frame. What a sink sends is far below the four gigabytes that a frame takes.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let length = message.len() as u32;
    [&[1][..], &length.to_be_bytes(), message].concat()
}

/// The headers that make a request a call.
pub(super) fn named(request: RequestBuilder) -> RequestBuilder {
    request
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header("grpc-encoding", "gzip")
        .header("grpc-accept-encoding", "gzip")
}

/// What an answer means. A server that is none of gRPC answers by HTTP's status alone.
pub(super) async fn judge(response: Response) -> Attempt {
    if response.status() != StatusCode::OK {
        return answers::judge(response).await;
    }
    let headers = response.headers().clone();
    let (message, trailers) = match read(response).await {
        Ok(read) => read,
        // The server has the request and may have stored it.
        Err(error) => return give_up(DropCause::TimedOut, answers::chain(&error)),
    };
    // Where there is no message to answer with, the status may stand in the headers.
    let Some((code, words)) = status(&trailers).or_else(|| status(&headers)) else {
        return give_up(DropCause::Misconfigured, "the server answered without gRPC's status".to_owned());
    };
    verdict(code, words, || answers::plain(message.get(FRAME_HEAD..).unwrap_or_default().to_vec()))
}

/// The beginning of the answer's body, and its trailers.
async fn read(response: Response) -> Result<(Vec<u8>, HeaderMap), reqwest::Error> {
    let mut body = Body::from(response);
    let (mut message, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                let room = LONGEST_ANSWER - message.len();
                message.extend_from_slice(&data[..data.len().min(room)]);
            }
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    Ok((message, trailers))
}

/// The status in a set of headers, and its words.
fn status(headers: &HeaderMap) -> Option<(u32, String)> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status")?.parse().ok()?;
    let words = percent_decode_str(text("grpc-message").unwrap_or_default()).decode_utf8_lossy().into_owned();
    Some((code, words))
}

fn verdict(code: u32, words: String, message: impl FnOnce() -> Vec<u8>) -> Attempt {
    let is_starting = words.contains("service is unavailable");
    let words = match words.as_str() {
        "" => format!("the server answered gRPC's status {code}"),
        words => format!("the server answered gRPC's status {code}: {words}"),
    };
    match code {
        code::OK => Attempt::Stored(message()),
        code::UNAVAILABLE => retry(DropCause::Unreachable, words),
        code::UNKNOWN | code::INTERNAL if is_starting => retry(DropCause::Unreachable, words),
        code::RESOURCE_EXHAUSTED => retry(DropCause::RateLimited, words),
        code::CANCELLED | code::DEADLINE_EXCEEDED => give_up(DropCause::TimedOut, words),
        code::NOT_FOUND | code::PERMISSION_DENIED | code::UNIMPLEMENTED | code::UNAUTHENTICATED => {
            give_up(DropCause::Misconfigured, words)
        }
        _ => give_up(DropCause::Rejected, words),
    }
}

fn retry(cause: DropCause, words: String) -> Attempt {
    Attempt::Retry(Failure { cause, words }, None)
}

fn give_up(cause: DropCause, words: String) -> Attempt {
    Attempt::GiveUp(Failure { cause, words })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_from_headers_whatever_they_hold() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
        };
        let read = |pairs: &[(&'static str, &'static str)]| status(&headers(pairs));
        assert_eq!(read(&[("grpc-status", "0")]), Some((0, String::new())));
        let words = "zu groß: 5%";
        assert_eq!(
            read(&[("grpc-status", "8"), ("grpc-message", "zu gro%C3%9F: 5%")]),
            Some((8, words.to_owned()))
        );
        assert_eq!(read(&[("grpc-status", "eight")]), None);
        assert_eq!(read(&[("grpc-message", "no status")]), None);
    }

    #[test]
    fn only_what_was_surely_not_stored_is_tried_again() {
        let again = |code, words: &str| match verdict(code, words.to_owned(), Vec::new) {
            Attempt::Stored(_) => None,
            Attempt::Retry(failure, _) => Some((true, failure.cause)),
            Attempt::GiveUp(failure) => Some((false, failure.cause)),
        };
        assert_eq!(again(code::OK, ""), None);
        assert_eq!(again(code::UNAVAILABLE, ""), Some((true, DropCause::Unreachable)));
        assert_eq!(again(code::RESOURCE_EXHAUSTED, ""), Some((true, DropCause::RateLimited)));
        assert_eq!(again(code::UNKNOWN, "the service is unavailable"), Some((true, DropCause::Unreachable)));
        assert_eq!(again(code::UNKNOWN, "gzip reset"), Some((false, DropCause::Rejected)));
        assert_eq!(again(code::DEADLINE_EXCEEDED, ""), Some((false, DropCause::TimedOut)));
        assert_eq!(again(code::UNIMPLEMENTED, ""), Some((false, DropCause::Misconfigured)));
        assert_eq!(again(3, "bad index"), Some((false, DropCause::Rejected)));
    }
}
