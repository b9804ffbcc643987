//! Every operation's span against a table of OpenTelemetry's conventions for messaging, version 1.44.0.
//!
//! A row says what the conventions require of one span: its name, its kind, and its attributes. What is required or
//! conditionally required must be there with its value; what must not be there (such as a message count on an API for single
//! messages) must not.

use std::time::{Duration, SystemTime};

use crate::exported::{Exported, attribute, carrying, elsewhere};
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry_sdk::trace::SpanData;
use spanprof_messaging::{
    Destination, Instrumentation, Message, MessageType, Settlement, System, conventions,
};

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

const TABLE: &[Row] = &[
    Row {
        case: "span.messaging.rocketmq.send.producer",
        system: System::RocketMq,
        make: |client| {
            client.producer("orders").send(&mut (), &Message::new()).message_id("id").partition(2).done()
        },
        name: "send orders",
        kind: SpanKind::Producer,
        required: &[
            (OPERATION, "send"),
            (TYPE, "send"),
            (SYSTEM, "rocketmq"),
            (NAMESPACE, ""),
            (DESTINATION, "orders"),
            ("messaging.message.id", "id"),
            (PARTITION, "2"),
        ],
        forbidden: &[COUNT, GROUP, ERROR],
    },
    Row {
        case: "span.messaging.rocketmq.send.producer, fifo",
        system: System::RocketMq,
        make: |client| {
            let message = Message::new().group("customer 7").tag("placed").keys(["o-1", "c-7"]);
            client.clone().namespace("shop").producer("orders").send(&mut (), &message).done();
        },
        name: "send orders",
        kind: SpanKind::Producer,
        required: &[
            (NAMESPACE, "shop"),
            ("messaging.rocketmq.message.group", "customer 7"),
            ("messaging.rocketmq.message.type", "fifo"),
            ("messaging.rocketmq.message.tag", "placed"),
            ("messaging.rocketmq.message.keys", "[\"o-1\",\"c-7\"]"),
        ],
        forbidden: &[],
    },
    Row {
        case: "span.messaging.rocketmq.send.producer, delay by level",
        system: System::RocketMq,
        make: |client| client.producer("orders").send(&mut (), &Message::new().delay_level(3)).done(),
        name: "send orders",
        kind: SpanKind::Producer,
        required: &[
            ("messaging.rocketmq.message.type", "delay"),
            ("messaging.rocketmq.message.delay_time_level", "3"),
        ],
        forbidden: &["messaging.rocketmq.message.delivery_timestamp"],
    },
    Row {
        case: "span.messaging.rocketmq.send.producer, delay to a time",
        system: System::RocketMq,
        make: |client| {
            let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_665_987_217_045);
            client.producer("orders").send(&mut (), &Message::new().delivery(at)).done();
        },
        name: "send orders",
        kind: SpanKind::Producer,
        required: &[
            ("messaging.rocketmq.message.type", "delay"),
            ("messaging.rocketmq.message.delivery_timestamp", "1665987217045"),
        ],
        forbidden: &["messaging.rocketmq.message.delay_time_level"],
    },
    Row {
        case: "span.messaging.rocketmq.send.producer, transaction",
        system: System::RocketMq,
        make: |client| {
            let message = Message::new().message_type(MessageType::Transaction);
            client.producer("orders").send(&mut (), &message).done();
        },
        name: "send orders",
        kind: SpanKind::Producer,
        required: &[("messaging.rocketmq.message.type", "transaction")],
        forbidden: &[],
    },
    Row {
        case: "span.messaging.rocketmq.send.producer, failed",
        system: System::RocketMq,
        make: |client| {
            client.producer("orders").send(&mut (), &Message::new()).failed("TOPIC_NOT_EXIST", "no route")
        },
        name: "send orders",
        kind: SpanKind::Producer,
        required: &[(OPERATION, "send"), (SYSTEM, "rocketmq"), (NAMESPACE, ""), (ERROR, "TOPIC_NOT_EXIST")],
        forbidden: &[],
    },
    Row {
        case: "span.messaging.send.client, rocketmq batch with create spans",
        system: System::RocketMq,
        make: batch,
        name: "send orders",
        kind: SpanKind::Client,
        required: &[
            (OPERATION, "send"),
            (TYPE, "send"),
            (SYSTEM, "rocketmq"),
            (NAMESPACE, ""),
            (DESTINATION, "orders"),
            (COUNT, "2"),
        ],
        forbidden: &[GROUP, ERROR, "messaging.message.id"],
    },
    Row {
        case: "span.messaging.rocketmq.send.producer, batch without create spans",
        system: System::RocketMq,
        make: |client| batch(&client.clone().create_spans(false)),
        name: "send orders",
        kind: SpanKind::Producer,
        required: &[(OPERATION, "send"), (NAMESPACE, ""), (COUNT, "2")],
        forbidden: &[],
    },
    Row {
        case: "span.messaging.create.producer",
        system: System::RocketMq,
        make: |client| {
            let producer = client.producer("orders");
            let mut batch = producer.batch();
            batch.add(&mut Vec::<(String, String)>::new(), &Message::new().id("a"));
            std::mem::drop(batch); // so that the create span is the last to end
        },
        name: "create orders",
        kind: SpanKind::Producer,
        required: &[
            (OPERATION, "create"),
            (TYPE, "create"),
            (SYSTEM, "rocketmq"),
            (DESTINATION, "orders"),
            ("messaging.message.id", "a"),
        ],
        forbidden: &[COUNT, GROUP, "messaging.client.id"],
    },
    Row {
        case: "span.messaging.rocketmq.receive.client",
        system: System::RocketMq,
        make: |client| client.consumer("orders", "billing").poll().many(two()),
        name: "receive orders",
        kind: SpanKind::Client,
        required: &[
            (OPERATION, "receive"),
            (TYPE, "receive"),
            (SYSTEM, "rocketmq"),
            (NAMESPACE, ""),
            (GROUP, "billing"),
            (DESTINATION, "orders"),
            (COUNT, "2"),
        ],
        forbidden: &[ERROR, "messaging.message.id"],
    },
    Row {
        case: "span.messaging.rocketmq.receive.client, one by one",
        system: System::RocketMq,
        make: |client| client.consumer("orders", "billing").poll().one(&(), &Message::new().id("a")),
        name: "receive orders",
        kind: SpanKind::Client,
        required: &[(GROUP, "billing"), (NAMESPACE, ""), ("messaging.message.id", "a")],
        forbidden: &[COUNT],
    },
    Row {
        case: "span.messaging.rocketmq.receive.client, failed",
        system: System::RocketMq,
        make: |client| {
            client.consumer("orders", "billing").poll().failed("SYSTEM_BUSY", "[OVERLOAD]system busy")
        },
        name: "receive orders",
        kind: SpanKind::Client,
        required: &[(OPERATION, "receive"), (GROUP, "billing"), (NAMESPACE, ""), (ERROR, "SYSTEM_BUSY")],
        forbidden: &[COUNT],
    },
    Row {
        case: "span.messaging.rocketmq.process.consumer",
        system: System::RocketMq,
        make: |client| {
            let message = Message::new().id("a").partition(2).offset(42).attempt(3);
            client.consumer("orders", "billing").process(&(), &message).done();
        },
        name: "process orders",
        kind: SpanKind::Consumer,
        required: &[
            (OPERATION, "process"),
            (TYPE, "process"),
            (SYSTEM, "rocketmq"),
            (NAMESPACE, ""),
            (GROUP, "billing"),
            (DESTINATION, "orders"),
            (PARTITION, "2"),
            ("messaging.message.id", "a"),
            ("spanprof.messaging.offset", "42"),
            ("spanprof.messaging.delivery.attempt", "3"),
        ],
        forbidden: &[COUNT, ERROR, "messaging.kafka.offset"],
    },
    Row {
        case: "span.messaging.rocketmq.process.consumer, batch",
        system: System::RocketMq,
        make: |client| client.consumer("orders", "billing").process_batch(two()).done(),
        name: "process orders",
        kind: SpanKind::Consumer,
        required: &[(OPERATION, "process"), (NAMESPACE, ""), (GROUP, "billing"), (COUNT, "2")],
        forbidden: &["messaging.message.id"],
    },
    Row {
        case: "span.messaging.rocketmq.process.consumer, without a group",
        system: System::RocketMq,
        make: |client| client.consumer("orders", None).process(&(), &Message::new()).done(),
        name: "process orders",
        kind: SpanKind::Consumer,
        required: &[(GROUP, ""), (NAMESPACE, "")],
        forbidden: &[],
    },
    Row {
        case: "span.messaging.settle.client, rocketmq",
        system: System::RocketMq,
        make: |client| {
            let consumer = client.consumer("orders", "billing");
            consumer.settle(Settlement::Acknowledge, &(), &Message::new().id("a")).done();
        },
        name: "ack orders",
        kind: SpanKind::Client,
        required: &[
            (OPERATION, "ack"),
            (TYPE, "settle"),
            (SYSTEM, "rocketmq"),
            (DESTINATION, "orders"),
            (GROUP, "billing"),
            ("messaging.message.id", "a"),
        ],
        forbidden: &[COUNT, ERROR],
    },
    Row {
        case: "span.messaging.settle.client, rejected",
        system: System::RocketMq,
        make: |client| client.consumer("orders", "g").settle(Settlement::Reject, &(), &Message::new()).done(),
        name: "nack orders",
        kind: SpanKind::Client,
        required: &[(OPERATION, "nack"), (TYPE, "settle")],
        forbidden: &[],
    },
    Row {
        case: "span.messaging.settle.client, dead letter, failed",
        system: System::RocketMq,
        make: |client| {
            let consumer = client.consumer("orders", "g");
            consumer.settle(Settlement::DeadLetter, &(), &Message::new()).failed("PROXY_TIMEOUT", "");
        },
        name: "dead_letter orders",
        kind: SpanKind::Client,
        required: &[(OPERATION, "dead_letter"), (TYPE, "settle"), (ERROR, "PROXY_TIMEOUT")],
        forbidden: &[],
    },
    Row {
        case: "span.messaging.settle.client, batch, another word",
        system: System::RocketMq,
        make: |client| {
            let settlement = Settlement::Other("change_invisible_duration");
            client.consumer("orders", "g").settle_batch(settlement, two()).done();
        },
        name: "change_invisible_duration orders",
        kind: SpanKind::Client,
        required: &[(OPERATION, "change_invisible_duration"), (TYPE, "settle"), (COUNT, "2")],
        forbidden: &[],
    },
    Row {
        case: "span.messaging.kafka.send.producer",
        system: System::Kafka,
        make: |client| {
            let send = client.producer("orders").send(&mut (), &Message::new().key("o-1").tombstone(true));
            send.partition(1).offset(12).done();
        },
        name: "send orders",
        kind: SpanKind::Producer,
        required: &[
            (OPERATION, "send"),
            (TYPE, "send"),
            (SYSTEM, "kafka"),
            (DESTINATION, "orders"),
            (PARTITION, "1"),
            ("messaging.kafka.message.key", "o-1"),
            ("messaging.kafka.message.tombstone", "true"),
            ("messaging.kafka.offset", "12"),
        ],
        forbidden: &[COUNT, GROUP, NAMESPACE, "spanprof.messaging.offset"],
    },
    Row {
        case: "span.messaging.kafka.send.client",
        system: System::Kafka,
        make: batch,
        name: "send orders",
        kind: SpanKind::Client,
        required: &[
            (OPERATION, "send"),
            (TYPE, "send"),
            (SYSTEM, "kafka"),
            (DESTINATION, "orders"),
            (COUNT, "2"),
        ],
        forbidden: &[NAMESPACE, GROUP],
    },
    Row {
        case: "span.messaging.kafka.create.producer",
        system: System::Kafka,
        make: |client| {
            let producer = client.producer("orders");
            let mut batch = producer.batch();
            batch.add(&mut Vec::<(String, String)>::new(), &Message::new().key("o-1"));
            std::mem::drop(batch);
        },
        name: "create orders",
        kind: SpanKind::Producer,
        required: &[
            (OPERATION, "create"),
            (TYPE, "create"),
            (SYSTEM, "kafka"),
            (DESTINATION, "orders"),
            ("messaging.kafka.message.key", "o-1"),
        ],
        forbidden: &["messaging.kafka.message.tombstone", COUNT],
    },
    Row {
        case: "span.messaging.kafka.receive.client",
        system: System::Kafka,
        make: |client| {
            let messages = [12, 13].map(|offset| (&(), Message::new().partition(1).offset(offset)));
            client.clone().client_id("8").consumer("orders", "billing").poll().many(messages);
        },
        name: "poll orders",
        kind: SpanKind::Client,
        required: &[
            (OPERATION, "poll"),
            (TYPE, "receive"),
            (SYSTEM, "kafka"),
            (GROUP, "billing"),
            (DESTINATION, "orders"),
            (PARTITION, "1"),
            ("messaging.client.id", "8"),
            (COUNT, "2"),
        ],
        forbidden: &["messaging.kafka.offset"],
    },
    Row {
        case: "span.messaging.kafka.process.consumer",
        system: System::Kafka,
        make: |client| {
            let message = Message::new().partition(1).offset(12).key("o-1");
            client.consumer("orders", "billing").process(&(), &message).done();
        },
        name: "process orders",
        kind: SpanKind::Consumer,
        required: &[
            (OPERATION, "process"),
            (TYPE, "process"),
            (SYSTEM, "kafka"),
            (GROUP, "billing"),
            (DESTINATION, "orders"),
            (PARTITION, "1"),
            ("messaging.kafka.offset", "12"),
            ("messaging.kafka.message.key", "o-1"),
        ],
        forbidden: &[COUNT, "messaging.kafka.message.tombstone"],
    },
    Row {
        case: "span.messaging.kafka.settle.client",
        system: System::Kafka,
        make: |client| {
            let consumer = client.consumer("orders", "billing");
            consumer.settle(Settlement::Acknowledge, &(), &Message::new().partition(1).offset(12)).done();
        },
        name: "commit orders",
        kind: SpanKind::Client,
        required: &[
            (OPERATION, "commit"),
            (TYPE, "settle"),
            (SYSTEM, "kafka"),
            (GROUP, "billing"),
            (DESTINATION, "orders"),
            (PARTITION, "1"),
            ("messaging.kafka.offset", "12"),
        ],
        forbidden: &[COUNT],
    },
    Row {
        case: "span.messaging.send.producer, mqtt, by a template",
        system: System::Mqtt,
        make: |client| {
            let topic = Destination::from("sensors/7/celsius").template("sensors/{sensor}/celsius");
            client.clone().server("broker", 1883).producer(topic).send(&mut (), &Message::new()).done();
        },
        name: "publish sensors/{sensor}/celsius",
        kind: SpanKind::Producer,
        required: &[
            (OPERATION, "publish"),
            (TYPE, "send"),
            (SYSTEM, "mqtt"),
            (DESTINATION, "sensors/7/celsius"),
            ("messaging.destination.template", "sensors/{sensor}/celsius"),
            ("server.address", "broker"),
            ("server.port", "1883"),
        ],
        forbidden: &[GROUP, NAMESPACE],
    },
    Row {
        case: "span.messaging.process.consumer, mqtt, by a filter",
        system: System::Mqtt,
        make: |client| {
            let consumer = client.consumer("sensors/#", None);
            consumer.process(&(), &Message::new().destination("sensors/7/celsius")).done();
        },
        name: "process sensors/#",
        kind: SpanKind::Consumer,
        required: &[
            (OPERATION, "process"),
            (TYPE, "process"),
            (SYSTEM, "mqtt"),
            (DESTINATION, "sensors/7/celsius"),
        ],
        forbidden: &[GROUP],
    },
    Row {
        case: "span.messaging.send.producer, nats, to a reply subject",
        system: System::Nats,
        make: |client| {
            let inbox = Destination::from("_INBOX.x7").temporary().anonymous();
            client.producer(inbox).send(&mut (), &Message::new().conversation("c")).done();
        },
        name: "publish",
        kind: SpanKind::Producer,
        required: &[
            (OPERATION, "publish"),
            (SYSTEM, "nats"),
            (DESTINATION, "_INBOX.x7"),
            ("messaging.destination.temporary", "true"),
            ("messaging.destination.anonymous", "true"),
            ("messaging.message.conversation_id", "c"),
        ],
        forbidden: &[],
    },
    Row {
        case: "span.messaging.send.producer, rabbitmq",
        system: System::RabbitMq,
        make: |client| {
            client.producer("invoices").send(&mut (), &Message::new().key("eu.#").body_size(7)).done()
        },
        name: "publish invoices",
        kind: SpanKind::Producer,
        required: &[
            (OPERATION, "publish"),
            (SYSTEM, "rabbitmq"),
            (DESTINATION, "invoices"),
            ("messaging.rabbitmq.destination.routing_key", "eu.#"),
            ("messaging.message.body.size", "7"),
        ],
        forbidden: &[],
    },
    Row {
        case: "span.messaging.receive.client, on no destination in particular",
        system: System::Other("pulsar"),
        make: |client| client.clone().server("broker", 6650).consumer("", "billing").poll().many(two()),
        name: "receive broker:6650",
        kind: SpanKind::Client,
        required: &[(OPERATION, "receive"), (SYSTEM, "pulsar"), ("server.address", "broker")],
        forbidden: &[],
    },
];

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
    for row in TABLE {
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
