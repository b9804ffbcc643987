//! Sums over a profile: by span, by trace, by destination, by function; and what one set of samples has that another
//! has not.
//!
//! Pure functions, one pass over the samples each: the command line, the page and the summary print the same
//! numbers because they ask here. Times are nanoseconds of the profile's window; a span that began before it
//! was longer than what is seen here.

mod accounted;
mod difference;
mod functions;
mod groups;
mod messages;
mod spans;
mod waits;

pub use accounted::{Accounted, BEFORE_CAPTURE, accounted};
pub use difference::{CauseDifference, Difference, FunctionDifference, Side, Sums};
pub use functions::{FunctionTime, functions};
pub use groups::Times;
#[cfg(feature = "page")]
pub(crate) use groups::group;
pub use messages::{MessageClass, Messages, messages};
pub use spans::{DestinationTime, SpanTime, TraceTime, destinations, spans, traces};
#[cfg(feature = "page")]
pub(crate) use waits::Waits;
