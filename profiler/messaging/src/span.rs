//! One operation's span, from its start to what came of it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::context::ContextGuard;
use opentelemetry::global::BoxedTracer;
use opentelemetry::trace::{Link, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use spanprof_context::Attributes;

use crate::carrier::CarrierMut;
use crate::conventions::{System, attribute, own_attribute};
use crate::instrumentation::{Instrumentation, Prepared, WithAttributes};
use crate::{TraceContext, inject_span};

/// The span of one operation: sending, receiving, processing, settling. It ends when it is told what came of it, or when it is
/// dropped.
///
/// To work within it, [`attach`](Self::attach) or [`enter`](Self::enter) it on the thread, or give its
/// [`context`](Self::context) to a future:
///
/// ```
/// # use std::collections::HashMap;
/// use opentelemetry::trace::FutureExt;
/// use spanprof_messaging::{Instrumentation, Message, System};
/// # async fn handle() -> Result<(), String> { Ok(()) }
/// # async fn consume(properties: HashMap<String, String>) {
/// # let consumer = Instrumentation::new(System::RocketMq).consumer("orders", "billing");
/// let process = consumer.process(&properties, &Message::new().attempt(1));
/// match handle().with_context(process.context().clone()).await {
///     Ok(()) => process.done(),
///     Err(error) => process.retried("handler", error), // it will be delivered again
/// }
/// # }
/// ```
///
/// A span that is dropped without a word ends without an error, but while its thread panics, with `error.type` `panic`.
#[must_use = "the operation's span ends when this is dropped"]
#[derive(Debug)]
pub struct MessageSpan {
    context: Context,
    prepared: Arc<Prepared>,
    system: System,
    started: (SystemTime, Instant),
    has_ended: bool,
    #[cfg(feature = "metrics")]
    pub(crate) measures: Measures,
}

/// What the metrics of a span's end need.
#[cfg(feature = "metrics")]
#[derive(Clone, Debug)]
pub(crate) struct Measures {
    pub(crate) instruments: crate::metrics::Instruments,
    /// Messages that were sent or consumed with it; 0 where others count them.
    pub(crate) messages: u64,
}

/// A span that is to be started.
pub(crate) struct Start<'a> {
    pub(crate) prepared: &'a Arc<Prepared>,
    /// The kind, where it isn't the operation's.
    pub(crate) kind: SpanKind,
    pub(crate) parent: Context,
    pub(crate) attributes: Vec<KeyValue>,
    pub(crate) links: Vec<Link>,
    /// When it began, if before now.
    pub(crate) since: Option<(SystemTime, Instant)>,
}

impl<'a> Start<'a> {
    /// In the context that is current, with what the operation prepared.
    pub(crate) fn of(prepared: &'a Arc<Prepared>) -> Self {
        Self {
            prepared,
            kind: prepared.kind.clone(),
            parent: Context::current(),
            attributes: prepared.attributes.clone(),
            links: Vec::new(),
            since: None,
        }
    }

    pub(crate) fn start(self, instrumentation: &Instrumentation) -> MessageSpan {
        let started = self.since.unwrap_or_else(|| (SystemTime::now(), Instant::now()));
        let context = start_span(
            &instrumentation.tracer,
            SpanBuilder {
                span_kind: Some(self.kind),
                name: self.prepared.name.clone().into(),
                start_time: Some(started.0),
                attributes: Some(self.attributes),
                links: (!self.links.is_empty()).then_some(self.links),
                ..SpanBuilder::default()
            },
            self.parent,
            instrumentation.with_attributes.map(|with_attributes| (with_attributes, &self.prepared.record)),
        );
        MessageSpan {
            context,
            prepared: Arc::clone(self.prepared),
            system: instrumentation.system,
            started,
            has_ended: false,
            #[cfg(feature = "metrics")]
            measures: Measures { instruments: instrumentation.instruments.clone(), messages: 0 },
        }
    }
}

fn start_span(
    tracer: &BoxedTracer,
    builder: SpanBuilder,
    parent: Context,
    record: Option<(WithAttributes, &Arc<Attributes>)>,
) -> Context {
    // Into the parent: whoever looks at the span's beginning sees them, as do all contexts derived from it.
    let parent = match record {
        Some((with_attributes, record)) => with_attributes(&parent, record),
        None => parent,
    };
    parent.with_span(tracer.build_with_context(builder, &parent))
}

impl MessageSpan {
    /// The context with this span in it.
    #[inline]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Makes it the thread's current span until the guard is dropped.
    #[inline]
    pub fn attach(&self) -> ContextGuard {
        self.context.clone().attach()
    }

    /// Calls a function within the span.
    #[inline]
    pub fn enter<T>(&self, function: impl FnOnce() -> T) -> T {
        let _attached = self.attach();
        function()
    }

    /// What messages that are made by this span carry; `None` without a tracer. Its `tracestate` is not in it: see
    /// [`inject_span`](crate::inject_span).
    pub fn trace_context(&self) -> Option<TraceContext<'static>> {
        TraceContext::of(&self.span_context())
    }

    /// Puts its context, `tracestate` included, into one more message that it makes. `false` without a tracer.
    pub fn inject<C: CarrierMut + ?Sized>(&self, carrier: &mut C) -> bool {
        inject_span(&self.span_context(), carrier)
    }

    /// The span's context, as OpenTelemetry has it.
    pub fn span_context(&self) -> SpanContext {
        self.context.span().span_context().clone()
    }

    /// Destination, group and operation as a thread's record has them, put together once for all spans like this: for
    /// services that mark spans by hand, with `spanprof::enter_with_attributes`.
    pub fn record_attributes(&self) -> &Arc<Attributes> {
        &self.prepared.record
    }

    /// What the broker's answer says: the message's id.
    pub fn message_id(self, id: impl Into<String>) -> Self {
        self.set_attribute(KeyValue::new(attribute::MESSAGE_ID, id.into()));
        self
    }

    /// What the broker's answer says: the partition, or RocketMQ's queue id.
    pub fn partition(self, number: impl Into<i64>) -> Self {
        self.set_attribute(KeyValue::new(attribute::PARTITION, number.into().to_string()));
        self
    }

    /// What the broker's answer says: the offset in the partition or queue.
    pub fn offset(self, offset: i64) -> Self {
        let key = match self.system {
            System::Kafka => attribute::KAFKA_OFFSET,
            _ => own_attribute::OFFSET,
        };
        self.set_attribute(KeyValue::new(key, offset));
        self
    }

    /// The node that was talked to.
    pub fn peer(self, address: impl Into<String>, port: u16) -> Self {
        self.set_attribute(KeyValue::new(attribute::PEER_ADDRESS, address.into()));
        self.set_attribute(KeyValue::new(attribute::PEER_PORT, i64::from(port)));
        self
    }

    /// Any other attribute.
    pub fn set_attribute(&self, attribute: KeyValue) {
        self.context.span().set_attribute(attribute);
    }

    /// The same span in a context that has a value more.
    #[cfg(feature = "metrics")]
    pub(crate) fn with_value<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.context = self.context.with_value(value);
        self
    }

    pub(crate) fn add_link(&self, link: Link) {
        self.context.span().add_link(link.span_context, link.attributes);
    }

    /// How long it has been going on.
    pub fn elapsed(&self) -> Duration {
        self.started.1.elapsed()
    }

    /// It succeeded.
    pub fn done(mut self) {
        self.end(None);
    }

    /// It failed. `error_type` is of low cardinality: the broker's word for it where there is one, such as `TOPIC_NOT_EXIST`
    /// (for RocketMQ see [`answers`](crate::rocketmq::answers)), or the error's type. The description may be empty.
    pub fn failed(mut self, error_type: impl Into<Cow<'static, str>>, description: impl ToString) {
        self.end(Some((error_type.into(), description.to_string())));
    }

    /// The message was not processed and will be delivered again.
    pub fn retried(self, error_type: impl Into<Cow<'static, str>>, description: impl ToString) {
        self.set_attribute(KeyValue::new(own_attribute::OUTCOME, "retry"));
        self.failed(error_type, description);
    }

    /// The message was not processed, and goes or went to the dead-letter queue.
    pub fn dead_lettered(self, error_type: impl Into<Cow<'static, str>>, description: impl ToString) {
        self.set_attribute(KeyValue::new(own_attribute::OUTCOME, "dead_letter"));
        self.failed(error_type, description);
    }

    fn end(&mut self, error: Option<(Cow<'static, str>, String)>) {
        self.has_ended = true;
        let span = self.context.span();
        let elapsed = self.started.1.elapsed();
        let error_type = error.map(|(error_type, description)| {
            span.set_attribute(KeyValue::new(attribute::ERROR_TYPE, error_type.clone()));
            span.set_status(Status::error(description));
            error_type
        });
        // By the monotonic clock, so that the metric and the span say the same.
        span.end_with_timestamp(self.started.0 + elapsed);
        #[cfg(feature = "metrics")]
        self.measures.instruments.ended(&self.prepared, elapsed, self.measures.messages, error_type);
        #[cfg(not(feature = "metrics"))]
        drop(error_type);
    }
}

impl Drop for MessageSpan {
    fn drop(&mut self) {
        if !self.has_ended {
            self.end(std::thread::panicking().then(|| ("panic".into(), String::new())));
        }
    }
}
