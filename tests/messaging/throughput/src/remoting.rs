//! RocketMQ over remoting by the community's client: its push consumer as it comes, with a listener for one message at a
//! time.

use std::sync::Arc;

use rocketmq_client_rust::{
    ClientResult, ConsumeConcurrentlyContext, ConsumeConcurrentlyStatus, MQPushConsumer as _,
};
use rocketmq_model::common::message::message_ext::MessageExt;
use spanprof_messaging::System;
use spanprof_messaging::clients::rocketmq_remoting::Listener;
use spanprof_messaging_tests::remoting as clients;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::Failure;
use crate::consumer::{Course, Observed, Report, SILENCE};
use crate::tally::Tally;

pub(crate) fn consume(course: &Course) -> Result<Report, Failure> {
    let observed = Observed::start(course, System::RocketMq)?;
    let tally = Arc::new(Tally::new(course));
    let came = Arc::new(Notify::new());
    clients::run(async |runtime| {
        let mut consumer = clients::push_consumer(&runtime, &course.broker, &course.group).build();
        consumer.subscribe(course.topic.as_str(), "*").await?;
        let listener = listener(&tally, &came, observed.instrumentation.is_some());
        match &observed.instrumentation {
            None => consumer.register_message_listener_concurrently(listener),
            Some(instrumentation) => {
                let of_group = instrumentation.consumer(course.topic.clone(), course.group.as_str());
                consumer.register_message_listener_concurrently(Listener::new(&of_group, listener));
            }
        }
        consumer.start().await?;
        while !tally.is_complete() {
            let silent = timeout(SILENCE, came.notified()).await.is_err();
            if silent && !tally.is_complete() {
                return Err(Failure::from(format!("only {} messages came", tally.distinct())));
            }
        }
        consumer.shutdown().await;
        Ok(())
    })?;
    Ok(tally.report())
}

/// What is done with messages, and told to who waits for them.
fn listener(
    tally: &Arc<Tally>,
    came: &Arc<Notify>,
    in_spans: bool,
) -> impl Fn(&[&MessageExt], &ConsumeConcurrentlyContext) -> ClientResult<ConsumeConcurrentlyStatus>
+ Send
+ Sync
+ 'static
+ use<> {
    let (tally, came) = (Arc::clone(tally), Arc::clone(came));
    move |messages, _| {
        tally.begin();
        for message in messages {
            let body = message.message_inner().body_slice();
            if in_spans {
                tally.check(body);
            }
            tally.handle(body);
        }
        came.notify_one();
        Ok(ConsumeConcurrentlyStatus::ConsumeSuccess)
    }
}
