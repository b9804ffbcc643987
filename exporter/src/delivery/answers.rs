//! What a server's answer, or its silence, means for a request.

use std::io::Read;
use std::time::Duration;

use flate2::read::GzDecoder;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};

use super::{DropCause, Failure};

/// What came of one attempt.
pub(super) enum Attempt {
    /// Taken; the beginning of the answer.
    Stored(Vec<u8>),
    /// It can pass later; how long the server asks to wait, where it does.
    Retry(Failure, Option<Duration>),
    /// It can never pass, or may have been stored.
    GiveUp(Failure),
}

/// What is read of an answer's body: enough for a sentence.
pub(super) const LONGEST_ANSWER: usize = 4096;

/// What a server's answer means for the request.
pub(super) async fn judge(response: Response) -> Attempt {
    let status = response.status();
    let asked_for = retry_after(response.headers());
    let body = body(response).await;
    if status.is_success() {
        return Attempt::Stored(body);
    }
    let text = String::from_utf8_lossy(&body);
    let words = match text.trim() {
        "" => format!("the server answered {status}"),
        text => format!("the server answered {status}: {text}"),
    };
    let failure = |cause| Failure { cause, words };
    match status {
        StatusCode::TOO_MANY_REQUESTS => Attempt::Retry(failure(DropCause::RateLimited), asked_for),
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => {
            Attempt::Retry(failure(DropCause::Unreachable), asked_for)
        }
        StatusCode::GATEWAY_TIMEOUT => Attempt::GiveUp(failure(DropCause::TimedOut)),
        StatusCode::INTERNAL_SERVER_ERROR if text.contains("service is unavailable") => {
            Attempt::Retry(failure(DropCause::Unreachable), asked_for)
        }
        StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::NOT_FOUND
        | StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::PROXY_AUTHENTICATION_REQUIRED
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::NOT_IMPLEMENTED => Attempt::GiveUp(failure(DropCause::Misconfigured)),
        other if other.is_redirection() => Attempt::GiveUp(failure(DropCause::Misconfigured)),
        _ => Attempt::GiveUp(failure(DropCause::Rejected)),
    }
}

/// No answer at all. A timeout while connecting is no timeout of a push: nothing was sent.
pub(super) fn judge_error(error: &reqwest::Error) -> Attempt {
    let words = chain(error);
    if error.is_builder() {
        return Attempt::GiveUp(Failure { cause: DropCause::Misconfigured, words });
    }
    if error.is_timeout() && !error.is_connect() {
        return Attempt::GiveUp(Failure { cause: DropCause::TimedOut, words });
    }
    Attempt::Retry(Failure { cause: DropCause::Unreachable, words }, None)
}

/// How long the server asks to be left alone: seconds only, the form that servers under load send.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// The beginning of the body. The server compresses even its empty success; a body that can't be
/// read changes nothing, because the status has decided.
async fn body(mut response: Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < LONGEST_ANSWER {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk[..chunk.len().min(LONGEST_ANSWER)]),
            Ok(None) | Err(_) => break,
        }
    }
    plain(bytes)
}

/// The beginning of a body or message, whether it is compressed or not.
pub(super) fn plain(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        // A damaged stream gives the part before the damage.
        let _ = GzDecoder::new(&*bytes).take(LONGEST_ANSWER as u64).read_to_end(&mut plain);
        bytes = plain;
    }
    bytes.truncate(LONGEST_ANSWER);
    bytes
}

/// An error with its causes: the outermost alone says only that a request failed.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        if !words.contains(&cause_words) {
            words.push_str(": ");
            words.push_str(&cause_words);
        }
        source = cause.source();
    }
    words
}
