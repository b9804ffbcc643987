//! RocketMQ over gRPC by Apache's client: four tasks that each receive 32, process, and acknowledge one by one.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rocketmq::SimpleConsumer;
use rocketmq::conf::{ClientOption, ProducerOption, SimpleConsumerOption};
use rocketmq::model::common::{FilterExpression, FilterType};
use rocketmq::model::message::MessageBuilder;
use spanprof_brokers::{RocketMq, TopicKind};
use spanprof_messaging::clients::rocketmq_grpc::Consumer;
use spanprof_messaging::{System, TRACEPARENT};
use tokio::task::JoinSet;

use crate::Failure;
use crate::consumer::{Course, Observed, Report, SILENCE};
use crate::tally::{self, Tally};

const BATCH: u32 = 32;
const TASKS: u32 = 4;

/// Longer than any run: so a message that comes again was lost by its acknowledgement.
const INVISIBLE: Duration = Duration::from_secs(600);

/// Makes the groups, then sends all messages.
pub(crate) fn load(broker: &RocketMq, topic: &str, groups: &[&str], messages: u32) -> Result<(), Failure> {
    broker.topic(topic, TopicKind::Normal, 4)?;
    for group in groups {
        broker.group(group, 3)?;
    }
    block_on(async {
        let mut option = ProducerOption::default();
        option.set_topics(vec![topic]);
        let mut client = rocketmq::Producer::new(option, of_broker(broker.proxy()))?;
        client.start().await?;
        let client = Arc::new(client);
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let (client, topic) = (Arc::clone(&client), topic.to_owned());
            tasks.spawn(async move {
                let numbers: Vec<_> = (0..messages).skip(task as usize).step_by(TASKS as usize).collect();
                for batch in numbers.chunks(BATCH as usize) {
                    let batch: Result<Vec<_>, _> =
                        batch.iter().map(|number| message(&topic, *number)).collect();
                    client.batch_send(batch?).await?;
                }
                Ok::<_, Failure>(())
            });
        }
        end(tasks).await
    })
}

fn message(
    topic: &str,
    number: u32,
) -> Result<impl rocketmq::model::message::Message + use<>, rocketmq::error::ClientError> {
    let context = tally::context(number).to_traceparent();
    MessageBuilder::builder()
        .set_topic(topic)
        .set_tag("measured")
        .set_body(number.to_be_bytes().to_vec())
        .set_properties(HashMap::from([(TRACEPARENT, context.as_str())]))
        .build()
}

pub(crate) fn consume(course: &Course) -> Result<Report, Failure> {
    let observed = Observed::start(course, System::RocketMq)?;
    let consumer = observed.instrumentation.as_ref();
    let consumer =
        consumer.map(|instrumentation| Consumer::new(instrumentation, course.topic.clone(), &course.group));
    let tally = Arc::new(Tally::new(course));
    block_on(async {
        let mut option = SimpleConsumerOption::default();
        option.set_topics(vec![course.topic.as_str()]);
        option.set_consumer_group(course.group.as_str());
        let mut client = SimpleConsumer::new(option, of_broker(&course.broker))?;
        client.start().await?;
        let client = Arc::new(client);
        let mut tasks = JoinSet::new();
        for _ in 0..TASKS {
            let (client, tally) = (Arc::clone(&client), Arc::clone(&tally));
            let (consumer, topic) = (consumer.clone(), course.topic.clone());
            tasks.spawn(async move {
                match consumer {
                    None => bare(&client, &topic, &tally).await,
                    Some(consumer) => with_spans(&client, &consumer, &tally).await,
                }
            });
        }
        end(tasks).await
    })?;
    Ok(tally.report())
}

async fn bare(client: &SimpleConsumer, topic: &str, tally: &Tally) -> Result<(), Failure> {
    let mut silent_since = Instant::now();
    while goes_on(tally, silent_since)? {
        for view in client.receive_with(topic, &all(), BATCH as i32, INVISIBLE).await? {
            tally.begin();
            tally.handle(view.body());
            client.ack(&view).await?;
            silent_since = Instant::now();
        }
    }
    Ok(())
}

async fn with_spans(client: &SimpleConsumer, consumer: &Consumer, tally: &Tally) -> Result<(), Failure> {
    let mut silent_since = Instant::now();
    while goes_on(tally, silent_since)? {
        for delivery in consumer.receive_with(client, &all(), BATCH as i32, INVISIBLE).await? {
            tally.begin();
            let handled = consumer.handle(client, &delivery, async {
                tally.check(delivery.body());
                tally.handle(delivery.body());
                Ok::<_, Infallible>(())
            });
            handled.await?;
            silent_since = Instant::now();
        }
    }
    Ok(())
}

fn goes_on(tally: &Tally, silent_since: Instant) -> Result<bool, Failure> {
    match silent_since.elapsed() < SILENCE {
        true => Ok(!tally.is_complete()),
        false => Err(format!("only {} messages came", tally.distinct()).into()),
    }
}

async fn end(mut tasks: JoinSet<Result<(), Failure>>) -> Result<(), Failure> {
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

fn all() -> FilterExpression {
    FilterExpression::new(FilterType::Tag, "*")
}

fn of_broker(proxy: &str) -> ClientOption {
    let mut option = ClientOption::default();
    option.set_access_url(proxy);
    option.set_timeout(Duration::from_secs(30));
    option
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work)
}
