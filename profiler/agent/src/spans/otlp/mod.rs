//! Finished spans as tracers send them: OTLP's `ExportTraceServiceRequest`, version 1 of its protobuf.

mod fields;
mod forward;
mod intake;
mod profile_id;
mod request;
mod server;
mod spool;

pub use fields::Malformed;
pub use forward::{ForwardCounts, Forwarding};
pub use intake::{Intake, IntakeCounts, Refusal};
pub use profile_id::with_profile_ids;
pub use request::{MAX_SPANS, spans};
pub use server::{OtlpReceiver, ReceiverError};
pub use spool::Spool;
