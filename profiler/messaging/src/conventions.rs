//! The names that OpenTelemetry's conventions for messaging give, and ours beside them.

use opentelemetry::trace::SpanKind;

/// The version of the conventions that spans and metrics follow: <https://opentelemetry.io/docs/specs/semconv/messaging/>.
pub const VERSION: &str = "1.44.0";

/// The schema of that version, which spans and metrics name.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// The value of `error.type` for an error without a name of its own.
pub const OTHER_ERROR: &str = "_OTHER";

/// Attributes by the conventions.
pub mod attribute {
    /// The messaging system.
    pub const SYSTEM: &str = "messaging.system";
    /// The system's own word for the operation.
    pub const OPERATION_NAME: &str = "messaging.operation.name";
    /// The conventions' word for the operation.
    pub const OPERATION_TYPE: &str = "messaging.operation.type";
    /// Topic, queue or subject.
    pub const DESTINATION_NAME: &str = "messaging.destination.name";
    /// The pattern that the destination's name follows.
    pub const DESTINATION_TEMPLATE: &str = "messaging.destination.template";
    /// Whether the destination goes away with its users.
    pub const DESTINATION_TEMPORARY: &str = "messaging.destination.temporary";
    /// Whether the destination has no name, or one that was made up for it.
    pub const DESTINATION_ANONYMOUS: &str = "messaging.destination.anonymous";
    /// Partition or queue within the destination.
    pub const PARTITION: &str = "messaging.destination.partition.id";
    /// The consumer group.
    pub const CONSUMER_GROUP: &str = "messaging.consumer.group.name";
    /// Which client.
    pub const CLIENT_ID: &str = "messaging.client.id";
    /// How many messages, for operations on batches alone.
    pub const BATCH_COUNT: &str = "messaging.batch.message_count";
    /// The message's id.
    pub const MESSAGE_ID: &str = "messaging.message.id";
    /// The id of the conversation that the message belongs to.
    pub const CONVERSATION_ID: &str = "messaging.message.conversation_id";
    /// The size of the message's body in bytes.
    pub const BODY_SIZE: &str = "messaging.message.body.size";
    /// What an operation failed with.
    pub const ERROR_TYPE: &str = "error.type";
    /// The broker's name or address.
    pub const SERVER_ADDRESS: &str = "server.address";
    /// The broker's port.
    pub const SERVER_PORT: &str = "server.port";
    /// The address of the node that was talked to.
    pub const PEER_ADDRESS: &str = "network.peer.address";
    /// The port of the node that was talked to.
    pub const PEER_PORT: &str = "network.peer.port";

    /// The namespace of RocketMQ's resources; empty where there is none.
    pub const ROCKETMQ_NAMESPACE: &str = "messaging.rocketmq.namespace";
    /// `clustering` or `broadcasting`.
    pub const ROCKETMQ_CONSUMPTION_MODEL: &str = "messaging.rocketmq.consumption_model";
    /// `normal`, `fifo`, `delay` or `transaction`.
    pub const ROCKETMQ_TYPE: &str = "messaging.rocketmq.message.type";
    /// The message's tag.
    pub const ROCKETMQ_TAG: &str = "messaging.rocketmq.message.tag";
    /// The message's keys.
    pub const ROCKETMQ_KEYS: &str = "messaging.rocketmq.message.keys";
    /// The group within which messages keep their order.
    pub const ROCKETMQ_GROUP: &str = "messaging.rocketmq.message.group";
    /// The level of a delayed message.
    pub const ROCKETMQ_DELAY_LEVEL: &str = "messaging.rocketmq.message.delay_time_level";
    /// When a delayed message is to be delivered, in milliseconds since 1970.
    pub const ROCKETMQ_DELIVERY_TIMESTAMP: &str = "messaging.rocketmq.message.delivery_timestamp";

    /// The record's offset in its partition.
    pub const KAFKA_OFFSET: &str = "messaging.kafka.offset";
    /// The record's key.
    pub const KAFKA_KEY: &str = "messaging.kafka.message.key";
    /// Whether the record deletes its key; told if it does.
    pub const KAFKA_TOMBSTONE: &str = "messaging.kafka.message.tombstone";
    /// Which cluster.
    pub const KAFKA_CLUSTER_ID: &str = "messaging.kafka.cluster.id";

    /// RabbitMQ's routing key.
    pub const RABBITMQ_ROUTING_KEY: &str = "messaging.rabbitmq.destination.routing_key";
}

/// Attributes for what the conventions have no name.
pub mod own_attribute {
    /// Which delivery of the message it is, from 1.
    pub const DELIVERY_ATTEMPT: &str = "spanprof.messaging.delivery.attempt";
    /// What becomes of a message that was not processed: `retry` or `dead_letter`.
    pub const OUTCOME: &str = "spanprof.messaging.outcome";
    /// The destination from which a dead letter came.
    pub const DEAD_LETTER_OF: &str = "spanprof.messaging.dead_letter.of";
    /// The message's offset in its queue, outside Kafka.
    pub const OFFSET: &str = "spanprof.messaging.offset";
    /// How long the message lay at the broker, in seconds.
    pub const QUEUEING: &str = "spanprof.messaging.queueing.duration";
    /// How long the message lay in the client before its handler was called, in seconds.
    pub const AWAIT: &str = "spanprof.messaging.await.duration";
}

/// A messaging system.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum System {
    /// Apache RocketMQ.
    RocketMq,
    /// Apache Kafka.
    Kafka,
    /// MQTT, any broker. The conventions have no value for it yet; others write `mqtt` too.
    Mqtt,
    /// NATS. The conventions have no value for it yet.
    Nats,
    /// RabbitMQ.
    RabbitMq,
    /// Another one, by the conventions' value for it or, if there is none, its name in lower case.
    Other(&'static str),
}

impl System {
    /// The value of `messaging.system`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RocketMq => "rocketmq",
            Self::Kafka => "kafka",
            Self::Mqtt => "mqtt",
            Self::Nats => "nats",
            Self::RabbitMq => "rabbitmq",
            Self::Other(name) => name,
        }
    }

    /// The system's word for an operation.
    pub(crate) const fn word(self, operation: Operation) -> &'static str {
        match (operation, self) {
            (Operation::Create, _) => "create",
            (Operation::Send, Self::Mqtt | Self::Nats | Self::RabbitMq) => "publish",
            (Operation::Send, _) => "send",
            (Operation::Receive, Self::Kafka) => "poll",
            (Operation::Receive, _) => "receive",
            (Operation::Process, _) => "process",
            (Operation::Settle, _) => "settle",
        }
    }
}

/// What the conventions call an operation's type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// A message of a batch is made.
    Create,
    /// One or more messages are sent.
    Send,
    /// One or more messages are asked for.
    Receive,
    /// One or more messages are worked on.
    Process,
    /// One or more messages are settled.
    Settle,
}

impl Operation {
    /// The value of `messaging.operation.type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Process => "process",
            Self::Settle => "settle",
        }
    }

    /// The span's kind; of a send span that other spans' contexts were put into messages for, it is `CLIENT`.
    pub const fn kind(self) -> SpanKind {
        match self {
            Self::Create | Self::Send => SpanKind::Producer,
            Self::Receive | Self::Settle => SpanKind::Client,
            Self::Process => SpanKind::Consumer,
        }
    }
}

/// How a message is settled. Each is an operation of its own name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Settlement {
    /// It was processed; in Kafka, the offset is committed.
    Acknowledge,
    /// It was not processed and is to be delivered again.
    Reject,
    /// It goes to the dead-letter queue.
    DeadLetter,
    /// Its time to be processed is made longer.
    Extend,
    /// Another one, by the system's word.
    Other(&'static str),
}

impl Settlement {
    /// All that have a name of their own.
    pub(crate) const NAMED: [Self; 4] = [Self::Acknowledge, Self::Reject, Self::DeadLetter, Self::Extend];

    /// The system's word.
    pub const fn name(self, system: System) -> &'static str {
        match (self, system) {
            (Self::Acknowledge, System::Kafka) => "commit",
            (Self::Acknowledge, _) => "ack",
            (Self::Reject, _) => "nack",
            (Self::DeadLetter, _) => "dead_letter",
            (Self::Extend, _) => "extend",
            (Self::Other(name), _) => name,
        }
    }
}

/// What type of message it is, in RocketMQ.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MessageType {
    /// No more than a message.
    Normal,
    /// In order within its group.
    Fifo,
    /// Delivered later.
    Delay,
    /// Delivered once its transaction is committed.
    Transaction,
}

impl MessageType {
    /// The value of `messaging.rocketmq.message.type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Fifo => "fifo",
            Self::Delay => "delay",
            Self::Transaction => "transaction",
        }
    }
}
