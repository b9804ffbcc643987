//! RocketMQ goes away and comes back: nothing is acknowledged meanwhile, and nothing is lost, even if the bridge is killed
//! before RocketMQ is back.

use std::collections::HashMap;

use opentelemetry::trace::TraceId;
use spanprof_brokers::{Mosquitto, RocketMq, RocketMqOptions, TopicKind, require};
use spanprof_messaging::clients::rocketmq_grpc::Consumer;
use spanprof_messaging::{Instrumentation, System, TraceContext};
use spanprof_messaging_tests::Spans;

use crate::consumer;
use crate::devices::{number_of, publish_by_5, trace_of};
use crate::running::Setting;

#[test]
fn messages_wait_for_rocketmq() {
    let Some(mosquitto) = require("messages_wait_for_rocketmq", Mosquitto::start()) else { return };
    let Some(rocketmq) = require("messages_wait_for_rocketmq", RocketMq::start()) else { return };
    make(&rocketmq);
    let setting = Setting::new(&mosquitto, &rocketmq, "sensors/#", "away");
    let bridge = setting.start();
    let devices = Spans::new();
    let publish = |numbers: Vec<u32>| publish_by_5(&mosquitto, &devices, "sensors/a", numbers);
    consumer::run(async {
        publish((0..100).collect()).await;
        assert_eq!(consume(&rocketmq, 100).await.len(), 100);
    });

    let options = RocketMqOptions { ports: rocketmq.ports(), ..RocketMqOptions::default() };
    let proxy = rocketmq.proxy().to_owned();
    drop(rocketmq);
    // More than may be with the bridge.
    consumer::run(publish((100..300).collect()));
    bridge.says("is away");
    // Whatever it had acknowledged too early would be lost with it.
    bridge.kill();
    let bridge = setting.start();
    bridge.says("is away");

    let rocketmq = RocketMq::start_with(options).expect("it started before");
    assert_eq!(rocketmq.proxy(), proxy, "it is where it was");
    make(&rocketmq);
    bridge.says("is back");
    // It has nothing of the time before.
    let came = consumer::run(consume(&rocketmq, 200));
    for number in 100..300 {
        assert!(
            came.get(&number).is_some_and(|trace| *trace == trace_of(number)),
            "{number} came in {came:?}"
        );
    }
    assert!(bridge.stop().success());
}

fn make(rocketmq: &RocketMq) {
    rocketmq.group("away", 3).expect("the group is made");
    rocketmq.topic("away", TopicKind::Normal, 4).expect("the topic is made");
}

/// The traces of so many different messages, by their numbers.
async fn consume(rocketmq: &RocketMq, number: usize) -> HashMap<u32, TraceId> {
    let spans = Spans::new();
    let instrumentation = Instrumentation::new(System::RocketMq).with_tracer_provider(spans.provider());
    let consumer = Consumer::new(&instrumentation, "away", "away");
    let client = consumer::connect(rocketmq, "away").await;
    let mut came = HashMap::new();
    while came.len() < number {
        for delivery in consumer::receive(&consumer, &client).await {
            let context = TraceContext::extract(&delivery).expect("the message carries a context");
            came.insert(number_of(delivery.body()), context.to_opentelemetry().trace_id());
            consumer.ack(&client, &delivery).await.expect("the broker answers");
        }
    }
    came
}
