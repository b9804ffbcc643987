//! RocketMQ: its own definitions, and the general ones where it has none.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::SpanKind;
use spanprof_messaging::{Message, MessageType, Settlement, System};

use super::{
    COUNT, DESTINATION, ERROR, GROUP, NAMESPACE, OPERATION, PARTITION, Row, SYSTEM, TYPE, batch, two,
};

pub(super) const ROWS: &[Row] = &[
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
];
