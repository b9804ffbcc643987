//! Publishes a service's active span, so that a profiler can say where the time of one slow message went.
//!
//! Three lines embed it in a service on OpenTelemetry, with or without `tracing`:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In `main`, before the runtime starts its work:
//! if let Err(error) = spanprof::install() {
//!     eprintln!("profiles will carry no spans: {error}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! From then on every thread publishes the span that it works on, at each attach and detach of an OpenTelemetry context.
//! `tracing-opentelemetry` (0.34) does these at each enter and exit of a span, so also at each poll of an instrumented
//! future, whichever thread of the runtime polls it: handlers stay as they are.
//!
//! The service's name comes from `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES`, as for its traces; [`builder`] sets it
//! by hand. Publishing costs a few nanoseconds and no allocation. It needs no privilege and opens no port; whoever may
//! debug the process may read it.
//!
//! **Without OpenTelemetry** (`default-features = false`), or where there is none on the path, mark a span by hand:
//!
//! ```
//! let trace_id = [0x0a; 16];
//! let span_id = [0x0b; 8];
//! {
//!     let _span = spanprof::enter(trace_id, span_id);
//!     // … work on the message …
//! } // What was published before is published again.
//! ```
//!
//! Use one of both on a thread: the context hook states what holds from its call on, and takes over from open guards.
//!
//! # Which span
//!
//! The one in the current context, if its ids are valid, whether it is recorded, dropped by sampling, or a remote
//! parent that was attached without a span of one's own: it is the best statement of what the thread works on. A
//! context without a span publishes nothing.
//!
//! # Messaging attributes
//!
//! [`Attributes`] make samples tell their topic before any span has ended. Give them to [`enter_with_attributes`], or
//! (feature `opentelemetry`) to a context by `with_attributes`: all contexts derived from it carry them.
#![cfg_attr(
    feature = "opentelemetry",
    doc = r#"
```
use opentelemetry::Context;
use spanprof::{Attributes, Key};
let orders = std::sync::Arc::new(Attributes::new().with(Key::MessagingDestinationName, "orders"));
let _attached = spanprof::with_attributes(&Context::current(), &orders).attach();
// Spans started here publish the destination beside their ids.
```
"#
)]

mod install;
#[cfg(feature = "opentelemetry")]
mod observer;
mod resource;

pub use install::{Builder, InstallError, Installed, builder, install};
#[cfg(feature = "opentelemetry")]
pub use observer::with_attributes;
pub use spanprof_context::thread::Guard;
pub use spanprof_context::{Attributes, Key, SpanContext, SpanId, TraceId};

/// The layouts, the writer and the reader below this crate.
pub use spanprof_context as context;

/// Publishes a span for the calling thread until the guard is dropped; then, what was published before.
///
/// The ids are in W3C byte order, as printed; one that is all zero publishes nothing for the guard's life. Works without
/// [`install`], but only a process context tells readers where to look in a program that doesn't export the symbol.
#[inline]
pub fn enter(trace_id: impl Into<TraceId>, span_id: impl Into<SpanId>) -> Guard {
    spanprof_context::thread::enter(&SpanContext::new(trace_id.into(), span_id.into(), 0))
}

/// Like [`enter`], with attributes. They add to those of the span entered before.
#[inline]
pub fn enter_with_attributes(
    trace_id: impl Into<TraceId>,
    span_id: impl Into<SpanId>,
    attributes: &Attributes,
) -> Guard {
    let span = SpanContext::new(trace_id.into(), span_id.into(), 0);
    spanprof_context::thread::enter_with_attributes(&span, attributes)
}
