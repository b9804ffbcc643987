//! The bridge is killed under load, again and again: what a device was told to be there arrives.

use std::collections::HashMap;
use std::sync::Arc;

use opentelemetry::trace::TraceId;
use spanprof_brokers::{Mosquitto, RocketMq, TopicKind, require};
use spanprof_messaging::clients::rocketmq_grpc::Consumer;
use spanprof_messaging::{Instrumentation, System, TraceContext};
use spanprof_messaging_tests::Spans;

use crate::consumer;
use crate::devices::{number_of, publish_by_3, publish_by_5, trace_of};
use crate::running::{Bridge, Setting};

const MESSAGES: u32 = 2_000;

/// How many different messages have come when the bridge is killed.
const KILLED_AFTER: [usize; 6] = [50, 300, 600, 1_000, 1_400, 1_800];

#[test]
fn killed_under_load_it_loses_nothing_that_was_acknowledged() {
    let test = "killed_under_load_it_loses_nothing_that_was_acknowledged";
    let Some(mosquitto) = require(test, Mosquitto::start()) else { return };
    let Some(rocketmq) = require(test, RocketMq::shared()) else { return };
    let mosquitto = Arc::new(mosquitto);
    rocketmq.topic("killed", TopicKind::Normal, 4).expect("the topic is made");
    rocketmq.group("killed", 3).expect("the group is made");
    let setting = Setting::new(&mosquitto, rocketmq, "sensors/#", "killed");
    // Once before, so that the broker has the session in which it keeps messages.
    let bridge = setting.start();

    let came = consumer::run(async {
        let devices = tokio::spawn(publish(Arc::clone(&mosquitto)));
        let came = consume(rocketmq, &setting, bridge).await;
        // They were told of all, whatever became of the bridge.
        devices.await.expect("no device fails");
        came
    });

    assert_eq!(came.len(), MESSAGES as usize);
    for (number, traces) in &came {
        assert!(traces.iter().all(|trace| *trace == trace_of(*number)), "{number} came in {traces:?}");
    }
    let copies = came.values().map(Vec::len).sum::<usize>() - came.len();
    println!("{MESSAGES} messages, {} kills: {copies} came again", KILLED_AFTER.len());
}

/// Four devices, until the broker has acknowledged all.
async fn publish(mosquitto: Arc<Mosquitto>) {
    let spans = Spans::new();
    let numbers = |part: u32| (part..MESSAGES).step_by(4).collect::<Vec<_>>();
    tokio::join!(
        publish_by_5(&mosquitto, &spans, "sensors/a", numbers(0)),
        publish_by_3(&mosquitto, &spans, "sensors/b", numbers(1)),
        publish_by_5(&mosquitto, &spans, "sensors/c", numbers(2)),
        publish_by_3(&mosquitto, &spans, "sensors/d", numbers(3)),
    );
}

/// Consumes until all have come, and kills and starts the bridge meanwhile. The traces in which each number came.
async fn consume(rocketmq: &RocketMq, setting: &Setting, bridge: Bridge) -> HashMap<u32, Vec<TraceId>> {
    let spans = Spans::new();
    let instrumentation = Instrumentation::new(System::RocketMq).with_tracer_provider(spans.provider());
    let consumer = Consumer::new(&instrumentation, "killed", "killed");
    let client = consumer::connect(rocketmq, "killed").await;
    let mut bridge = Some(bridge);
    let mut kills = KILLED_AFTER.into_iter().peekable();
    let mut came = HashMap::<_, Vec<_>>::new();
    while came.len() < MESSAGES as usize {
        for delivery in consumer::receive(&consumer, &client).await {
            let context = TraceContext::extract(&delivery).expect("the message carries a context");
            let trace = context.to_opentelemetry().trace_id();
            came.entry(number_of(delivery.body())).or_default().push(trace);
            consumer.ack(&client, &delivery).await.expect("the broker answers");
        }
        if kills.next_if(|after| came.len() >= *after).is_some()
            && let Some(running) = bridge.take()
        {
            running.kill();
            // It is subscribed again when this returns.
            bridge = Some(tokio::task::block_in_place(|| setting.start()));
        }
    }
    assert_eq!(kills.next(), None, "it was killed each time");
    let status = bridge.map(Bridge::stop);
    assert!(status.is_some_and(|status| status.success()));
    came
}
