//! Spans of a truth program by our own writer, with ids that say what they stand for.
//!
//! Included by path rather than put into the library: see the library's own words on foreign writers.

use spanprof_context::process::{self, ProcessContext};
use spanprof_context::{SpanContext, SpanId, TraceId};

/// Makes this process readable: publishes its process context under the program's name.
pub(crate) fn publish_process(program: &str) {
    if let Err(error) = process::publish(&ProcessContext::for_service(program)) {
        eprintln!("the process context could not be published: {error}");
        std::process::exit(1);
    }
}

/// The span of which the first byte is `kind + 1` and the rest is `number`, in a trace that repeats both.
pub(crate) fn span(kind: u8, number: u64) -> SpanContext {
    let span_id = ((u64::from(kind) + 1) << 56 | number & 0x00ff_ffff_ffff_ffff).to_be_bytes();
    let mut trace_id = [0; 16];
    trace_id[..8].copy_from_slice(b"truth\0\0\0");
    trace_id[8..].copy_from_slice(&span_id);
    SpanContext::new(TraceId(trace_id), SpanId(span_id), 1)
}
