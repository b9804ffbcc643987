//! Publishes a service's active span, so that a profiler can say where the time of one slow message went; and, where none
//! may run beside the service, profiles the service from inside.
//!
//! One line embeds it in a service on OpenTelemetry, with or without `tracing`:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In `main`, before the runtime starts its work:
//! let _spanprof = spanprof::Agent::builder().service_name("orders").start()?;
//! # Ok(())
//! # }
//! ```
//!
//! From then on every thread publishes the span that it works on, at each attach and detach of an OpenTelemetry context.
//! `tracing-opentelemetry` (0.34) does these at each enter and exit of a span, so also at each poll of an instrumented
//! future, whichever thread of the runtime polls it: handlers stay as they are.
//!
//! The service's name comes from `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES`, as for its traces; the builder sets it
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
//! # What to use when
//!
//! | the service | use |
//! |---|---|
//! | is on OpenTelemetry, with or without `tracing` | the default features: nothing but the line above |
//! | … and is to tell topic, group and operation too | `with_attributes`, or feature `opentelemetry-sdk`: `ProfileProcessor` reads them from the spans, and gives them `pyroscope.profile.id`, by which Grafana finds "Profiles for this span" |
//! | is on `tracing` alone | feature `tracing`: `layer`, which takes ids from fields or makes them |
//! | is on neither | [`enter`] and [`enter_with_attributes`] |
//! | hands work to threads of its own, a pool, or `spawn_blocking` | [`carry()`] takes the span along |
//! | can have `spanprof attach` beside it | publish only: from outside, every thread is seen exactly, kernel included |
//! | … and is to tell how long each message took, without a collector | feature `finished-spans`, with `ProfileProcessor` or the `layer`, and `SPANPROF_LOCAL_AGENT`: the agent then keeps exactly the slow ones, and says where all of their time went |
//! | runs where nothing may run beside it, or without privileges | feature `self-profile` and a destination: the same kinds of time from inside, with a few limits (the module `self_profile` tells them) |
//! | is asynchronous, and slow while no thread has the task | feature `await-points` (part of `self-profile`): `watch` at the handlers' root |
//!
//! Use hooks or guards on a thread, not both: the context hook states what holds from its call on, and takes over from open guards.
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
//!
//! # Environment
//!
//! | variable | meaning |
//! |---|---|
//! | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | who the service is, as for its traces |
//! | `SPANPROF_ENABLED` | `false`: the agent does nothing |
//!
//! With the feature `finished-spans`, and `spanprof attach --pid … --receive PATH` or `spanprof record … --receive PATH`:
//!
//! | variable | meaning |
//! |---|---|
//! | `SPANPROF_LOCAL_AGENT` | tell finished spans to the agent at this socket |
//!
//! With the feature `self-profile`, where any destination turns the profile of this process on:
//!
//! | variable | meaning |
//! |---|---|
//! | `SPANPROF_PYROSCOPE` | push to this Pyroscope server |
//! | `SPANPROF_OTLP_PROFILES` | send OTLP profiles to this collector |
//! | `SPANPROF_DIRECTORY` | keep pprof files in this folder |
//! | `SPANPROF_LOCAL_AGENT` | hand over to the `spanprof attach --receive` at this socket |
//! | `SPANPROF_SELF_PROFILE` | `false`: publish, and tell finished spans, only |
//! | `SPANPROF_HZ` | samples per second of CPU time, 1 to 1000; 99 unless set |
//! | `SPANPROF_OFF_CPU` | `false`: blocked threads aren't visited |
//! | `SPANPROF_WINDOW_SECONDS` | how much time one profile covers; 15 unless set |
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

mod agent;
#[cfg(feature = "await-points")]
pub mod await_points;
mod carry;
#[cfg(feature = "await-points")]
mod clock;
#[cfg(feature = "finished-spans")]
// Processor and layer each use a part of it.
#[cfg_attr(not(all(feature = "opentelemetry-sdk", feature = "tracing")), allow(dead_code))]
mod finished_spans;
#[doc = include_str!("../docs/how-it-can-hurt.md")]
pub mod how_it_can_hurt {}
#[cfg(any(feature = "opentelemetry-sdk", feature = "tracing"))]
mod messaging;
#[cfg(feature = "opentelemetry")]
mod observer;
#[cfg(feature = "opentelemetry-sdk")]
mod profile_processor;
mod publish;
mod resource;
#[cfg(feature = "self-profile")]
pub mod self_profile;
mod settings;
#[cfg(feature = "opentelemetry-sdk")]
mod span_attributes;
#[cfg(feature = "tracing")]
mod span_ids;
#[cfg(feature = "tracing")]
mod tracing_layer;

pub use agent::{Agent, AgentBuilder};
#[cfg(feature = "await-points")]
pub use await_points::{Watch, WatchExt, watch};
pub use carry::{Carried, CarriedGuard, carry};
#[cfg(feature = "finished-spans")]
pub use finished_spans::FinishedSpans;
#[cfg(feature = "opentelemetry")]
pub use observer::with_attributes;
#[cfg(feature = "opentelemetry-sdk")]
pub use profile_processor::ProfileProcessor;
pub use publish::Guard;
pub use settings::StartError;
pub use spanprof_context::{Attributes, Key, SpanContext, SpanId, TraceId};
#[cfg(feature = "tracing")]
pub use tracing_layer::{SpanLayer, layer};

/// The layouts, the writer and the reader below this crate.
pub use spanprof_context as context;

/// Publishes a span for the calling thread until the guard is dropped; then, what was published before.
///
/// The ids are in W3C byte order, as printed; one that is all zero publishes nothing for the guard's life. Works without
/// an [`Agent`], but only a process context tells readers where to look in a program that doesn't export the symbol.
#[inline]
pub fn enter(trace_id: impl Into<TraceId>, span_id: impl Into<SpanId>) -> Guard {
    publish::enter(&SpanContext::new(trace_id.into(), span_id.into(), 0), None)
}

/// Like [`enter`], with attributes. They add to those of the span entered before.
#[inline]
pub fn enter_with_attributes(
    trace_id: impl Into<TraceId>,
    span_id: impl Into<SpanId>,
    attributes: &Attributes,
) -> Guard {
    let span = SpanContext::new(trace_id.into(), span_id.into(), 0);
    publish::enter(&span, Some(attributes))
}
