//! How spans hang together: what messages carry, parents and links, retries and dead letters, and what leaves no span.

use std::collections::{HashMap, HashSet};

use crate::exported::{Exported, attribute, carrying, elsewhere, linked};
use opentelemetry::Context;
use opentelemetry::trace::{SpanId, SpanKind, Status, TraceContextExt};
use spanprof_messaging::rocketmq::Properties;
use spanprof_messaging::{Message, MessageSpan, ProcessParent, Settlement, System, TraceContext};

const ATTEMPT: &str = "spanprof.messaging.delivery.attempt";
const OUTCOME: &str = "spanprof.messaging.outcome";

fn id(span: &MessageSpan) -> SpanId {
    span.span_context().span_id()
}

fn carried(properties: &impl spanprof_messaging::Carrier) -> SpanId {
    TraceContext::extract(properties).expect("a context").to_opentelemetry().span_id()
}

#[test]
fn a_message_carries_its_send_span() {
    let exported = Exported::new();
    let producer = exported.instrumentation(System::RocketMq).producer("orders");
    let mut properties = HashMap::<String, String>::new();
    let send = producer.send(&mut properties, &Message::new());
    assert_eq!(carried(&properties), id(&send));
    assert!(TraceContext::extract(&properties).unwrap().is_sampled());
    send.done();
    assert!(exported.span().links.is_empty());
}

#[test]
fn a_context_of_ones_own_is_kept_and_linked() {
    let exported = Exported::new();
    let producer = exported.instrumentation(System::RocketMq).producer("orders");
    let (own, link) = elsewhere(7);
    let mut properties = carrying(&own);
    producer.send(&mut properties, &Message::new()).done();
    assert_eq!(TraceContext::extract(&properties), Some(own));
    let span = exported.span();
    assert_eq!(linked(&span), [link.span_id()]);
    assert_eq!(span.span_kind, SpanKind::Client);
}

#[test]
fn each_message_of_a_batch_has_a_creation_context_of_its_own() {
    let exported = Exported::new();
    let producer = exported.instrumentation(System::RocketMq).producer("orders");
    let mut messages = vec![HashMap::<String, String>::new(); 32];
    messages[5] = carrying(&elsewhere(7).0).into_iter().collect();
    let mut batch = producer.batch();
    for (number, properties) in messages.iter_mut().enumerate() {
        batch.add(properties, &Message::new().id(&number.to_string()));
    }
    batch.send().done();
    let carried: Vec<_> = messages.iter().map(carried).collect();
    let spans = exported.spans();
    let (send, creates) = spans.split_last().unwrap();
    // One less: the message that had a context gets no create span.
    assert_eq!(creates.len(), 31);
    assert_eq!(linked(send), carried);
    assert_eq!(attribute(send, "messaging.batch.message_count").as_deref(), Some("32"));
    for create in creates {
        assert!(carried.contains(&create.span_context.span_id()));
        assert_eq!(create.span_kind, SpanKind::Producer);
        assert_eq!(create.parent_span_id, send.parent_span_id);
    }
    let distinct: HashSet<_> = carried.into_iter().collect();
    assert_eq!(distinct.len(), 32);
}

#[test]
fn without_create_spans_all_of_a_batch_carry_the_send_span() {
    let exported = Exported::new();
    let producer = exported.instrumentation(System::Kafka).create_spans(false).producer("orders");
    let (own, link) = elsewhere(7);
    let mut messages = [Vec::<(String, String)>::new(), carrying(&own), Vec::new()];
    let mut batch = producer.batch();
    for properties in &mut messages {
        batch.add(properties, &Message::new());
    }
    batch.send().done();
    let span = exported.span();
    let send = span.span_context.span_id();
    assert_eq!(messages.each_ref().map(carried), [send, link.span_id(), send]);
    assert_eq!(linked(&span), [link.span_id()]);
}

#[test]
fn processing_continues_the_messages_trace_unless_it_is_within_a_span() {
    let (message, context) = elsewhere(7);
    let properties = carrying(&message);
    let (_, other) = elsewhere(9);
    let within = Context::new().with_remote_span_context(other.clone());
    // Whose parent it is, within nothing and within a span; and how many spans are linked within a span.
    for (choice, outside, inside, links) in [
        (ProcessParent::MessageUnlessWithinSpan, context.span_id(), other.span_id(), 1),
        (ProcessParent::Message, context.span_id(), context.span_id(), 2),
        (ProcessParent::Surrounding, SpanId::INVALID, other.span_id(), 1),
    ] {
        let exported = Exported::new();
        let consumer =
            exported.instrumentation(System::Kafka).process_parent(choice).consumer("orders", "billing");
        consumer.process(&properties, &Message::new()).done();
        {
            let _attached = within.clone().attach();
            consumer.process(&properties, &Message::new()).done();
        }
        let spans = exported.spans();
        assert_eq!(spans[0].parent_span_id, outside, "{choice:?}");
        assert_eq!(linked(&spans[0]), [context.span_id()], "{choice:?}");
        assert_eq!(spans[1].parent_span_id, inside, "{choice:?}");
        assert_eq!(linked(&spans[1])[0], context.span_id(), "{choice:?}");
        assert_eq!(spans[1].links.len(), links, "{choice:?}");
    }
}

#[test]
fn a_batch_is_linked_and_never_a_child_of_a_message() {
    let exported = Exported::new();
    let consumer = exported.instrumentation(System::RocketMq).consumer("orders", "billing");
    let messages: Vec<_> = (1..=3).map(|number| carrying(&elsewhere(number).0)).collect();
    let ids = ["a", "b", "c"];
    let facts = |id| Message::new().id(id).tag("placed").partition(2).attempt(1);
    let batch = || messages.iter().zip(ids).map(|(properties, id)| (properties, facts(id)));
    consumer.process_batch(batch()).done();
    consumer.poll().many(batch());
    consumer.settle_batch(Settlement::Acknowledge, batch()).done();
    for span in exported.spans() {
        assert_eq!(span.parent_span_id, SpanId::INVALID, "{}", span.name);
        assert_eq!(linked(&span), [1, 2, 3].map(|number| elsewhere(number).1.span_id()));
        // What they share is told once, what differs with each.
        assert_eq!(attribute(&span, "messaging.rocketmq.message.tag").as_deref(), Some("placed"));
        assert_eq!(attribute(&span, "messaging.message.id"), None);
        for (link, id) in span.links.iter().zip(ids) {
            assert_eq!(link.attributes.len(), 1, "{:?}", link.attributes);
            assert_eq!(link.attributes[0].value.to_string(), id);
        }
    }
}

#[test]
fn a_batch_of_several_topics_tells_them_with_each_message() {
    let exported = Exported::new();
    let consumer = exported.instrumentation(System::Kafka).consumer("", "billing");
    let messages = [carrying(&elsewhere(1).0), carrying(&elsewhere(2).0)];
    let topics = messages.iter().zip(["orders", "refunds"]);
    consumer.poll().many(topics.map(|(properties, topic)| (properties, Message::new().destination(topic))));
    let span = exported.span();
    assert_eq!(attribute(&span, "messaging.destination.name"), None);
    assert_eq!(span.name, "poll");
    assert_eq!(span.links.iter().next().unwrap().attributes[0].value.to_string(), "orders");
}

#[test]
fn messages_without_a_context_are_counted_and_not_linked() {
    let exported = Exported::new();
    let consumer = exported.instrumentation(System::Kafka).consumer("orders", "billing");
    let messages = [carrying(&elsewhere(1).0), vec![("traceparent".to_owned(), "junk".to_owned())], vec![]];
    consumer.process_batch(messages.iter().map(|properties| (properties, Message::new()))).done();
    let span = exported.span();
    assert_eq!(attribute(&span, "messaging.batch.message_count").as_deref(), Some("3"));
    assert_eq!(span.links.len(), 1);
}

#[test]
fn empty_polls_are_neither_spans_nor_errors() {
    let exported = Exported::new();
    let consumer = exported.instrumentation(System::RocketMq).consumer("orders", "billing");
    consumer.poll().empty();
    consumer.poll().many(std::iter::empty::<(&(), Message<'_>)>());
    drop(consumer.poll());
    assert!(exported.spans().is_empty());
}

#[test]
fn a_receive_span_covers_the_poll() {
    let exported = Exported::new();
    let consumer = exported.instrumentation(System::Kafka).consumer("orders", "billing");
    let before = std::time::SystemTime::now();
    let poll = consumer.poll();
    let after = std::time::SystemTime::now();
    poll.one(&(), &Message::new());
    let span = exported.span();
    assert!((before..=after).contains(&span.start_time));
    assert!(span.end_time >= after);
}

#[test]
fn a_message_that_fails_twice_is_three_spans_of_one_trace() {
    let exported = Exported::new();
    let rocketmq = exported.instrumentation(System::RocketMq);
    let mut properties = HashMap::<String, String>::new();
    let send = rocketmq.producer("orders").send(&mut properties, &Message::new());
    let trace = send.span_context().trace_id();
    send.done();
    let consumer = rocketmq.consumer("orders", "billing");
    for attempt in 1..=3 {
        let process = consumer.process(&properties, &Message::new().attempt(attempt));
        if attempt < 3 { process.retried("RECONSUME_LATER", "no stock") } else { process.done() }
    }
    let spans = exported.spans();
    assert!(spans.iter().all(|span| span.span_context.trace_id() == trace));
    let told: Vec<_> = spans[1..]
        .iter()
        .map(|span| {
            (
                attribute(span, ATTEMPT).unwrap(),
                attribute(span, OUTCOME),
                matches!(span.status, Status::Error { .. }),
            )
        })
        .collect();
    let retry = Some("retry".to_owned());
    assert_eq!(
        told,
        [("1".into(), retry.clone(), true), ("2".into(), retry, true), ("3".into(), None, false)]
    );
}

#[test]
fn a_dead_letter_says_so() {
    let exported = Exported::new();
    let rocketmq = exported.instrumentation(System::RocketMq);
    let consumer = rocketmq.consumer("orders", "billing");
    consumer.process(&(), &Message::new().attempt(16)).dead_lettered("RECONSUME_LATER", "");
    let stored = "DLQ_ORIGIN_TOPIC\u{1}orders\u{2}RECONSUME_TIME\u{1}16";
    let properties = Properties::new(stored);
    let letters = rocketmq.consumer("%DLQ%billing", "undertaker");
    letters.process(&properties, &spanprof_messaging::rocketmq::facts(&properties)).done();
    let spans = exported.spans();
    assert_eq!(attribute(&spans[0], OUTCOME).as_deref(), Some("dead_letter"));
    assert_eq!(attribute(&spans[1], "spanprof.messaging.dead_letter.of").as_deref(), Some("orders"));
    assert_eq!(attribute(&spans[1], ATTEMPT).as_deref(), Some("17"));
}

#[test]
fn a_span_is_current_where_it_is_entered() {
    let exported = Exported::new();
    let consumer = exported.instrumentation(System::Kafka).consumer("orders", "billing");
    let process = consumer.process(&(), &Message::new());
    let current = || Context::current().span().span_context().span_id();
    assert_eq!(process.enter(current), id(&process));
    assert_eq!(current(), SpanId::INVALID);
    // What is sent meanwhile is a child, and so is the settling.
    let mut properties = Vec::<(String, String)>::new();
    let producer = exported.instrumentation(System::Kafka).producer("invoices");
    process.enter(|| {
        producer.send(&mut properties, &Message::new()).done();
        consumer.settle(Settlement::Acknowledge, &(), &Message::new()).done();
    });
    for span in exported.spans() {
        assert_eq!(span.parent_span_id, id(&process), "{}", span.name);
    }
}

#[test]
fn a_panic_is_told() {
    let exported = Exported::new();
    let consumer = exported.instrumentation(System::Kafka).consumer("orders", "billing");
    let result = std::thread::spawn(move || {
        let _process = consumer.process(&(), &Message::new());
        panic!("on purpose: the test looks for it");
    })
    .join();
    assert!(result.is_err());
    let span = exported.span();
    assert_eq!(attribute(&span, "error.type").as_deref(), Some("panic"));
    assert!(matches!(span.status, Status::Error { .. }));
}

#[test]
fn a_span_that_is_dropped_ends_once_and_without_error() {
    let exported = Exported::new();
    let consumer = exported.instrumentation(System::Kafka).consumer("orders", "billing");
    drop(consumer.process(&(), &Message::new()));
    let process = consumer.process(&(), &Message::new());
    let context = process.context().clone();
    process.done();
    drop(context);
    let spans = exported.spans();
    assert_eq!(spans.len(), 2);
    assert!(spans.iter().all(|span| span.status == Status::Unset));
}

#[test]
fn without_a_tracer_messages_go_out_as_they_came() {
    let rocketmq = spanprof_messaging::Instrumentation::new(System::RocketMq);
    let mut properties = Vec::<(String, String)>::new();
    let send = rocketmq.producer("orders").send(&mut properties, &Message::new());
    assert_eq!(send.trace_context(), None);
    send.done();
    assert!(properties.is_empty());
    // A context from elsewhere goes through all the same: work on a message passes it on.
    let (message, context) = elsewhere(7);
    let process = rocketmq.consumer("orders", "billing").process(&carrying(&message), &Message::new());
    process.enter(|| rocketmq.producer("invoices").send(&mut properties, &Message::new()).done());
    assert_eq!(carried(&properties), context.span_id());
}

#[test]
fn all_of_it_goes_between_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<spanprof_messaging::Instrumentation>();
    is_shared::<spanprof_messaging::Producer>();
    is_shared::<spanprof_messaging::Consumer>();
    is_shared::<spanprof_messaging::SendBatch<'_>>();
    is_shared::<spanprof_messaging::Poll<'_>>();
    is_shared::<MessageSpan>();
}

#[test]
fn a_context_from_an_envelope_is_carried() {
    use spanprof_messaging::mqtt::{envelope, json};
    let exported = Exported::new();
    let mqtt = exported.instrumentation(System::Mqtt);
    let publish = mqtt.producer("readings").send(&mut (), &Message::new());
    let wrapped = envelope::wrap(b"payload", publish.trace_context().as_ref());
    let object = json::insert(b"{\"celsius\":21}", publish.trace_context().as_ref());
    let mut further = Vec::<(String, String)>::new();
    assert!(publish.inject(&mut further));
    let sent = id(&publish);
    publish.done();
    let carrier = envelope::unwrap(&wrapped).0.map(|context| context.to_traceparent());
    let consumer = mqtt.consumer("readings", None);
    consumer.process(&carrier, &Message::new()).done();
    consumer.process(&json::Payload(&object), &Message::new()).done();
    consumer.process(&further, &Message::new()).done();
    for process in &exported.spans()[1..] {
        assert_eq!(process.parent_span_id, sent);
        assert_eq!(linked(process), [sent]);
    }
}

#[test]
fn a_consumer_of_several_topics_has_one_for_each() {
    let exported = Exported::new();
    let kafka = exported.instrumentation(System::Kafka);
    let consumers = kafka.consumers("billing");
    let messages = [carrying(&elsewhere(1).0), carrying(&elsewhere(2).0)];
    let topics = ["orders", "orders"];
    let polled =
        messages.iter().zip(topics).map(|(carrier, topic)| (carrier, Message::new().destination(topic)));
    consumers.poll().many(polled);
    for (carrier, topic) in messages.iter().zip(["orders", "refunds"]) {
        consumers.of(topic).process(carrier, &Message::new()).done();
    }
    kafka.producers().of("invoices").send(&mut (), &Message::new()).done();
    let spans = exported.spans();
    let names: Vec<_> = spans.iter().map(|span| span.name.as_ref()).collect();
    assert_eq!(names, ["poll", "process orders", "process refunds", "send invoices"]);
    // All that came are of one topic, which the poll then tells.
    assert_eq!(attribute(&spans[0], "messaging.destination.name").as_deref(), Some("orders"));
    for span in &spans[..3] {
        assert_eq!(attribute(span, "messaging.consumer.group.name").as_deref(), Some("billing"));
    }
}
