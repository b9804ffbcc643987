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
//! is good only while the span that it shares with all threads says that it isn't closed.
//!
//! Refused: the outer span by a stack of records, each kept alive by its own count. Counting up and down at every
//! enter costs more than finding the outer span again at the exit.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spanprof_context::thread::{self, SetAside};
use spanprof_context::{Attributes, SpanContext, SpanId, TraceId};
use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes as NewSpan, Id, Record};
use tracing_core::subscriber::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

#[cfg(feature = "finished-spans")]
use crate::finished_spans;
use crate::messaging::Messaging;
use crate::{publish, span_ids};

/// Spans that a thread finds without a look-up.
const CACHED: usize = 64;

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
    span: SpanContext,
    attributes: Arc<Attributes>,
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

/// A span of one layer.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name {
    layer: u64,
    span: u64,
}

impl Name {
    fn place(self) -> usize {
        // The lower bits count a thread's spans, those from 38 on tell the threads that made them.
        ((self.span ^ self.span >> 38) % CACHED as u64) as usize
    }
}

/// What a thread has entered.
struct Entered {
    spans: Vec<Name>,
    cache: [Option<(Name, Arc<Published>)>; CACHED],
    /// What guards published before the outermost span was entered.
    outside: Option<Box<SetAside>>,
}

thread_local! {
    /// Made at the thread's first span, so that a library needs no thread-local room for it. Taken out while it is used:
    /// what spans do in the middle of that, as an allocator might that has spans of its own, finds none.
    static ENTERED: Cell<Option<Box<Entered>>> = const { Cell::new(None) };
}

/// Uses what the thread has entered. `None` on a thread that is about to end, its storage gone.
#[inline]
fn with_entered<T>(action: impl FnOnce(&mut Entered) -> T) -> Option<T> {
    ENTERED
        .try_with(|cell| {
            let mut entered = cell.take().unwrap_or_else(Entered::new);
            let result = action(&mut entered);
            cell.set(Some(entered));
            result
        })
        .ok()
}

impl Entered {
    #[cold]
    fn new() -> Box<Self> {
        Box::new(Self { spans: Vec::new(), cache: [const { None }; CACHED], outside: None })
    }

    #[inline]
    fn enter(&mut self, name: Name, look_up: impl FnOnce() -> Option<Arc<Published>>) {
        if self.spans.is_empty() {
            self.outside = thread::set_aside();
        }
        self.spans.push(name);
        self.publish(name, look_up);
    }

    /// The span is left: as a rule the innermost, but guards may be dropped in any order.
    #[inline]
    fn exit(&mut self, name: Name, look_up: impl FnOnce(Name) -> Option<Arc<Published>>) {
        if self.spans.last() != Some(&name) {
            return self.exit_within(name);
        }
        self.spans.pop();
        match self.spans.last() {
            Some(&outer) => self.publish(outer, || look_up(outer)),
            None => match self.outside.take() {
                None => publish::clear(),
                Some(outside) => {
                    thread::put_back(outside);
                    publish::changed();
                }
            },
        }
    }

    /// The innermost span stays what it is. A span that isn't there was entered before the layer was, or its filter has
    /// changed.
    #[cold]
    fn exit_within(&mut self, name: Name) {
        if let Some(position) = self.spans.iter().rposition(|entered| *entered == name) {
            self.spans.remove(position);
        }
    }

    #[inline]
    fn publish(&mut self, name: Name, look_up: impl FnOnce() -> Option<Arc<Published>>) {
        let entry = &mut self.cache[name.place()];
        match entry {
            Some((cached, published)) if *cached == name && !published.is_over.load(Ordering::Relaxed) => {}
            _ => *entry = look_up().map(|published| (name, published)),
        }
        match entry {
            Some((_, published)) => publish::set_with_attributes(&published.span, &published.attributes),
            // The span is unknown here; better nothing than the outer one.
            None => publish::clear(),
        }
    }
}

impl SpanLayer {
    fn name(&self, id: &Id) -> Name {
        Name { layer: self.number, span: id.into_u64() }
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
                fields.published(parent.span, Some(parent.local_root), own, Some(&parent.attributes))
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
                parent: parent.map(|parent| parent.span.span_id),
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
        // A root's local root is itself, also under another id.
        let local_root = Some(before.local_root).filter(|root| *root != before.span.span_id);
        let after = fields.published(before.span, local_root, before.span.span_id, Some(&before.attributes));
        #[cfg(feature = "finished-spans")]
        let after = Published { began: before.began, ..after };
        span.extensions_mut().replace(Arc::new(after));
        before.is_over.store(true, Ordering::Relaxed);
        let name = self.name(id);
        let _ = with_entered(|entered| {
            if entered.spans.last() == Some(&name) {
                entered.publish(name, || look_up(&context, id));
            }
        });
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let name = self.name(id);
        // A thread that is about to end, its storage gone, publishes no more.
        let _ = with_entered(|entered| entered.enter(name, || look_up(&context, id)));
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        let name = self.name(id);
        let exited = with_entered(|entered| {
            entered.exit(name, |outer| {
                // Another subscriber's spans are not to be found in this one.
                (outer.layer == name.layer).then(|| look_up(&context, &Id::from_u64(outer.span)))?
            });
        });
        if exited.is_none() {
            publish::clear();
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
    let attributes = || KEYS.iter().filter_map(|key| Some((key.name(), published.attributes.get(*key)?)));
    let bytes = attributes().map(|(key, value)| attribute_bytes(key, value)).sum();
    finished_spans::put(most_bytes(name, bytes, 0), |writer| {
        let span = &published.span;
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

/// What a span's fields say.
#[derive(Default)]
struct Fields {
    trace_id: Option<TraceId>,
    span_id: Option<SpanId>,
    flags: Option<u8>,
    messaging: Messaging,
}

impl Fields {
    fn are_empty(&self) -> bool {
        self.trace_id.is_none() && self.span_id.is_none() && self.messaging.is_empty()
    }

    /// The ids that the fields name, else those of `otherwise`, with `own` for the span.
    fn published(
        &self,
        otherwise: SpanContext,
        local_root: Option<SpanId>,
        own: SpanId,
        inherited: Option<&Arc<Attributes>>,
    ) -> Published {
        let span = SpanContext::new(
            self.trace_id.unwrap_or(otherwise.trace_id),
            self.span_id.unwrap_or(own),
            self.flags.unwrap_or(otherwise.flags),
        );
        let local_root = local_root.unwrap_or(span.span_id);
        Published {
            span,
            attributes: self.messaging.attributes(Some(local_root), inherited),
            local_root,
            #[cfg(feature = "finished-spans")]
            began: None,
            is_over: AtomicBool::new(false),
        }
    }

    fn text(&mut self, name: &str, text: &str) {
        match name {
            "trace_id" => self.trace_id = text.parse().ok().filter(TraceId::is_valid).or(self.trace_id),
            "span_id" => self.span_id = text.parse().ok().filter(SpanId::is_valid).or(self.span_id),
            "traceparent" => {
                if let Some((trace_id, flags)) = parse_traceparent(text) {
                    self.trace_id = Some(trace_id);
                    self.flags = Some(flags);
                }
            }
            _ => {
                if let Some(key) = Messaging::key(name) {
                    self.messaging.set(key, text.to_owned());
                }
            }
        }
    }

    fn is_wanted(name: &str) -> bool {
        matches!(name, "trace_id" | "span_id" | "traceparent") || Messaging::key(name).is_some()
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "span_id" && value != 0 {
            self.span_id = Some(SpanId(value.to_be_bytes()));
        }
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        if field.name() == "trace_id" && value != 0 {
            self.trace_id = Some(TraceId(value.to_be_bytes()));
        }
    }

    /// `%value` and `?value`; the latter puts strings into quotes.
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if Self::is_wanted(field.name()) {
            let text = format!("{value:?}");
            let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            self.text(field.name(), unquoted.unwrap_or(&text));
        }
    }
}

/// The trace and its flags of a W3C `traceparent`, of version 00 or a later one that begins like it.
fn parse_traceparent(text: &str) -> Option<(TraceId, u8)> {
    let mut parts = text.trim().split('-');
    let version = parts.next().filter(|version| version.len() == 2 && *version != "ff")?;
    u8::from_str_radix(version, 16).ok()?;
    let trace_id: TraceId = parts.next()?.parse().ok()?;
    let parent: SpanId = parts.next()?.parse().ok()?;
    let flags = parts.next().filter(|flags| flags.len() == 2)?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    let is_whole = version != "00" || parts.next().is_none();
    (is_whole && trace_id.is_valid() && parent.is_valid()).then_some((trace_id, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparents() {
        let trace: TraceId = "0af7651916cd43dd8448eb211c80319c".parse().unwrap();
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(parse_traceparent(good), Some((trace, 1)));
        assert_eq!(parse_traceparent(&format!("cc{}-more", &good[2..])), Some((trace, 1)));
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "é0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(parse_traceparent(bad), None, "{bad}");
        }
    }
}
