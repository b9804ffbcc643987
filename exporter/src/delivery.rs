//! A request's way to a server: what to retry, how long, and when to give up.
//!
//! The server's answers decide, as a real Pyroscope was seen to give them: it says 500 with
//! `service is unavailable` while it starts (5.5 s) and while it stops (4 s), 429 without `Retry-After` when
//! the tenant's rate is used up, 500 with any other text for a profile that it can't read. A closed
//! connection means a restart. A timeout means nothing: the profile may have been stored, and the server
//! does not recognise a second copy. Collectors that speak OTLP are treated alike; where one says how long to
//! wait (`Retry-After`), that is how long.
//!
//! The client and with it the machine's certificates are made at the first request, and certificates for `https`
//! only: a process that pushes to a neighbour never reads them.

mod address;
mod answers;
mod carrier;
#[cfg(feature = "grpc")]
mod grpc;
mod report;
mod settings;
mod tls;

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Client, Url, redirect};
use tokio::time::Instant;

use answers::Attempt;
pub(crate) use carrier::Carrier;
pub use report::{DropCause, Dropped, PushReport};
pub(crate) use report::{Sent, conclude};
pub use settings::{ConfigError, Credentials};

/// Where requests go and how.
#[derive(Debug)]
pub(crate) struct Endpoint<'a> {
    /// The server's address as it was given.
    pub(crate) url: &'a str,
    /// The path below it.
    pub(crate) path: &'a str,
    /// What carries a request.
    pub(crate) carrier: Carrier,
    /// Sent as `X-Scope-OrgID`.
    pub(crate) tenant: Option<&'a str>,
    /// How to sign in.
    pub(crate) credentials: &'a Credentials,
    /// How long one request may take.
    pub(crate) request_timeout: Duration,
    /// The pause before the first retry.
    pub(crate) first_pause: Duration,
    /// The longest pause.
    pub(crate) longest_pause: Duration,
}

/// Why one attempt failed, in words too.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) cause: DropCause,
    pub(crate) words: String,
}

/// What became of one request.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) retried: u64,
    /// The beginning of the server's answer, or why it was given up.
    pub(crate) outcome: Result<Vec<u8>, Failure>,
}

/// How long a request is worth trying.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Nothing is tried again after this.
    pub(crate) retry_until: Instant,
    /// An attempt under way is given up at this; none waits for the request's own timeout.
    pub(crate) give_up_at: Option<Instant>,
}

impl Patience {
    /// Retries for so long, but ends at `end` whatever is under way.
    pub(crate) fn new(budget: Duration, end: Option<std::time::Instant>) -> Patience {
        let (budget_ends, end) = (Instant::now() + budget, end.map(Instant::from_std));
        Patience { retry_until: end.map_or(budget_ends, |end| end.min(budget_ends)), give_up_at: end }
    }

    /// Whether not even encoding is worth it any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.give_up_at.is_some_and(|end| Instant::now() >= end)
    }
}

/// Sends requests to one address.
#[derive(Debug)]
pub(crate) struct Delivery {
    client: OnceLock<Result<Client, String>>,
    url: Url,
    carrier: Carrier,
    tenant: Option<HeaderValue>,
    credentials: Credentials,
    request_timeout: Duration,
    first_pause: Duration,
    longest_pause: Duration,
}

impl Delivery {
    /// Checks the address and what goes into headers; nothing is read or opened yet.
    pub(crate) fn new(endpoint: &Endpoint<'_>) -> Result<Delivery, ConfigError> {
        let url = address::complete(endpoint.url, endpoint.path)?;
        let header = |text: &str, what| HeaderValue::from_str(text).map_err(|_| ConfigError::Header { what });
        let tenant = endpoint.tenant.map(|tenant| header(tenant, "tenant")).transpose()?;
        if let Credentials::Bearer { token } = endpoint.credentials {
            header(token, "bearer token")?;
        }
        Ok(Delivery {
            client: OnceLock::new(),
            url,
            carrier: endpoint.carrier,
            tenant,
            credentials: endpoint.credentials.clone(),
            request_timeout: endpoint.request_timeout,
            first_pause: endpoint.first_pause,
            longest_pause: endpoint.longest_pause,
        })
    }

    /// Sends one body (already compressed) until it is stored, refused, or patience has ended.
    pub(crate) async fn send(&self, body: bytes::Bytes, patience: Patience) -> Delivered {
        let given_up = |retried, failure| Delivered { retried, outcome: Err(failure) };
        if Instant::now() >= patience.retry_until {
            let words = "the profiles before it used up the retry budget".to_owned();
            return given_up(0, Failure { cause: DropCause::Unreachable, words });
        }
        let body = self.carrier.body(body);
        let mut pause = self.first_pause;
        let mut retried = 0;
        loop {
            let (failure, asked_for) = match self.attempt_within(body.clone(), patience).await {
                Attempt::Stored(answer) => return Delivered { retried, outcome: Ok(answer) },
                Attempt::GiveUp(failure) => return given_up(retried, failure),
                Attempt::Retry(failure, asked_for) => (failure, asked_for),
            };
            let wait = with_jitter(pause).max(asked_for.unwrap_or_default());
            if Instant::now() + wait > patience.retry_until {
                return given_up(retried, failure);
            }
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(self.longest_pause);
            retried += 1;
        }
    }

    async fn attempt_within(&self, body: bytes::Bytes, patience: Patience) -> Attempt {
        let Some(end) = patience.give_up_at else { return self.attempt(body).await };
        match tokio::time::timeout_at(end, self.attempt(body)).await {
            Ok(attempt) => attempt,
            Err(_) => {
                let words = "time was up before the server answered".to_owned();
                Attempt::GiveUp(Failure { cause: DropCause::TimedOut, words })
            }
        }
    }

    async fn attempt(&self, body: bytes::Bytes) -> Attempt {
        let client = match self.client() {
            Ok(client) => client,
            Err(words) => {
                let words = words.clone();
                return Attempt::GiveUp(Failure { cause: DropCause::Misconfigured, words });
            }
        };
        let mut request = self.carrier.named(client.post(self.url.clone())).body(body);
        if let Some(tenant) = &self.tenant {
            request = request.header(HeaderName::from_static("x-scope-orgid"), tenant);
        }
        request = match &self.credentials {
            Credentials::None => request,
            Credentials::Basic { user, password } => request.basic_auth(user, Some(password)),
            Credentials::Bearer { token } => request.bearer_auth(token),
        };
        match request.send().await {
            Ok(response) => self.carrier.judge(response).await,
            Err(error) => answers::judge_error(&error),
        }
    }

    fn client(&self) -> &Result<Client, String> {
        self.client.get_or_init(|| {
            let tls = tls::config(self.url.scheme() == "https", rustls_native_certs::load_native_certs)?;
            self.carrier
                .client(Client::builder())
                .tls_backend_preconfigured(tls)
                .timeout(self.request_timeout)
                .redirect(redirect::Policy::none())
                .user_agent(concat!("spanprof/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|error| format!("the HTTP client can't be made: {}", answers::chain(&error)))
        })
    }
}

/// Between half and all of a pause, so that agents which lost the same server don't return in step.
fn with_jitter(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8);
    pause / 2 + (pause / 2).mul_f64((random % 1024) as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_half_and_whole() {
        let pause = Duration::from_millis(1000);
        for _ in 0..1000 {
            let wait = with_jitter(pause);
            assert!(wait >= pause / 2 && wait <= pause, "{wait:?}");
        }
    }
}
