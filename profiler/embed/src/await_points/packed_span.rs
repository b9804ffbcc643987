//! A span in four words.
//!
//! Copied and compared a few times per suspension: byte arrays right after they were written make the processor wait
//! for its own stores (a third of a suspension's cost), words don't.

use spanprof_context::{SpanContext, SpanId, TraceId};

/// A span, or none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PackedSpan {
    pub(super) trace_id: [u64; 2],
    pub(super) span_id: u64,
    /// 0 for none, else [`IS_SET`] and the flags.
    pub(super) state: u64,
}

const IS_SET: u64 = 1 << 8;

impl PackedSpan {
    pub(super) const NONE: Self = Self { trace_id: [0; 2], span_id: 0, state: 0 };

    #[inline(always)]
    pub(super) fn new(span: Option<SpanContext>) -> Self {
        span.map_or(Self::NONE, |span| {
            let trace_id = u128::from_ne_bytes(span.trace_id.0);
            Self {
                trace_id: [trace_id as u64, (trace_id >> 64) as u64],
                span_id: u64::from_ne_bytes(span.span_id.0),
                state: IS_SET | u64::from(span.flags),
            }
        })
    }

    pub(super) fn get(&self) -> Option<SpanContext> {
        (self.state != 0).then(|| {
            let trace_id = u128::from(self.trace_id[1]) << 64 | u128::from(self.trace_id[0]);
            let span_id = SpanId(self.span_id.to_ne_bytes());
            SpanContext::new(TraceId(trace_id.to_ne_bytes()), span_id, self.state as u8)
        })
    }

    #[inline(always)]
    pub(super) fn is(&self, other: &Self) -> bool {
        self.span_id == other.span_id
            && self.trace_id[0] == other.trace_id[0]
            && self.trace_id[1] == other.trace_id[1]
            && self.state == other.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_come_out_as_they_went_in() {
        assert_eq!(PackedSpan::new(None).get(), None);
        let span = SpanContext::new(
            TraceId(std::array::from_fn(|byte| byte as u8)),
            SpanId(std::array::from_fn(|byte| 100 + byte as u8)),
            3,
        );
        assert_eq!(PackedSpan::new(Some(span)).get(), Some(span));
        let other = SpanContext { flags: 2, ..span };
        assert!(PackedSpan::new(Some(span)).is(&PackedSpan::new(Some(span))));
        assert!(!PackedSpan::new(Some(span)).is(&PackedSpan::new(Some(other))));
    }
}
