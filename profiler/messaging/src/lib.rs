//! Trace context in messages, and messaging spans and metrics by OpenTelemetry's conventions (1.44), for any client.
//!
//! One trace from the producer to the consumer needs three things, and this crate has each by itself:
//!
//! * [`TraceContext`], one light type for all protocols, with text and binary codecs that allocate nothing;
//! * [`Carrier`] and [`CarrierMut`], by which any client's message carries it in a few lines: one module per protocol
//!   ([`rocketmq`], [`kafka`], [`mqtt`], [`nats`], [`amqp`]) says where and what to beware of;
//! * [`Instrumentation`], which makes the spans: send, receive, process, settle, single or in batches, with links,
//!   attributes and errors as the conventions want them.
//!
//! It wraps no client and hides no API: spans stand beside the client's own calls.
//!
//! # RocketMQ
//!
//! ```
//! # use std::collections::HashMap;
//! # use spanprof_messaging::{Instrumentation, Message, System};
//! # fn send(_: &HashMap<String, String>) -> Result<String, String> { Ok("0A0B…".into()) }
//! let orders = Instrumentation::new(System::RocketMq).producer("orders");
//! let mut properties = HashMap::<String, String>::new();
//! let span = orders.send(&mut properties, &Message::new().tag("placed"));
//! match span.enter(|| send(&properties)) {
//!     Ok(id) => span.message_id(id).done(),
//!     Err(error) => span.failed("SYSTEM_BUSY", error),
//! }
//! ```
//!
//! # Kafka
//!
//! ```
//! # use spanprof_messaging::{Instrumentation, Message, System, carrier::LastWins};
//! # fn handle() -> Result<(), String> { Ok(()) }
//! # let headers: Vec<(String, Vec<u8>)> = vec![];
//! let orders = Instrumentation::new(System::Kafka).consumer("orders", "billing");
//! let process = orders.process(&LastWins(&headers[..]), &Message::new().partition(3).offset(42));
//! match process.enter(handle) {
//!     Ok(()) => process.done(),
//!     Err(error) => process.failed("handler", error),
//! }
//! ```
//!
//! # MQTT 5
//!
//! ```
//! # use spanprof_messaging::{Destination, Instrumentation, Message, System};
//! let topic = Destination::from("sensors/7/celsius").template("sensors/{sensor}/celsius");
//! let celsius = Instrumentation::new(System::Mqtt).producer(topic);
//! let mut user_properties = Vec::<(String, String)>::new();
//! let publish = celsius.send(&mut user_properties, &Message::new());
//! publish.done();
//! ```
//!
//! # NATS
//!
//! ```
//! # use std::collections::HashMap;
//! # use spanprof_messaging::{Instrumentation, Message, System, nats::Headers};
//! # let headers = HashMap::<String, Vec<String>>::new();
//! let orders = Instrumentation::new(System::Nats).consumer("orders", "billing"); // the queue group
//! let process = orders.process(&Headers(&headers), &Message::new());
//! process.enter(|| { /* the handler */ });
//! process.done();
//! ```
//!
//! # AMQP
//!
//! ```
//! # use std::collections::BTreeMap;
//! # use spanprof_messaging::{Instrumentation, Message, System};
//! let invoices = Instrumentation::new(System::RabbitMq).producer("invoices");
//! let mut headers = BTreeMap::<String, String>::new();
//! let publish = invoices.send(&mut headers, &Message::new().key("eu.invoice"));
//! publish.enter(|| { /* the client's own call, with the headers */ });
//! publish.done();
//! ```
//!
//! # For a client that has no helper
//!
//! 1. Let its message be carried: its properties may be a map or pairs already; if not, by a newtype or a closure.
//! 2. One [`Producer`] or [`Consumer`] per topic, made once; [`Producers`] and [`Consumers`] keep them where topics come up
//!    at run time.
//! 3. Begin to send before the client's call, so that the message carries the span; tell the span the broker's answer.
//! 4. Wrap the listener and attach there, or give the future the [`MessageSpan::context`]. Hooks of clients often run on
//!    another thread than the handler, which then has no span.
//! 5. Around what asks for messages, [`Consumer::poll`]; nothing where nothing came.
//!
//! # Profiles by topic and group
//!
//! The crate depends on `spanprof-context` alone; how the attributes get into threads' records is up to the service:
//!
//! | the service | |
//! |---|---|
//! | embeds `spanprof`, and has `spanprof::ProfileProcessor` among its span processors | nothing: it reads them from the spans |
//! | embeds `spanprof` without it | [`Instrumentation::with_attributes`]`(spanprof::with_attributes)` |
//! | marks spans by hand | [`MessageSpan::record_attributes`] for `spanprof::enter_with_attributes` |
//!
//! Refused: a feature that depends on `spanprof`. A function says the same, and no version has to fit another.
//!
//! # What is read from outside
//!
//! Every parser is total and bounded: junk is no context, and never a panic. No baggage is written or read: messages are
//! kept for days, and cross borders that requests don't.
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `metrics` | the conventions' client metrics, and how long messages waited; see the module `metrics` |
//! | `async-nats` | NATS by `async-nats`: `clients::nats` |
//! | `rdkafka` | Kafka by `rdkafka`: `clients::kafka` |
//! | `rocketmq` | RocketMQ over gRPC by Apache's `rocketmq`: `clients::rocketmq_grpc` |
//! | `rocketmq-remoting` | RocketMQ over remoting by the community's `rocketmq-client-rust`: `clients::rocketmq_remoting` |
//! | `rumqttc` | MQTT by `rumqttc`: `clients::mqtt` |

pub mod amqp;
pub mod binary;
mod by_destination;
pub mod carrier;
pub mod clients;
mod consumer;
pub mod conventions;
mod destination;
mod instrumentation;
pub mod kafka;
mod message;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod mqtt;
pub mod nats;
mod poll;
mod producer;
mod received;
pub mod rocketmq;
mod span;
mod text;
mod trace_context;
mod tracestate;

pub use by_destination::{Consumers, Producers};
pub use carrier::{Carrier, CarrierMut};
pub use consumer::Consumer;
pub use conventions::{MessageType, Operation, Settlement, System};
pub use destination::Destination;
pub use instrumentation::{Instrumentation, ProcessParent, WithAttributes};
pub use message::Message;
pub use poll::Poll;
pub use producer::{Producer, SendBatch};
pub use span::MessageSpan;
pub use text::{TRACEPARENT, TRACEPARENT_SIZE, TRACESTATE, Traceparent};
pub use trace_context::{TraceContext, inject_span};
pub use tracestate::LONGEST as LONGEST_TRACESTATE;
