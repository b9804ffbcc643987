//! Services in Java under OpenTelemetry's agent, and ours, on the same brokers: one trace.
//!
//! Those in Java are small programs that know nothing of traces. The agent tells their spans.

#[path = "../rocketmq/clients.rs"]
mod clients;
mod kafka;
mod rocketmq;
mod spans;

/// How many messages each test sends.
const MESSAGES: usize = 8;

/// W3C's "sampled" and "random trace id", which the agent sends.
const JAVA_FLAGS: u8 = 0x03;
