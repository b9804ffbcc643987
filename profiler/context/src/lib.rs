//! What a thread is working on: OpenTelemetry thread context and process context, writer and reader.
//!
//! A service publishes, per thread, the trace and span that it is working on; a profiler outside reads them
//! while the thread is interrupted. The layouts are OpenTelemetry's, so that any writer works with any reader:
//!
//! * **Thread context** (OTEP 4947): [`record`] holds the layout and a parser, [`thread`] the writer, [`Prepared`] a
//!   record to publish often, [`reading`] what a signal handler or sampler within the process sees.
//! * **Process context** (OTEP 4719): [`process`] publishes and reads the process-wide half: the resource
//!   (service name, …) and how to read the threads' records.
//! * [`locate`] finds, from outside, where a process keeps its threads' records, for our writer and for others.
//! * [`build`] lets an application's build script export the standard symbol.
//!
//! Linux only, x86-64 and aarch64. No dependency but `libc`, no C compiler. Everything read from another process
//! is bounded, and no parser here panics on hostile input.
//!
//! Two things go beyond the standards, and neither disturbs a reader that knows only them:
//!
//! * beside the standard pointer lies a **sequence word** that changes with every change of the record, so that
//!   a reader that has seen the pair (pointer, sequence) needs no second read;
//! * the slot's distance from the thread pointer stands in the process context, so that a program which forgot
//!   to export the symbol can be read all the same.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "spanprof-context publishes through Linux facilities (memfd, ELF TLS) and has no other implementation"
);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("spanprof-context knows the thread-local storage of x86-64 and aarch64 only");

pub mod attributes;
pub mod build;
mod elf;
pub mod ids;
pub mod locate;
pub mod maps;
pub mod memory;
mod prepared;
pub mod process;
pub mod reading;
pub mod record;
mod slot;
pub mod thread;

pub use attributes::{Attributes, Key, KeyMap};
pub use ids::{SpanContext, SpanId, TraceId};
pub use prepared::Prepared;
pub use record::Record;
