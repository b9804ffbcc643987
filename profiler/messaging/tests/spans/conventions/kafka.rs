//! Kafka: its own definitions.

use opentelemetry::trace::SpanKind;
use spanprof_messaging::{Message, Settlement, System};

use super::{COUNT, DESTINATION, GROUP, NAMESPACE, OPERATION, PARTITION, Row, SYSTEM, TYPE, batch};

pub(super) const ROWS: &[Row] = &[
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
];
