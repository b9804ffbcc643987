//! The three processes together on a real broker: what the consumer measured must be what the story tells.

use std::collections::HashSet;
use std::path::Path;

use spanprof_demo::cast::{Cast, Programs, Script};
use spanprof_demo::transport::Transport;
use spanprof_demo::{Cause, Handled, story};

const MESSAGES: u64 = 60;

fn read_truth(path: &Path) -> Vec<Handled> {
    let text = std::fs::read_to_string(path).expect("the truth file");
    let mut truth: Vec<Handled> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line of truth")).collect();
    truth.sort_by_key(|handled| handled.number);
    truth
}

#[test]
fn every_message_takes_its_time_for_the_reason_that_the_story_tells() {
    tells_the_story(Transport::Mqtt);
}

#[cfg(feature = "rocketmq")]
#[test]
fn rocketmq_tells_the_same_story() {
    let jars = spanprof_brokers::RocketMqVersion::Newest.fetch();
    if spanprof_brokers::require("rocketmq_tells_the_same_story", jars).is_some() {
        tells_the_story(Transport::RocketMq);
    }
}

#[cfg(feature = "kafka")]
#[test]
fn kafka_tells_the_same_story() {
    let jars = spanprof_brokers::Kafka::fetch();
    if spanprof_brokers::require("kafka_tells_the_same_story", jars).is_some() {
        tells_the_story(Transport::Kafka);
    }
}

fn tells_the_story(transport: Transport) {
    let truth_name = format!("spanprof-demo-truth-{transport:?}-{}.jsonl", std::process::id());
    let truth_path = std::env::temp_dir().join(truth_name);
    let folder = Path::new(env!("CARGO_BIN_EXE_demo-broker")).parent().expect("a folder").to_owned();
    assert!(Path::new(env!("CARGO_BIN_EXE_demo-producer")).starts_with(&folder));
    assert!(Path::new(env!("CARGO_BIN_EXE_demo-consumer")).starts_with(&folder));
    let cast = Cast::start(&Script {
        programs: Programs::Folder(folder),
        transport,
        rate: 100,
        messages: Some(MESSAGES),
        seconds: 120,
        truth: Some(truth_path.clone()),
        profiles: None,
        finished_spans: None,
    })
    .expect("three processes");

    let [_, consumer] = cast.services();
    let context = spanprof::context::process::read(consumer).expect("readable").expect("published");
    assert_eq!(context.context.service_name(), Some("demo-consumer"));

    let ended = cast.wait_for_end().expect("three good ends");
    let truth = read_truth(&truth_path);
    std::fs::remove_file(&truth_path).expect("the truth file can go");
    assert_eq!(ended.producer, format!("sent {MESSAGES} messages, {MESSAGES} acknowledged"));
    assert_eq!(ended.consumer, format!("processed {MESSAGES} messages, 0 failed"));

    assert!(truth.iter().map(|handled| handled.number).eq(0..MESSAGES));
    let ids: HashSet<_> = truth.iter().map(|handled| (&handled.trace_id, &handled.span_id)).collect();
    assert_eq!(ids.len(), truth.len());
    for handled in &truth {
        assert_ne!(handled.producer_span_id, "0".repeat(16), "{handled:?} carries the producer's context");
        assert_ne!(handled.producer_span_id, handled.span_id);
        let expected = story::trouble_of(handled.number);
        assert_eq!(handled.cause.map(|cause| (cause, handled.trouble_milliseconds)), expected);
        check_time(handled);
    }
    let seen: HashSet<_> = truth.iter().filter_map(|handled| handled.cause).collect();
    assert_eq!(seen.len(), Cause::ALL.len());
}

/// Only lower bounds of wall time, which a busy machine can't break; and CPU, which it can't stretch by half.
fn check_time(handled: &Handled) {
    let asked_ns = handled.trouble_milliseconds * 1_000_000;
    assert!(handled.wall_ns >= asked_ns, "{handled:?}");
    assert!(handled.span_wall_ns >= handled.wall_ns, "{handled:?}");
    match handled.cause {
        Some(Cause::Parsing) => assert!(handled.thread_cpu_ns >= asked_ns, "{handled:?}"),
        Some(Cause::Lock | Cause::Socket | Cause::Sleep) => {
            assert!(handled.thread_cpu_ns < asked_ns / 2, "{handled:?}");
        }
        Some(Cause::FileIo) | None => {}
    }
}
