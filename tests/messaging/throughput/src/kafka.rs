//! Kafka by `rdkafka`: batches of at most 32, committed batch by batch.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use spanprof_messaging::clients::kafka;
use spanprof_messaging::{System, TRACEPARENT};

use crate::Failure;
use crate::consumer::{Course, Observed, Report, SILENCE};
use crate::tally::{self, Tally};

const BATCH: usize = 32;

/// After the last: is there one too many?
const REST: Duration = Duration::from_millis(500);

/// Sends all messages.
pub(crate) fn load(broker: &spanprof_brokers::Kafka, topic: &str, messages: u32) -> Result<(), Failure> {
    broker.topic(topic, 4)?;
    let client: ThreadedProducer<DefaultProducerContext> =
        ClientConfig::new().set("bootstrap.servers", broker.bootstrap_servers()).create()?;
    for number in 0..messages {
        let context = tally::context(number).to_traceparent();
        let header = Header { key: TRACEPARENT, value: Some(context.as_bytes()) };
        let (key, body) = (number.to_be_bytes(), number.to_be_bytes());
        let mut record =
            BaseRecord::to(topic).key(&key).payload(&body).headers(OwnedHeaders::new().insert(header));
        while let Err((error, again)) = client.send(record) {
            if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
                return Err(error.into());
            }
            std::thread::yield_now();
            record = again;
        }
    }
    Ok(client.flush(SILENCE)?)
}

pub(crate) fn consume(course: &Course) -> Result<Report, Failure> {
    let observed = Observed::start(course, System::Kafka)?;
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &course.broker)
        .set("group.id", &course.group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()?;
    client.subscribe(&[&course.topic])?;
    let tally = Tally::new(course);
    match &observed.instrumentation {
        None => while_silent(&tally, || {
            let batch = poll_batch(&client, if tally.is_complete() { REST } else { SILENCE })?;
            tally_first(&tally, &batch);
            for message in &batch {
                tally.handle(message.payload().unwrap_or_default());
            }
            if !batch.is_empty() {
                client.commit(&offsets(&batch)?, CommitMode::Async)?;
            }
            Ok(batch.len())
        })?,
        Some(instrumentation) => {
            let consumer = instrumentation.consumer(course.topic.clone(), course.group.as_str());
            while_silent(&tally, || {
                let wait = if tally.is_complete() { REST } else { SILENCE };
                let batch = kafka::poll_batch(&consumer, &client, BATCH, wait)?;
                tally_first(&tally, &batch);
                for message in &batch {
                    let process = kafka::process(&consumer, message);
                    let body = message.payload().unwrap_or_default();
                    process.enter(|| {
                        tally.check(body);
                        tally.handle(body);
                    });
                    process.done();
                }
                kafka::commit_batch(&consumer, &client, &batch, CommitMode::Async)?;
                Ok(batch.len())
            })?;
        }
    }
    Ok(tally.report())
}

/// Until nothing comes any more.
fn while_silent(tally: &Tally, mut turn: impl FnMut() -> Result<usize, Failure>) -> Result<(), Failure> {
    while turn()? > 0 {}
    match tally.is_complete() {
        true => Ok(()),
        false => Err(format!("only {} messages came", tally.distinct()).into()),
    }
}

fn tally_first(tally: &Tally, batch: &[BorrowedMessage<'_>]) {
    if !batch.is_empty() {
        tally.begin();
    }
}

/// As the helper's, without a span.
fn poll_batch(client: &BaseConsumer, wait: Duration) -> KafkaResult<Vec<BorrowedMessage<'_>>> {
    let begin = Instant::now();
    let mut batch = Vec::new();
    while batch.len() < BATCH {
        let left = match batch.is_empty() {
            true => wait.saturating_sub(begin.elapsed()),
            false => Duration::ZERO,
        };
        match client.poll(left) {
            Some(message) => batch.push(message?),
            None if batch.is_empty() && begin.elapsed() < wait => {}
            None => break,
        }
    }
    Ok(batch)
}

fn offsets(batch: &[BorrowedMessage<'_>]) -> KafkaResult<TopicPartitionList> {
    let mut highest = std::collections::BTreeMap::new();
    for message in batch {
        highest.insert(message.partition(), message.offset());
    }
    let mut offsets = TopicPartitionList::new();
    for (partition, offset) in highest {
        offsets.add_partition_offset(batch[0].topic(), partition, Offset::Offset(offset + 1))?;
    }
    Ok(offsets)
}
