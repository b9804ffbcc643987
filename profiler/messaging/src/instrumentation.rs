//! What all messages of a client have in common, said once: the system, where spans go, how they hang together.

use std::sync::Arc;

use opentelemetry::global::{self, BoxedTracer};
use opentelemetry::trace::{SpanKind, TracerProvider};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use spanprof_context::{Attributes, Key};

use crate::conventions::{self, Operation, Settlement, System, attribute};
use crate::{Consumer, Consumers, Destination, Producer, Producers};

/// Puts attributes for a thread's record into a context; `spanprof::with_attributes` is one.
pub type WithAttributes = fn(&Context, &Arc<Attributes>) -> Context;

/// Which span is the parent of a single message's process span. Links to the message are made in any case, and for a batch
/// or for nothing but links, the parent is what was there before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ProcessParent {
    /// The span around it, if there is one; if not, the message's, so that sending and processing are one trace. The
    /// conventions allow that, and advise against it within another span.
    #[default]
    MessageUnlessWithinSpan,
    /// The message's, even within another span, which is then linked too.
    Message,
    /// The span around it, or none: messages are linked alone.
    Surrounding,
}

/// The instrumentation of one client: of one system, with one way of making spans.
///
/// ```
/// use spanprof_messaging::{Instrumentation, System};
/// let kafka = Instrumentation::new(System::Kafka).client_id("billing-7").server("broker.internal", 9092);
/// let producer = kafka.producer("invoices");
/// let consumer = kafka.consumer("orders", "billing");
/// ```
///
/// Make one per client, and producers and consumers of it once, not per message: what their spans have in common is put
/// together when they are made.
#[derive(Clone, Debug)]
pub struct Instrumentation {
    pub(crate) system: System,
    pub(crate) tracer: Arc<BoxedTracer>,
    namespace: String,
    client_id: Option<String>,
    server: Option<(String, u16)>,
    pub(crate) process_parent: ProcessParent,
    pub(crate) creates: bool,
    pub(crate) with_attributes: Option<WithAttributes>,
    #[cfg(feature = "metrics")]
    pub(crate) instruments: crate::metrics::Instruments,
}

/// Who says what the spans and metrics say.
pub(crate) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("spanprof-messaging")
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(conventions::SCHEMA_URL)
        .build()
}

impl Instrumentation {
    /// With the global tracer, and the global meter if the feature `metrics` is on; both as they are set at this moment.
    #[must_use]
    pub fn new(system: System) -> Self {
        Self {
            system,
            tracer: Arc::new(global::tracer_with_scope(scope())),
            namespace: String::new(),
            client_id: None,
            server: None,
            process_parent: ProcessParent::default(),
            creates: true,
            with_attributes: None,
            #[cfg(feature = "metrics")]
            instruments: crate::metrics::Instruments::of(&global::meter_with_scope(scope())),
        }
    }

    /// Takes the tracer of a provider instead of the global one.
    #[must_use]
    pub fn with_tracer_provider<P>(mut self, provider: &P) -> Self
    where
        P: TracerProvider,
        P::Tracer: Send + Sync + 'static,
        <P::Tracer as opentelemetry::trace::Tracer>::Span: Send + Sync + 'static,
    {
        self.tracer = Arc::new(BoxedTracer::new(Box::new(provider.tracer_with_scope(scope()))));
        self
    }

    /// Takes the meter of a provider instead of the global one.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn with_meter_provider(mut self, provider: &impl opentelemetry::metrics::MeterProvider) -> Self {
        self.instruments = crate::metrics::Instruments::of(&provider.meter_with_scope(scope()));
        self
    }

    /// The namespace of RocketMQ's resources. Empty unless it is said, as its attribute is required.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Which client it is, if it has an id by which brokers tell it apart.
    #[must_use]
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = Some(id.into());
        self
    }

    /// The broker's or cluster's name or address, and port.
    #[must_use]
    pub fn server(mut self, address: impl Into<String>, port: u16) -> Self {
        self.server = Some((address.into(), port));
        self
    }

    /// Which span is a process span's parent.
    #[must_use]
    pub fn process_parent(mut self, parent: ProcessParent) -> Self {
        self.process_parent = parent;
        self
    }

    /// Whether each message of a batch that is sent gets a create span of its own, as the conventions advise: `true` unless
    /// it is said. Without, all of a batch carry the context of the send span.
    #[must_use]
    pub fn create_spans(mut self, creates: bool) -> Self {
        self.creates = creates;
        self
    }

    /// Publishes destination, group and operation in the records of the threads that a span is active on, so that a profiler
    /// tells samples by topic before any span has ended. For services that embed `spanprof`:
    ///
    /// ```
    /// # use spanprof_messaging::{Instrumentation, System};
    /// let rocketmq = Instrumentation::new(System::RocketMq).with_attributes(spanprof::with_attributes);
    /// ```
    ///
    /// Not needed where `spanprof::ProfileProcessor` is among the span processors: it takes them from the spans. This
    /// works without it, also with spans that sampling has dropped.
    #[must_use]
    pub fn with_attributes(mut self, with_attributes: WithAttributes) -> Self {
        self.with_attributes = Some(with_attributes);
        self
    }

    /// Who sends to a destination.
    #[must_use]
    pub fn producer(&self, destination: impl Into<Destination>) -> Producer {
        Producer::new(self.clone(), destination.into())
    }

    /// Who receives from a destination, as one of a group where the system has groups.
    ///
    /// A consumer of several topics has [`consumers`](Self::consumers).
    #[must_use]
    pub fn consumer<'a>(
        &self,
        destination: impl Into<Destination>,
        group: impl Into<Option<&'a str>>,
    ) -> Consumer {
        Consumer::new(self.clone(), destination.into(), group.into())
    }
}

impl Instrumentation {
    /// Producers of destinations that come up while it runs.
    #[must_use]
    pub fn producers(&self) -> Producers {
        Producers::new(self.clone())
    }

    /// Consumers of one group from several destinations, or from those that match a filter.
    #[must_use]
    pub fn consumers<'a>(&self, group: impl Into<Option<&'a str>>) -> Consumers {
        Consumers::new(self.clone(), group.into())
    }
}

/// What all spans of one operation on one destination have in common.
#[derive(Debug)]
pub(crate) struct Prepared {
    #[cfg(feature = "metrics")]
    pub(crate) operation: Operation,
    pub(crate) kind: SpanKind,
    pub(crate) name: String,
    pub(crate) attributes: Vec<KeyValue>,
    /// For the thread's record.
    pub(crate) record: Arc<Attributes>,
    /// Those of the attributes that metrics have.
    #[cfg(feature = "metrics")]
    pub(crate) measured: Vec<KeyValue>,
}

/// For whom an operation is prepared.
pub(crate) struct Place<'a> {
    pub(crate) destination: &'a Destination,
    pub(crate) group: Option<&'a str>,
    /// Attributes that were added by hand.
    pub(crate) more: &'a [KeyValue],
}

impl Instrumentation {
    pub(crate) fn prepare(&self, operation: Operation, place: &Place<'_>) -> Arc<Prepared> {
        self.prepare_named(operation, self.system.word(operation), place)
    }

    pub(crate) fn prepare_settlement(&self, settlement: Settlement, place: &Place<'_>) -> Arc<Prepared> {
        self.prepare_named(Operation::Settle, settlement.name(self.system), place)
    }

    fn prepare_named(&self, operation: Operation, word: &'static str, place: &Place<'_>) -> Arc<Prepared> {
        let shared = |text: &str| Arc::<str>::from(text);
        let destination = place.destination;
        let mut attributes = vec![
            KeyValue::new(attribute::SYSTEM, self.system.name()),
            KeyValue::new(attribute::OPERATION_NAME, word),
            KeyValue::new(attribute::OPERATION_TYPE, operation.name()),
        ];
        if let Some((address, port)) = &self.server {
            attributes.push(KeyValue::new(attribute::SERVER_ADDRESS, shared(address)));
            attributes.push(KeyValue::new(attribute::SERVER_PORT, i64::from(*port)));
        }
        if let Some(template) = &destination.template {
            attributes.push(KeyValue::new(attribute::DESTINATION_TEMPLATE, shared(template)));
        }
        if let Some(group) = self.group(operation, place.group) {
            attributes.push(KeyValue::new(attribute::CONSUMER_GROUP, shared(group)));
        }
        #[cfg(feature = "metrics")]
        let mut measured = attributes.clone();
        if !destination.name.is_empty() {
            let name = KeyValue::new(attribute::DESTINATION_NAME, shared(&destination.name));
            #[cfg(feature = "metrics")]
            if destination.template.is_none() && destination.is_lasting() {
                measured.push(name.clone());
            }
            attributes.push(name);
        }
        attributes.extend(destination.flags());
        if let Some(id) = &self.client_id
            && operation != Operation::Create
        {
            attributes.push(KeyValue::new(attribute::CLIENT_ID, shared(id)));
        }
        if self.system == System::RocketMq {
            attributes.push(KeyValue::new(attribute::ROCKETMQ_NAMESPACE, shared(&self.namespace)));
        }
        attributes.extend(place.more.iter().cloned());
        Arc::new(Prepared {
            #[cfg(feature = "metrics")]
            operation,
            kind: operation.kind(),
            name: self.span_name(word, destination),
            attributes,
            record: Arc::new(record(word, destination, self.group(operation, place.group))),
            #[cfg(feature = "metrics")]
            measured,
        })
    }

    /// The group that a span says: consumers' operations alone have one, and RocketMQ's have to.
    fn group<'a>(&self, operation: Operation, group: Option<&'a str>) -> Option<&'a str> {
        match operation {
            Operation::Create | Operation::Send => None,
            _ => group.or((self.system == System::RocketMq).then_some("")),
        }
    }

    fn span_name(&self, word: &str, destination: &Destination) -> String {
        let target = match (&destination.template, &self.server) {
            (Some(template), _) => template.to_string(),
            (None, _) if destination.is_lasting() && !destination.name.is_empty() => {
                destination.name.to_string()
            }
            (None, Some((address, port))) if destination.name.is_empty() => format!("{address}:{port}"),
            _ => return word.to_owned(),
        };
        format!("{word} {target}")
    }
}

/// What the record says of the destination is as low in cardinality as the span's name.
fn record(word: &str, destination: &Destination, group: Option<&str>) -> Attributes {
    let mut record = Attributes::new();
    let name = destination.template.as_deref().or(destination.is_lasting().then_some(&*destination.name));
    for (key, value) in [
        (Key::MessagingDestinationName, name),
        (Key::MessagingConsumerGroupName, group),
        (Key::MessagingOperationName, Some(word)),
    ] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            record = record.with(key, value);
        }
    }
    record
}
