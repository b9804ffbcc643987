//! The record of a thread, which profilers read, tells destination, group and operation while a span is active.

use std::sync::{Arc, Mutex, Once};

use opentelemetry::Context;
use opentelemetry::trace::FutureExt;
use spanprof_context::thread::capture;
use spanprof_context::{Attributes, Key};
use spanprof_messaging::{Consumer, Destination, Instrumentation, Message, MessageSpan, System};

use crate::exported::{Exported, carrying, elsewhere};

fn install() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let agent = spanprof::Agent::builder().service_name("test").start().expect("nothing wrong was set");
        assert!(agent.notes().is_empty());
    });
}

/// Destination, group and operation as the thread publishes them within a span.
fn published(span: &MessageSpan) -> [Option<String>; 3] {
    span.enter(|| {
        let (published, attributes) = capture().expect("the thread publishes a span");
        assert_eq!(published.span_id.0, span.span_context().span_id().to_bytes());
        told(&attributes)
    })
}

fn told(attributes: &Attributes) -> [Option<String>; 3] {
    [Key::MessagingDestinationName, Key::MessagingConsumerGroupName, Key::MessagingOperationName]
        .map(|key| attributes.get(key).map(str::to_owned))
}

fn expected(destination: &str, group: Option<&str>, operation: &str) -> [Option<String>; 3] {
    [Some(destination), group, Some(operation)].map(|value| value.map(str::to_owned))
}

/// The ways in which a service may have it; the spans say the same in each.
fn ways(exported: &Exported) -> [Instrumentation; 2] {
    let by_the_function =
        exported.instrumentation(System::RocketMq).with_attributes(spanprof::with_attributes);
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder()
        .with_span_processor(spanprof::ProfileProcessor::new())
        .build();
    let by_the_processor = Instrumentation::new(System::RocketMq).with_tracer_provider(&provider);
    // The processor is told of spans as long as its provider lives.
    PROVIDERS.lock().unwrap().push(provider);
    [by_the_function, by_the_processor]
}

static PROVIDERS: Mutex<Vec<opentelemetry_sdk::trace::SdkTracerProvider>> = Mutex::new(Vec::new());

fn consumer(rocketmq: &Instrumentation) -> Consumer {
    rocketmq.consumer("orders", "billing")
}

#[test]
fn records_tell_what_is_processed_and_what_is_sent_meanwhile() {
    install();
    let exported = Exported::new();
    for rocketmq in ways(&exported) {
        let process = consumer(&rocketmq).process(&carrying(&elsewhere(7).0), &Message::new());
        assert_eq!(published(&process), expected("orders", Some("billing"), "process"));
        let producer = rocketmq.producer("invoices");
        process.enter(|| {
            let send = producer.send(&mut (), &Message::new());
            assert_eq!(published(&send), expected("invoices", None, "send"));
            drop(send);
            // And the message again.
            assert_eq!(told(&capture().unwrap().1), expected("orders", Some("billing"), "process"));
        });
        process.done();
        assert!(capture().is_none());
    }
}

#[test]
fn records_are_as_low_in_cardinality_as_names() {
    install();
    let exported = Exported::new();
    for rocketmq in ways(&exported).iter().take(1) {
        let sensor = Destination::from("sensors/7").template("sensors/{sensor}");
        let send = rocketmq.producer(sensor).send(&mut (), &Message::new());
        assert_eq!(published(&send), expected("sensors/{sensor}", None, "send"));
        let inbox = Destination::from("inbox-x7").temporary();
        let send = rocketmq.producer(inbox).send(&mut (), &Message::new());
        assert_eq!(published(&send), [None, None, Some("send".to_owned())]);
    }
}

#[test]
fn futures_publish_at_each_poll_on_whichever_thread() {
    install();
    let exported = Exported::new();
    for rocketmq in ways(&exported) {
        let process = consumer(&rocketmq).process(&(), &Message::new());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noting = Arc::clone(&seen);
        let handler = async move {
            for _ in 0..2 {
                noting.lock().unwrap().push(told(&capture().unwrap().1));
                let mut has_waited = false;
                std::future::poll_fn(|_| {
                    let ready = std::task::Poll::Ready(());
                    if std::mem::replace(&mut has_waited, true) { ready } else { std::task::Poll::Pending }
                })
                .await;
            }
        };
        let mut handler = Box::pin(handler.with_context(process.context().clone()));
        loop {
            // Each poll on a thread of its own.
            let (polled, returned) = std::thread::spawn(move || {
                let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                let polled = handler.as_mut().poll(&mut context);
                assert!(capture().is_none());
                (polled, handler)
            })
            .join()
            .unwrap();
            handler = returned;
            if polled.is_ready() {
                break;
            }
        }
        assert_eq!(*seen.lock().unwrap(), [(); 2].map(|()| expected("orders", Some("billing"), "process")));
    }
}

#[test]
fn spans_by_hand_have_the_same_attributes() {
    let exported = Exported::new();
    let process = consumer(&exported.instrumentation(System::RocketMq)).process(&(), &Message::new());
    let span = process.trace_context().unwrap();
    let _published =
        spanprof::enter_with_attributes(span.trace_id(), span.span_id(), process.record_attributes());
    assert_eq!(told(&capture().unwrap().1), expected("orders", Some("billing"), "process"));
}

#[test]
fn a_consumers_own_work_can_be_told_too() {
    install();
    let exported = Exported::new();
    let [rocketmq, _] = ways(&exported);
    let _attached = consumer(&rocketmq).context().attach();
    let tracer = opentelemetry::trace::TracerProvider::tracer(exported.provider(), "service");
    let span = opentelemetry::trace::Tracer::start(&tracer, "commit offsets");
    let context = opentelemetry::trace::TraceContextExt::with_span(&Context::current(), span);
    let _attached = context.attach();
    assert_eq!(told(&capture().unwrap().1)[0].as_deref(), Some("orders"));
}
