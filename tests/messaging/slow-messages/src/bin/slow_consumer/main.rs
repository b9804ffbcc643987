//! Consumes a topic of RocketMQ, makes one message in a hundred slow, and writes down what it knows of each.
//!
//!     slow_consumer PROXY TOPIC MESSAGES DIRECTORY
//!
//! Says `ready`, then waits for a line: the address that takes finished spans, or nothing. When all messages are handled and all
//! spans are told, the directory holds `truth.jsonl`; it says `done` and stays until its standard input ends.

mod clocks;
mod handler;
mod spans;

use std::convert::Infallible;
use std::error::Error;
use std::io::{self, BufRead as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use rocketmq::SimpleConsumer;
use rocketmq::conf::{ClientOption, SimpleConsumerOption};
use rocketmq::model::common::{FilterExpression, FilterType};
use spanprof_messaging::clients::rocketmq_grpc::{Consumer, Delivery};
use spanprof_messaging::{Instrumentation, System};
use spanprof_slow_messages::{Cause, MessageTruth, Truth};
use tokio::task::JoinSet;

use crate::clocks::Clocks;
use crate::handler::Shop;
use crate::spans::Ended;

/// What can end it: said in one sentence, and over.
type Failure = Box<dyn Error + Send + Sync>;

const SERVICE: &str = "slow-messages";

/// How many receive and handle at the same time.
const TASKS: usize = 4;

/// Handlers block their threads; the client needs one that is free.
const THREADS: usize = TASKS + 2;

const BATCH: i32 = 32;

/// Longer than any run: no message comes twice.
const INVISIBLE: Duration = Duration::from_secs(3_600);

/// Nothing comes for so long: then something is lost.
const SILENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("slow_consumer: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [proxy, topic, messages, directory] = arguments.as_slice() else {
        return Err("the arguments are PROXY TOPIC MESSAGES DIRECTORY".into());
    };
    let directory = PathBuf::from(directory);
    let _publishing = spanprof::Agent::builder().service_name(SERVICE).start()?;
    println!("ready");
    let mut input = io::stdin().lock();
    let mut address = String::new();
    input.read_line(&mut address)?;
    let address = Some(address.trim()).filter(|address| !address.is_empty());

    let ended = Ended::default();
    let provider = spans::provider(SERVICE, &ended, address)?;
    let instrumentation = Instrumentation::new(System::RocketMq)
        .with_tracer_provider(&provider)
        .with_attributes(spanprof::with_attributes);
    let work = Arc::new(Work {
        consumer: Consumer::new(&instrumentation, topic.clone(), topic),
        shop: Shop::open(directory.clone())?,
        left: AtomicUsize::new(messages.parse()?),
        handled: Mutex::default(),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    runtime.block_on(consume(&work, proxy, topic))?;
    provider.shutdown()?;
    let messages = std::mem::take(&mut *work.handled.lock().unwrap_or_else(PoisonError::into_inner));
    Truth { messages, spans: ended.take() }.write(&directory.join("truth.jsonl"))?;
    println!("done");
    input.read_line(&mut String::new())?;
    Ok(())
}

/// What all tasks share.
struct Work {
    consumer: Consumer,
    shop: Shop,
    left: AtomicUsize,
    handled: Mutex<Vec<MessageTruth>>,
}

async fn consume(work: &Arc<Work>, proxy: &str, topic: &str) -> Result<(), Failure> {
    let mut option = SimpleConsumerOption::default();
    option.set_topics(vec![topic]);
    option.set_consumer_group(topic);
    let mut of_broker = ClientOption::default();
    of_broker.set_access_url(proxy);
    of_broker.set_timeout(Duration::from_secs(30));
    let mut client = SimpleConsumer::new(option, of_broker)?;
    client.start().await?;
    let client = Arc::new(client);
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (work, client) = (Arc::clone(work), Arc::clone(&client));
        tasks.spawn(async move { work.receive(&client).await });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

impl Work {
    /// Receives until nothing is left.
    async fn receive(&self, client: &SimpleConsumer) -> Result<(), Failure> {
        let all = FilterExpression::new(FilterType::Tag, "*");
        let mut silent_since = Instant::now();
        while self.left.load(Ordering::Relaxed) > 0 {
            let deliveries = self.consumer.receive_with(client, &all, BATCH, INVISIBLE).await?;
            if !deliveries.is_empty() {
                self.handle_batch(client, deliveries).await?;
                silent_since = Instant::now();
            } else if silent_since.elapsed() > SILENCE {
                return Err(format!("{} messages never came", self.left.load(Ordering::Relaxed)).into());
            }
        }
        Ok(())
    }

    /// One after another; what holds up others comes first.
    async fn handle_batch(
        &self,
        client: &SimpleConsumer,
        mut deliveries: Vec<Delivery>,
    ) -> Result<(), Failure> {
        let received = Instant::now();
        let mut held_up = Duration::ZERO;
        deliveries.sort_by_key(|delivery| !is_at_the_head(number(delivery)));
        for delivery in &deliveries {
            let number = number(delivery).ok_or("a message without a number")?;
            let mut told = None;
            let handler = async {
                told = Some(self.handle(number, received, held_up));
                Ok::<_, Infallible>(())
            };
            self.consumer.handle(client, delivery, handler).await?;
            let told = told.ok_or("a handler that did not run")??;
            if is_at_the_head(Some(number)) {
                held_up += Duration::from_nanos(told.wall_ns);
            }
            self.handled.lock().unwrap_or_else(PoisonError::into_inner).push(told);
            self.left.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Handles a message in the span that is active, and tells how that went.
    fn handle(&self, number: u32, received: Instant, held_up: Duration) -> io::Result<MessageTruth> {
        let slow = Cause::of(number);
        let waited = received.elapsed();
        let begin = Clocks::read();
        self.shop.handle(slow)?;
        let passed = begin.passed();
        let nanoseconds = |time: Duration| time.as_nanos() as u64;
        let current = Context::current();
        let ids = current.span().span_context().clone();
        Ok(MessageTruth {
            number,
            trace: ids.trace_id().to_string(),
            span: ids.span_id().to_string(),
            cause: slow.map(|(cause, _)| cause),
            wall_ns: nanoseconds(passed.wall),
            cpu_ns: nanoseconds(passed.cpu),
            run_queue_ns: nanoseconds(passed.run_queue),
            waited_ns: nanoseconds(waited),
            behind_ns: nanoseconds(held_up),
        })
    }
}

fn number(delivery: &Delivery) -> Option<u32> {
    delivery.body().try_into().map(u32::from_be_bytes).ok()
}

fn is_at_the_head(number: Option<u32>) -> bool {
    matches!(number.and_then(Cause::of), Some((Cause::HeadOfLine, _)))
}
