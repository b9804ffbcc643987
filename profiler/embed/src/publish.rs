//! Every change of what a thread publishes goes through here, so that the self-profile learns of it.
//!
//! The context crate's writer stays free of it: whoever only publishes pays for nothing else.

#[cfg(feature = "tracing")]
use spanprof_context::Prepared;
use spanprof_context::{Attributes, SpanContext, thread};

/// Publishes a span without attributes for the calling thread. An invalid one clears.
#[cfg(feature = "opentelemetry")]
#[inline]
pub(crate) fn set(span: &SpanContext) {
    thread::set(span);
    changed();
}

/// Publishes a span with attributes for the calling thread. An invalid one clears.
#[cfg(feature = "opentelemetry")]
#[inline]
pub(crate) fn set_with_attributes(span: &SpanContext, attributes: &Attributes) {
    thread::set_with_attributes(span, attributes);
    changed();
}

/// Publishes a prepared record for the calling thread. One of an invalid span clears.
#[cfg(feature = "tracing")]
pub(crate) fn set_prepared(record: &Prepared) {
    record.set();
    changed();
}

/// Publishes that the calling thread works on nothing.
#[cfg(any(feature = "opentelemetry", feature = "tracing"))]
#[inline]
pub(crate) fn clear() {
    thread::clear();
    changed();
}

/// What the calling thread publishes has changed.
#[inline]
pub(crate) fn changed() {
    #[cfg(feature = "self-profile")]
    crate::self_profile::on_change();
}

/// Keeps a span published; made by [`enter`](crate::enter). Dropping it restores what was published before.
///
/// Guards of a thread are to be dropped in the reverse order of their making, which scopes do by themselves. If one
/// is dropped while a later one is alive, nothing is published until the next change: better unknown than wrong.
#[must_use = "the span is published only as long as the guard lives"]
#[derive(Debug)]
pub struct Guard {
    _published: thread::Guard,
    /// Dropped after the guard above: fields are dropped in their order.
    _told: Told,
}

#[derive(Debug)]
struct Told;

impl Drop for Told {
    #[inline]
    fn drop(&mut self) {
        changed();
    }
}

/// Publishes a span until the guard is dropped.
#[inline]
pub(crate) fn enter(span: &SpanContext, attributes: Option<&Attributes>) -> Guard {
    let published = match attributes {
        None => thread::enter(span),
        Some(attributes) => thread::enter_with_attributes(span, attributes),
    };
    changed();
    Guard { _published: published, _told: Told }
}
