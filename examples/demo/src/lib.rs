//! A broker, a producer and a consumer whose slow messages have known causes.
//!
//! The producer and the consumer are ordinary programs on `tracing` and OpenTelemetry that talk MQTT 5 and carry
//! `traceparent` in user properties; nothing in them knows of a profiler but one call of `spanprof`'s
//! `install`. With the features `rocketmq` and `kafka` they do the same on the official brokers ([`transport`]). About one message in ten is slow, for one of five reasons which [`story()`] tells, so that
//! whoever profiles the processes from outside can compare what was found with what is true.
//!
//! Each of the three runs as a process of its own: the programs `demo-broker`, `demo-producer` and
//! `demo-consumer`, or any program that runs a [`role::Role`]. [`cast::Cast`] starts all three and ends them.
//! The handlers, one module each: [`orders`] parses, [`inventory`] waits for a lock, [`payments`] for a socket,
//! [`notify`] sleeps, [`audit`] writes to disk.

pub mod audit;
pub mod broker;
pub mod cast;
pub mod consumer;
mod ending;
mod error;
pub mod inventory;
pub mod notify;
pub mod orders;
pub mod payments;
pub mod producer;
pub mod role;
pub mod story;
mod telemetry;
mod thread_clock;
pub mod transport;
mod truth;

pub use error::DemoError;
pub use story::{Cause, Chapter, story};
pub use truth::Handled;
