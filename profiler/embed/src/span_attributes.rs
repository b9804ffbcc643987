//! The record's attributes of OpenTelemetry's spans: local root and messaging, put together once per span.
//!
//! A span's attributes can't be read from outside OpenTelemetry's SDK, and a context doesn't know its parent. So a span
//! processor notes both when a span starts; the observer finds them under the span's id when a context with that span is
//! made, and keeps them there: attaching it looks nothing up. The note goes when the span ends.
//!
//! Refused: a note for the next context of the same thread. Contexts with the same span are made again, by baggage and
//! other values, at any time and on any thread.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use opentelemetry::Context;
use opentelemetry::trace::{SpanId as OtelSpanId, TraceContextExt};
use spanprof_context::{Attributes, SpanId};

use crate::messaging::Messaging;
use crate::observer::{self, View};

const SHARDS: usize = 32;
/// Spans alive at once, per shard, of which notes are kept: 131,072 in all, some 20 MB. Beyond, spans have ids alone.
const SHARD_LIMIT: usize = 4096;

/// Whose note it is, and the note.
type Shard = HashMap<OtelSpanId, (u64, Arc<View>)>;

static NOTES: LazyLock<[Mutex<Shard>; SHARDS]> = LazyLock::new(Default::default);

fn shard(span: OtelSpanId) -> MutexGuard<'static, Shard> {
    let shard = usize::from(span.to_bytes()[7]) % SHARDS;
    NOTES[shard].lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Notes what a span that starts publishes: what it says by itself, and what its parent's context publishes.
///
/// `owner` is the number of the processor, whose provider may end before others do.
pub(crate) fn note(owner: u64, span: OtelSpanId, parent: &Context, messaging: &Messaging) {
    let enclosing = observer::view(parent);
    let local_root = match is_local_root(parent) {
        true => Some(SpanId(span.to_bytes())),
        false => enclosing.and_then(|view| view.local_root),
    };
    let attributes = messaging.attributes(local_root, enclosing.map(|view| &view.attributes));
    let given = enclosing.and_then(|view| view.given.clone());
    let mut shard = shard(span);
    if shard.len() < SHARD_LIMIT {
        shard.insert(span, (owner, Arc::new(View { attributes, local_root, given })));
    }
}

/// The span has ended.
pub(crate) fn forget(span: OtelSpanId) {
    let forgotten = shard(span).remove(&span);
    // Freed after the lock is.
    drop(forgotten);
}

/// The processor will tell of no more spans, nor of the end of those that are alive.
pub(crate) fn forget_all(owner: u64) {
    for shard in NOTES.iter() {
        let mut shard = shard.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        shard.retain(|_, (noted_by, _)| *noted_by != owner);
    }
}

/// Whether a span that starts in this context is the first of its trace in this process.
pub(crate) fn is_local_root(parent: &Context) -> bool {
    let span = parent.span();
    let span = span.span_context();
    !span.is_valid() || span.is_remote()
}

/// What a context with a noted span publishes. `given` is what [`with_attributes`](crate::with_attributes) put into it,
/// which the span knew at its start or which came later and then counts for more.
pub(crate) fn view(context: &Context, given: Option<&Arc<View>>) -> Option<Arc<View>> {
    if !context.has_active_span() {
        return None;
    }
    let span = context.span().span_context().span_id();
    let noted = shard(span).get(&span).map(|(_, noted)| Arc::clone(noted))?;
    let given: Option<&Arc<Attributes>> = given.map(|given| &given.attributes);
    match given {
        Some(given) if noted.given.as_ref().is_none_or(|known| !Arc::ptr_eq(known, given)) => {
            let attributes = Messaging::of(given).attributes(noted.local_root, Some(&noted.attributes));
            Some(Arc::new(View { attributes, local_root: noted.local_root, given: Some(given.clone()) }))
        }
        _ => Some(noted),
    }
}
