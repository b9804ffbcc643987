//! Systems without definitions of their own that we use: the general ones.

use opentelemetry::trace::SpanKind;
use spanprof_messaging::{Destination, Message, System};

use super::{DESTINATION, GROUP, NAMESPACE, OPERATION, Row, SYSTEM, TYPE, two};

pub(super) const ROWS: &[Row] = &[
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
