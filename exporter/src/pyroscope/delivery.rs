//! One request's way to the server: what to retry, how long, and when to give up.
//!
//! The server's answers decide, as a real one was seen to give them: it says 500 with
//! `service is unavailable` while it starts (5.5 s) and while it stops (4 s), 429 without `Retry-After` when
//! the tenant's rate is used up, 500 with any other text for a profile that it can't read. A closed
//! connection means a restart. A timeout means nothing: the profile may have been stored, and the server
//! does not recognise a second copy.

use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::time::Duration;

use flate2::read::GzDecoder;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use tokio::time::Instant;

use super::config::{ConfigError, Credentials, PyroscopeConfig};

/// Why a profile was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropCause {
    /// The server refused the content.
    Rejected,
    /// The address or the credentials are wrong.
    Misconfigured,
    /// Too many bytes per second, for longer than the budget.
    RateLimited,
    /// Not there or not ready, for longer than the budget.
    Unreachable,
    /// No answer in time; it may have been stored.
    TimedOut,
}

/// Why one attempt failed, in words too.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) cause: DropCause,
    pub(super) words: String,
}

/// What became of one request.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) retried: u64,
    pub(super) failure: Option<Failure>,
}

/// Sends requests to one address.
#[derive(Debug)]
pub(super) struct Delivery {
    client: Client,
    url: Url,
    tenant: Option<HeaderValue>,
    credentials: Credentials,
    first_pause: Duration,
    longest_pause: Duration,
}

enum Attempt {
    Stored,
    Retry(Failure),
    GiveUp(Failure),
}

/// What is read of an error's body: enough for a sentence.
const LONGEST_ERROR: usize = 4096;

impl Delivery {
    pub(super) fn new(config: &PyroscopeConfig) -> Result<Delivery, ConfigError> {
        let url = push_url(&config.url)?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls(url.scheme() == "https")?)
            .timeout(config.request_timeout)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("spanprof/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ConfigError::Tls(chain(&error)))?;
        let tenant = match &config.tenant {
            None => None,
            Some(tenant) => {
                Some(HeaderValue::from_str(tenant).map_err(|_| ConfigError::Header { what: "tenant" })?)
            }
        };
        if let Credentials::Bearer { token } = &config.credentials
            && HeaderValue::from_str(token).is_err()
        {
            return Err(ConfigError::Header { what: "bearer token" });
        }
        Ok(Delivery {
            client,
            url,
            tenant,
            credentials: config.credentials.clone(),
            first_pause: config.first_pause,
            longest_pause: config.longest_pause,
        })
    }

    /// Sends one body until it is stored, refused, or the deadline has passed.
    pub(super) async fn send(&self, body: Vec<u8>, deadline: Instant) -> Delivered {
        if Instant::now() >= deadline {
            let words = "the profiles before it used up the retry budget".to_owned();
            return Delivered { retried: 0, failure: Some(Failure { cause: DropCause::Unreachable, words }) };
        }
        let body = bytes::Bytes::from(body);
        let mut pause = self.first_pause;
        let mut retried = 0;
        loop {
            let failure = match self.attempt(body.clone()).await {
                Attempt::Stored => return Delivered { retried, failure: None },
                Attempt::GiveUp(failure) => return Delivered { retried, failure: Some(failure) },
                Attempt::Retry(failure) => failure,
            };
            let wait = with_jitter(pause);
            if Instant::now() + wait > deadline {
                return Delivered { retried, failure: Some(failure) };
            }
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(self.longest_pause);
            retried += 1;
        }
    }

    async fn attempt(&self, body: bytes::Bytes) -> Attempt {
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/proto")
            .header(CONTENT_ENCODING, "gzip")
            .body(body);
        if let Some(tenant) = &self.tenant {
            request = request.header(HeaderName::from_static("x-scope-orgid"), tenant);
        }
        request = match &self.credentials {
            Credentials::None => request,
            Credentials::Basic { user, password } => request.basic_auth(user, Some(password)),
            Credentials::Bearer { token } => request.bearer_auth(token),
        };
        match request.send().await {
            Ok(response) => judge(response).await,
            Err(error) => judge_error(&error),
        }
    }
}

async fn judge(response: Response) -> Attempt {
    let status = response.status();
    let text = body(response).await;
    if status.is_success() {
        return Attempt::Stored;
    }
    let words = match text.trim() {
        "" => format!("the server answered {status}"),
        text => format!("the server answered {status}: {text}"),
    };
    let failure = |cause| Failure { cause, words };
    match status {
        StatusCode::TOO_MANY_REQUESTS => Attempt::Retry(failure(DropCause::RateLimited)),
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => {
            Attempt::Retry(failure(DropCause::Unreachable))
        }
        StatusCode::GATEWAY_TIMEOUT => Attempt::GiveUp(failure(DropCause::TimedOut)),
        StatusCode::INTERNAL_SERVER_ERROR if text.contains("service is unavailable") => {
            Attempt::Retry(failure(DropCause::Unreachable))
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
fn judge_error(error: &reqwest::Error) -> Attempt {
    let words = chain(error);
    if error.is_builder() {
        return Attempt::GiveUp(Failure { cause: DropCause::Misconfigured, words });
    }
    if error.is_timeout() && !error.is_connect() {
        return Attempt::GiveUp(Failure { cause: DropCause::TimedOut, words });
    }
    Attempt::Retry(Failure { cause: DropCause::Unreachable, words })
}

/// The beginning of the body as text. The server compresses even its empty success; a body that can't be
/// read changes nothing, because the status has decided.
async fn body(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < LONGEST_ERROR {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk[..chunk.len().min(LONGEST_ERROR)]),
            Ok(None) | Err(_) => break,
        }
    }
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        // A damaged stream gives the part before the damage.
        let _ = GzDecoder::new(&*bytes).take(LONGEST_ERROR as u64).read_to_end(&mut plain);
        bytes = plain;
    }
    bytes.truncate(LONGEST_ERROR);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Between half and all of a pause, so that agents which lost the same server don't return in step.
fn with_jitter(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8);
    pause / 2 + (pause / 2).mul_f64((random % 1024) as f64 / 1024.0)
}

/// An error with its causes: the outermost alone says only that a request failed.
fn chain(error: &dyn std::error::Error) -> String {
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

fn push_url(given: &str) -> Result<Url, ConfigError> {
    let error = |reason: &str| ConfigError::Url { url: given.to_owned(), reason: reason.to_owned() };
    let mut url = Url::parse(given).map_err(|parse| error(&parse.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(error("it begins with neither http:// nor https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(error("it holds a password, which would end up in logs; give it as credentials"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(error("it has a query or a fragment"));
    }
    let path = format!("{}/push.v1.PusherService/Push", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

/// TLS by ring, trusting what the machine trusts. Without `https` nothing is read from the disk.
fn tls(is_needed: bool) -> Result<rustls::ClientConfig, ConfigError> {
    let mut roots = rustls::RootCertStore::empty();
    if is_needed {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let first = found.errors.first().map(ToString::to_string).unwrap_or_default();
            let words = format!(
                "no trusted certificates were found on this machine; install them or set SSL_CERT_FILE {first}"
            );
            return Err(ConfigError::Tls(words.trim_end().to_owned()));
        }
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::Tls(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed_or_refused_in_words() {
        for (given, expected) in [
            ("http://localhost:4040", "http://localhost:4040/push.v1.PusherService/Push"),
            ("https://example.org/pyroscope/", "https://example.org/pyroscope/push.v1.PusherService/Push"),
        ] {
            assert_eq!(push_url(given).unwrap().as_str(), expected);
        }
        for given in
            ["localhost:4040", "localhost", "", "ftp://x", "http://user:pass@x", "http://x/?a=b", "http://"]
        {
            let error = push_url(given).unwrap_err().to_string();
            assert!(error.contains("it should look like http://localhost:4040"), "{error}");
        }
    }

    #[test]
    fn jitter_stays_between_half_and_whole() {
        let pause = Duration::from_millis(1000);
        for _ in 0..1000 {
            let wait = with_jitter(pause);
            assert!(wait >= pause / 2 && wait <= pause, "{wait:?}");
        }
    }
}
