//! The one thing that captures, windows and finished spans have in common: which span.

/// A span by its ids: W3C byte order, never all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActiveSpan {
    /// The trace id as printed.
    pub trace_id: [u8; 16],
    /// The span id as printed.
    pub span_id: [u8; 8],
}
