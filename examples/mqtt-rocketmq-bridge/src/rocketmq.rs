//! The RocketMQ side: a producer that is replaced when it fails, and sending until there is a receipt.
//!
//! Two things of the client (`rocketmq` 5.0) make that necessary:
//!
//! - After RocketMQ was away, its producer has sessions and routes of the time before. A new one asks anew.
//! - It panics where it can't connect to a place that a route names, and at answers that are newer than it (RocketMQ
//!   5.5's to an empty body). A send runs as a task of its own, which ends alone.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::rocketmq::conf::{ClientOption, ProducerOption};
use ::rocketmq::error::ClientError;
use opentelemetry::trace::FutureExt;
use spanprof_messaging::clients::rocketmq_grpc::{Outgoing, Producer};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::backoff::Backoff;
use crate::configuration;
use crate::stop::Stop;

type Client = ::rocketmq::Producer;

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(10);

/// How long an attempt may take, which is several requests at first. The client has waits of its own without an end.
const ATTEMPT: Duration = Duration::from_secs(30);

/// Why a message has not been sent.
#[derive(Debug)]
enum Failure {
    /// The client says why.
    Client(ClientError),
    /// It panicked.
    Panic,
    /// It took too long.
    TooLong,
}

impl Failure {
    /// What RocketMQ itself says, if it is there: its code and words.
    fn answer(&self) -> Option<(&str, &str)> {
        let Self::Client(error) = self else { return None };
        let value = |key| Some(error.context().iter().find(|(known, _)| *known == key)?.1.as_str());
        // Behind the first line RocketMQ has where to read more.
        Some((value("code")?, value("message")?.lines().next().unwrap_or_default()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => match self.answer() {
                Some((code, words)) => write!(out, "{code}, {words}"),
                None => {
                    out.write_str(error.message())?;
                    error.source().map_or(Ok(()), |source| write!(out, ", {}", source.root_cause()))
                }
            },
            Self::Panic => out.write_str(
                "the client panicked, for it cannot connect to a broker that RocketMQ named, or knows no such answer",
            ),
            Self::TooLong => write!(out, "no answer within {} s", ATTEMPT.as_secs()),
        }
    }
}

/// Sends messages until they have been taken.
#[derive(Debug)]
pub struct RocketMq {
    proxy: String,
    client_option: ClientOption,
    producer_option: ProducerOption,
    /// The producer that works, as far as is known.
    client: Mutex<Option<Arc<Client>>>,
    is_away: AtomicBool,
}

impl RocketMq {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(configuration: &configuration::RocketMq, topics: Vec<String>) -> Self {
        let mut client_option = ClientOption::default();
        client_option.set_access_url(&configuration.proxy);
        client_option.set_timeout(REQUEST);
        if let Some(login) = &configuration.login {
            client_option.set_access_key(&login.user);
            client_option.set_secret_key(&login.secret);
        }
        let mut producer_option = ProducerOption::default();
        producer_option.set_topics(topics);
        Self {
            proxy: configuration.proxy.clone(),
            client_option,
            producer_option,
            client: Mutex::default(),
            is_away: AtomicBool::new(false),
        }
    }

    /// Sends a message, again and again with growing waits, until RocketMQ has given its receipt: `true`; or until
    /// `closing` says so: `false`. Each attempt has a span of its own, in the context that is current, and the same
    /// message id.
    pub async fn send(&self, producer: &Producer, message: &Outgoing, closing: &mut Stop) -> bool {
        let mut waits = Backoff::default();
        loop {
            // An attempt that has begun is not given up: what it sends would come after what is sent anew.
            let attempted = tokio::select! {
                biased;
                () = closing.said() => return false,
                client = self.client() => match client {
                    Ok(client) => self.attempt(client, producer, message).await,
                    Err(failure) => Err(failure),
                },
            };
            let Err(failure) = attempted else {
                if self.is_away.swap(false, Ordering::Relaxed) {
                    eprintln!("bridge: RocketMQ at {} is back", self.proxy);
                }
                return true;
            };
            self.tell(&failure);
            // Which of the two it was, the next round sees.
            let wait = waits.next().unwrap_or_default();
            let _ = timeout(wait, closing.said()).await;
        }
    }

    async fn attempt(
        &self,
        client: Arc<Client>,
        producer: &Producer,
        message: &Outgoing,
    ) -> Result<(), Failure> {
        let sent = {
            let (producer, client, message) = (producer.clone(), Arc::clone(&client), message.clone());
            let send = async move { producer.send(&client, message).await.map(drop) };
            tokio::spawn(send.with_current_context())
        };
        let stop = sent.abort_handle();
        let failure = match timeout(ATTEMPT, sent).await {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(error))) => Failure::Client(error),
            Ok(Err(_)) => Failure::Panic,
            Err(_) => {
                stop.abort();
                Failure::TooLong
            }
        };
        if failure.answer().is_none() {
            self.give_up(&client).await;
        }
        Err(failure)
    }

    /// The producer that works, or a new one. All who need one wait for the one who makes it.
    async fn client(&self) -> Result<Arc<Client>, Failure> {
        let mut kept = self.client.lock().await;
        if let Some(client) = &*kept {
            return Ok(Arc::clone(client));
        }
        let mut client =
            Client::new(self.producer_option.clone(), self.client_option.clone()).map_err(Failure::Client)?;
        timeout(ATTEMPT, client.start()).await.map_err(|_| Failure::TooLong)?.map_err(Failure::Client)?;
        Ok(Arc::clone(kept.insert(Arc::new(client))))
    }

    /// Has a producer replaced, unless somebody else was faster.
    async fn give_up(&self, failed: &Arc<Client>) {
        self.client.lock().await.take_if(|kept| Arc::ptr_eq(kept, failed));
    }

    fn tell(&self, failure: &Failure) {
        let proxy = &self.proxy;
        if failure.answer().is_some() {
            eprintln!(
                "bridge: RocketMQ at {proxy} refuses a message: {failure}; it is sent again until it is taken"
            );
        } else if !self.is_away.swap(true, Ordering::Relaxed) {
            eprintln!(
                "bridge: RocketMQ at {proxy} is away: {failure}; nothing is acknowledged until it is back"
            );
        }
    }
}
