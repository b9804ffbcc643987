//! Numbers for machines: what the agent does and lost, and the client metrics of the destinations that it saw.
//!
//! [`Metrics`] is set by the capture, window by window, and read by whoever serves or sends; counters only grow. A
//! [`Snapshot`] becomes [`families`], under OpenTelemetry's names, and these become the text that Prometheus scrapes
//! ([`prometheus_text`]) or a request of OTLP ([`otlp::request`]), so that both say the same.
//!
//! The destinations' metrics are made of finished spans, which tracers told of. Spans that were only seen are counted under a
//! name of their own: how long they took is not known. As many series as there are classes of spans, of which there are at
//! most 1,024.
//!
//! Refused: OpenTelemetry's SDK, for it wants each duration as it happens and could not be given windows that were counted
//! already, or spans that were told late.

mod family;
pub mod otlp;
mod prometheus;
mod snapshot;

pub use family::{Family, FamilyKind, Histogram, Point, Unit, Value, families};
pub use prometheus::{CONTENT_TYPE, prometheus_text};
pub use snapshot::{Metrics, Own, SinkCounts, Snapshot, SpanCounts};
