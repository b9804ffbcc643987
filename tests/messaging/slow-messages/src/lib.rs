//! What a consumer that makes one message in a hundred slow knows of each, from inside: the truth that the agent is held
//! against.

mod cause;
mod truth;

pub use cause::Cause;
pub use truth::{MessageTruth, SpanTruth, Truth, context};
