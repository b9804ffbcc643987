//! The one type that travels with a message, whatever the protocol.
//!
//! It is always valid: ids that are all zero have no context. So nothing below this crate's surface has to ask again.

use spanprof_context::{SpanContext, SpanId, TraceId};

use crate::carrier::{Carrier, CarrierMut};
use crate::{binary, text, tracestate};

/// What a message carries of the span that created it: trace id, span id, flags and, seldom, a `tracestate`.
///
/// Borrows the `tracestate` from where it was read, so that it can be copied freely and needs no allocation.
///
/// ```
/// use spanprof_messaging::TraceContext;
/// let context = TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03").unwrap();
/// assert!(context.is_sampled());
/// assert_eq!(context.to_traceparent().as_str(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03");
/// assert_eq!(TraceContext::from_binary(&context.to_binary()), Some(context));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TraceContext<'a> {
    span: SpanContext,
    /// Well-formed, or empty.
    tracestate: &'a str,
}

/// W3C's "sampled".
const SAMPLED: u8 = 0x01;

impl TraceContext<'static> {
    /// A context without `tracestate`; `None` if one of the ids is all zero.
    ///
    /// `flags` are W3C's: 0x01 sampled, 0x02 random trace id.
    #[inline]
    pub const fn new(trace_id: TraceId, span_id: SpanId, flags: u8) -> Option<Self> {
        let span = SpanContext::new(trace_id, span_id, flags);
        if span.is_valid() { Some(Self { span, tracestate: "" }) } else { None }
    }

    /// Reads W3C's `traceparent`, at most 512 bytes of text.
    ///
    /// Version 00 has to be exact. Of a later version the known front is read, and of its flags "sampled". Version ff,
    /// ids that are all zero and upper case are refused, as the standard says; blanks around the text are not.
    #[inline]
    pub fn parse(traceparent: impl AsRef<[u8]>) -> Option<Self> {
        text::parse(traceparent.as_ref()).map(|span| Self { span, tracestate: "" })
    }

    /// Reads the binary form: see [`binary`].
    #[inline]
    pub fn from_binary(bytes: &[u8]) -> Option<Self> {
        binary::parse(bytes).map(|span| Self { span, tracestate: "" })
    }

    /// The context of one of OpenTelemetry's spans, without its `tracestate`; `None` if it is not valid.
    #[inline]
    pub fn of(span: &opentelemetry::trace::SpanContext) -> Option<Self> {
        let trace_id = TraceId(span.trace_id().to_bytes());
        Self::new(trace_id, SpanId(span.span_id().to_bytes()), span.trace_flags().to_u8())
    }
}

impl<'a> TraceContext<'a> {
    /// What a message carries; `None` if nothing, or nothing that can be read.
    ///
    /// A `tracestate` that is malformed or longer than 512 bytes is dropped as a whole, without harm to the rest.
    #[inline]
    pub fn extract<C: Carrier + ?Sized>(carrier: &'a C) -> Option<Self> {
        let context = TraceContext::parse(carrier.value(text::TRACEPARENT)?)?;
        Some(match carrier.value(text::TRACESTATE) {
            Some(tracestate) => context.with_tracestate(tracestate),
            None => context,
        })
    }

    /// Puts the context into a message, in place of one that it may carry.
    #[inline]
    pub fn inject<C: CarrierMut + ?Sized>(&self, carrier: &mut C) {
        carrier.set_value(text::TRACEPARENT, self.to_traceparent().as_str());
        match self.tracestate {
            "" => carrier.remove_value(text::TRACESTATE),
            tracestate => carrier.set_value(text::TRACESTATE, tracestate),
        }
    }

    /// The same ids with this `tracestate`; without any, if it is malformed or longer than 512 bytes.
    #[inline]
    pub fn with_tracestate<'b>(self, tracestate: &'b (impl AsRef<[u8]> + ?Sized)) -> TraceContext<'b> {
        let tracestate = tracestate::checked(tracestate.as_ref()).unwrap_or_default();
        TraceContext { span: self.span, tracestate }
    }

    /// The same ids without `tracestate`, so that nothing is borrowed.
    #[inline]
    pub const fn without_tracestate(self) -> TraceContext<'static> {
        TraceContext { span: self.span, tracestate: "" }
    }

    /// W3C's `traceparent`, without allocation.
    #[inline]
    pub fn to_traceparent(&self) -> text::Traceparent {
        text::Traceparent::of(&self.span)
    }

    /// The binary form: see [`binary`]. The `tracestate` has no place in it.
    #[inline]
    pub fn to_binary(&self) -> [u8; binary::SIZE] {
        binary::write(&self.span)
    }

    /// The trace.
    #[inline]
    pub const fn trace_id(&self) -> TraceId {
        self.span.trace_id
    }

    /// The span that created the message.
    #[inline]
    pub const fn span_id(&self) -> SpanId {
        self.span.span_id
    }

    /// W3C's flags: 0x01 sampled, 0x02 random trace id.
    #[inline]
    pub const fn flags(&self) -> u8 {
        self.span.flags
    }

    /// Whether the creator records its span. The only flag to decide by: 03 is as common as 01.
    #[inline]
    pub const fn is_sampled(&self) -> bool {
        self.span.flags & SAMPLED != 0
    }

    /// The `tracestate`, well-formed and at most 512 bytes.
    #[inline]
    pub const fn tracestate(&self) -> Option<&'a str> {
        if self.tracestate.is_empty() { None } else { Some(self.tracestate) }
    }

    /// The ids and flags as a thread's record has them.
    #[inline]
    pub const fn span(&self) -> SpanContext {
        self.span
    }

    /// The context as a remote one of OpenTelemetry. Allocates for a `tracestate` alone.
    pub fn to_opentelemetry(&self) -> opentelemetry::trace::SpanContext {
        use opentelemetry::trace;
        trace::SpanContext::new(
            trace::TraceId::from_bytes(self.span.trace_id.0),
            trace::SpanId::from_bytes(self.span.span_id.0),
            trace::TraceFlags::new(self.span.flags),
            true,
            self.tracestate().and_then(|state| state.parse().ok()).unwrap_or_default(),
        )
    }
}

/// Puts the context of one of OpenTelemetry's spans into a message, with its `tracestate` if there is one. `false`, and
/// nothing is changed, if the span is not valid.
pub fn inject_span<C: CarrierMut + ?Sized>(
    span: &opentelemetry::trace::SpanContext,
    carrier: &mut C,
) -> bool {
    let Some(context) = TraceContext::of(span) else { return false };
    let tracestate = span.trace_state().header();
    context.with_tracestate(&tracestate).inject(carrier);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: (TraceId, SpanId) = (TraceId([0xab; 16]), SpanId([0xcd; 8]));

    #[test]
    fn half_a_context_is_none() {
        assert!(TraceContext::new(IDS.0, SpanId::default(), 1).is_none());
        assert!(TraceContext::new(TraceId::default(), IDS.1, 1).is_none());
        assert!(TraceContext::of(&opentelemetry::trace::SpanContext::empty_context()).is_none());
    }

    #[test]
    fn only_the_first_bit_says_sampled() {
        for (flags, sampled) in [(0, false), (1, true), (2, false), (3, true)] {
            assert_eq!(TraceContext::new(IDS.0, IDS.1, flags).unwrap().is_sampled(), sampled);
        }
    }

    #[test]
    fn opentelemetry_gives_back_what_it_was_given() {
        let context = TraceContext::new(IDS.0, IDS.1, 3).unwrap();
        let context = context.with_tracestate("vendor=1,other=2");
        let theirs = context.to_opentelemetry();
        assert!(theirs.is_remote() && theirs.is_sampled());
        let mut carrier = Vec::<(String, String)>::new();
        assert!(inject_span(&theirs, &mut carrier));
        assert_eq!(TraceContext::extract(&carrier), Some(context));
        assert_eq!(TraceContext::of(&theirs), Some(context.without_tracestate()));
    }

    #[test]
    fn an_old_tracestate_does_not_stay_with_a_new_context() {
        let mut carrier = vec![("tracestate".to_owned(), "old=1".to_owned())];
        TraceContext::new(IDS.0, IDS.1, 1).unwrap().inject(&mut carrier);
        assert_eq!(carrier.len(), 1);
        assert_eq!(carrier[0].0, "traceparent");
    }

    #[test]
    fn an_invalid_span_leaves_the_message_alone() {
        let mut carrier = vec![("traceparent".to_owned(), "theirs".to_owned())];
        assert!(!inject_span(&opentelemetry::trace::SpanContext::empty_context(), &mut carrier));
        assert_eq!(carrier[0].1, "theirs");
    }
}
