//! For services on `tracing` without OpenTelemetry: a layer that publishes the span that a thread has entered.
//!
//! **Where ids come from.** A span's fields, where they are there; else they are generated, as nobody else has any:
//!
//! | field | meaning |
//! |---|---|
//! | `trace_id` | the trace, 32 hexadecimal digits or a `u128` |
//! | `span_id` | the span, 16 hexadecimal digits or a `u64` |
//! | `traceparent` | a W3C header: the trace and its flags. The span in it is the *sender's*, so this span gets an id of its own |
//!
//! A span without a trace is in its parent's, a root in a new one. Generated ids stand nowhere else but in profiles.
//! `messaging.destination.name`, `messaging.consumer.group.name` and `messaging.operation.name` become the record's
//! attributes, for the span and those inside it; the tree's root is the local root span. All of these may also be recorded
//! later, for as long as inner spans don't exist yet.
//!
//! **How an enter stays cheap.** Looking up a span's extensions takes a lock and costs 20 ns. So each thread keeps 64 spans
//! by their id. An id may come again, once `tracing` has closed the span and used its place some thousand times; an entry
//! is good only while the span that it shares with all threads says that it isn't closed. An enter or exit that finds
//! all it needs there is a few comparisons and the copy of a record that was made with the span; everything else is out of
//! its way.
//!
//! Refused: the outer span by a stack of records, each kept alive by its own count. Counting up and down at every
//! enter costs more than finding the outer span again at the exit.

mod entered;
mod fields;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spanprof_context::{Attributes, Prepared, SpanContext, SpanId};
use tracing_core::span::{Attributes as NewSpan, Id, Record};
use tracing_core::subscriber::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use self::entered::Name;
use self::fields::Fields;
#[cfg(feature = "finished-spans")]
use crate::finished_spans;
use crate::span_ids;

/// A layer for `tracing_subscriber` that publishes, on every thread, the innermost span that it has entered.
///
/// For services **without** OpenTelemetry. With `tracing-opentelemetry` there is no need for it: the agent follows
/// OpenTelemetry's own ids. Use one of both.
///
/// ```
/// use tracing_subscriber::prelude::*;
///
/// tracing_subscriber::registry().with(spanprof::layer()).init();
/// let span = tracing::info_span!("process", messaging.destination.name = "orders");
/// span.in_scope(|| { /* published meanwhile, with the topic */ });
/// ```
///
/// Ids are taken from the fields `trace_id` and `span_id` (hexadecimal) or `traceparent` (a W3C header, for the trace) of a
/// span, from its parent, or generated: such stand nowhere else but in profiles.
pub fn layer() -> SpanLayer {
    static LAYERS: AtomicU64 = AtomicU64::new(1);
    span_ids::prepare();
    SpanLayer { number: LAYERS.fetch_add(1, Ordering::Relaxed) }
}

/// Publishes `tracing`'s spans; made by [`layer`].
pub struct SpanLayer {
    /// Tells registries apart, whose spans have the same ids.
    number: u64,
}

impl fmt::Debug for SpanLayer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SpanLayer").finish_non_exhaustive()
    }
}

/// What is published for a span; in its extensions, and in the caches of threads that entered it.
struct Published {
    record: Prepared,
    local_root: SpanId,
    /// Where somebody wants to know how long it took.
    #[cfg(feature = "finished-spans")]
    began: Option<Began>,
    /// Set when the span is closed, or another state of it has taken this one's place.
    is_over: AtomicBool,
}

/// What its end is told with.
#[cfg(feature = "finished-spans")]
#[derive(Clone, Copy)]
struct Began {
    unix_ns: u64,
    parent: Option<SpanId>,
}

impl Published {
    fn new(span: SpanContext, attributes: Arc<Attributes>, local_root: SpanId) -> Self {
        Self {
            record: Prepared::new(span, attributes),
            local_root,
            #[cfg(feature = "finished-spans")]
            began: None,
            is_over: AtomicBool::new(false),
        }
    }

    #[inline]
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

impl SpanLayer {
    fn name(&self, id: &Id) -> Name {
        Name { layer: self.number, span: id.into_u64() }
    }

    /// Takes its arguments as they come, so that [`on_enter`](Layer::on_enter) may end in a jump here.
    #[cold]
    #[inline(never)]
    fn enter<S>(&self, id: &Id, context: Context<'_, S>)
    where
        S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    {
        entered::enter(self.name(id), || look_up(&context, id));
    }

    /// As above.
    #[cold]
    #[inline(never)]
    fn exit<S>(&self, id: &Id, context: Context<'_, S>)
    where
        S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    {
        entered::exit(self.name(id), |outer| {
            // Another subscriber's spans are not to be found in this one.
            (outer.layer == self.number).then(|| look_up(&context, &Id::from_u64(outer.span)))?
        });
    }
}

impl<S> Layer<S> for SpanLayer
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    fn on_new_span(&self, attributes: &NewSpan<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let parent = span.parent().and_then(|parent| parent.extensions().get::<Arc<Published>>().cloned());
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let own = span_ids::span_id();
        let published = match &parent {
            Some(parent) => {
                let (span, attributes) = (*parent.record.span(), parent.record.attributes());
                fields.published(span, Some(parent.local_root), own, Some(attributes))
            }
            None => {
                let root = SpanContext::new(span_ids::trace_id(), own, 0);
                fields.published(root, None, own, None)
            }
        };
        #[cfg(feature = "finished-spans")]
        let published = Published {
            began: finished_spans::are_wanted().then(|| Began {
                unix_ns: finished_spans::unix_now(),
                parent: parent.map(|parent| parent.record.span().span_id),
            }),
            ..published
        };
        span.extensions_mut().replace(Arc::new(published));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        let Some(span) = context.span(id).filter(|_| !fields.are_empty()) else { return };
        let Some(before) = span.extensions().get::<Arc<Published>>().cloned() else { return };
        let (was, attributes) = (*before.record.span(), before.record.attributes());
        // A root's local root is itself, also under another id.
        let local_root = Some(before.local_root).filter(|root| *root != was.span_id);
        let after = fields.published(was, local_root, was.span_id, Some(attributes));
        #[cfg(feature = "finished-spans")]
        let after = Published { began: before.began, ..after };
        span.extensions_mut().replace(Arc::new(after));
        before.is_over.store(true, Ordering::Relaxed);
        entered::renew(self.name(id), || look_up(&context, id));
    }

    #[inline]
    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if !entered::enter_known(self.name(id)) {
            self.enter(id, context);
        }
    }

    #[inline]
    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        if !entered::exit_known(self.name(id)) {
            self.exit(id, context);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(published) = span.extensions_mut().remove::<Arc<Published>>() else { return };
        published.is_over.store(true, Ordering::Relaxed);
        #[cfg(feature = "finished-spans")]
        if let Some(began) = published.began {
            tell(span.name(), &published, began);
        }
    }
}

/// Tells the agent on this machine of a span that has ended.
#[cfg(feature = "finished-spans")]
fn tell(name: &str, published: &Published, began: Began) {
    use finished_spans::write::{Kind, attribute_bytes, most_bytes};
    use spanprof_context::Key;

    const KEYS: [Key; 3] =
        [Key::MessagingDestinationName, Key::MessagingConsumerGroupName, Key::MessagingOperationName];
    let attributes =
        || KEYS.iter().filter_map(|key| Some((key.name(), published.record.attributes().get(*key)?)));
    let bytes = attributes().map(|(key, value)| attribute_bytes(key, value)).sum();
    finished_spans::put(most_bytes(name, bytes, 0), |writer| {
        let span = published.record.span();
        writer.ids(span.trace_id.0, span.span_id.0, began.parent.map(|parent| parent.0));
        writer.name(name, Kind::Internal);
        writer.times(began.unix_ns, finished_spans::unix_now());
        for (key, value) in attributes() {
            writer.text(key, value);
        }
    });
}

#[cold]
fn look_up<S>(context: &Context<'_, S>, id: &Id) -> Option<Arc<Published>>
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    context.span(id)?.extensions().get::<Arc<Published>>().cloned()
}
