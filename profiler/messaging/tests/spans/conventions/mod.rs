//! Every operation's span against a table of OpenTelemetry's conventions for messaging, version 1.44.0.
//!
//! A row says what the conventions require of one span: its name, its kind, and its attributes. What is required or
//! conditionally required must be there with its value; what must not be there (such as a message count on an API for single
//! messages) must not.

mod kafka;
mod others;
mod rocketmq;

use opentelemetry::trace::{SpanKind, Status};
use opentelemetry_sdk::trace::SpanData;
use spanprof_messaging::{Instrumentation, Message, Settlement, System, conventions};

use crate::exported::{Exported, attribute, carrying, elsewhere};

/// The version that the table below was made from.
const VERSION: &str = "1.44.0";

struct Row {
    /// Which of the conventions' span definitions it is, and the case of it.
    case: &'static str,
    system: System,
    /// Makes the span; the last that ends is looked at.
    make: fn(&Instrumentation),
    name: &'static str,
    kind: SpanKind,
    /// Attributes with their values.
    required: &'static [(&'static str, &'static str)],
    forbidden: &'static [&'static str],
}

const COUNT: &str = "messaging.batch.message_count";
const GROUP: &str = "messaging.consumer.group.name";
const DESTINATION: &str = "messaging.destination.name";
const OPERATION: &str = "messaging.operation.name";
const TYPE: &str = "messaging.operation.type";
const SYSTEM: &str = "messaging.system";
const ERROR: &str = "error.type";
const NAMESPACE: &str = "messaging.rocketmq.namespace";
const PARTITION: &str = "messaging.destination.partition.id";

fn batch(instrumentation: &Instrumentation) {
    let producer = instrumentation.producer("orders");
    let mut batch = producer.batch();
    batch.add(&mut Vec::<(String, String)>::new(), &Message::new());
    batch.add(&mut Vec::<(String, String)>::new(), &Message::new());
    batch.send().done();
}

fn two() -> [(&'static [(&'static str, &'static str)], Message<'static>); 2] {
    [(&[], Message::new().id("a")), (&[], Message::new().id("b"))]
}

fn check(row: &Row, span: &SpanData) {
    let case = row.case;
    assert_eq!(span.name, row.name, "{case}");
    assert_eq!(span.span_kind, row.kind, "{case}");
    for (key, value) in row.required {
        assert_eq!(attribute(span, key).as_deref(), Some(*value), "{case}: {key}");
    }
    for key in row.forbidden {
        assert_eq!(attribute(span, key), None, "{case}: {key}");
    }
    // An error is told in both places or in none.
    let has_failed = matches!(span.status, Status::Error { .. });
    assert_eq!(has_failed, attribute(span, ERROR).is_some(), "{case}");
    assert!(has_failed || span.status == Status::Unset, "{case}");
    let scope = &span.instrumentation_scope;
    assert_eq!(scope.schema_url(), Some("https://opentelemetry.io/schemas/1.44.0"), "{case}");
}

#[test]
fn every_operation_is_as_the_conventions_require() {
    assert_eq!(conventions::VERSION, VERSION, "the table has to be made anew");
    for row in rocketmq::ROWS.iter().chain(kafka::ROWS).chain(others::ROWS) {
        let exported = Exported::new();
        (row.make)(&exported.instrumentation(row.system));
        let spans = exported.spans();
        check(row, spans.last().unwrap_or_else(|| panic!("{}: no span", row.case)));
    }
}

#[test]
fn every_operation_of_every_system_has_the_attributes_that_all_need() {
    for system in
        [System::RocketMq, System::Kafka, System::Mqtt, System::Nats, System::RabbitMq, System::Other("x")]
    {
        let exported = Exported::new();
        let client = exported.instrumentation(system);
        batch(&client);
        client.producer("orders").send(&mut (), &Message::new()).done();
        let consumer = client.consumer("orders", "billing");
        consumer.poll().many(two());
        consumer.process(&carrying(&elsewhere(1).0), &Message::new()).done();
        consumer.settle(Settlement::Acknowledge, &(), &Message::new()).done();
        let spans = exported.spans();
        assert_eq!(spans.len(), 7);
        for span in spans {
            for key in [SYSTEM, OPERATION, TYPE, DESTINATION] {
                assert!(attribute(&span, key).is_some(), "{system:?}: {}: {key}", span.name);
            }
            assert_eq!(attribute(&span, NAMESPACE).is_some(), system == System::RocketMq);
            let name = format!("{} orders", attribute(&span, OPERATION).unwrap());
            assert_eq!(span.name, name);
        }
    }
}
