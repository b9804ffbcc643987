//! What the tests on real brokers share: tracers whose spans stay in memory and how to look at these, and a client that
//! needs more than a line to be set up.

// The remoting client's futures nest deeply.
#![recursion_limit = "512"]

pub mod remoting;
mod spans;

pub use spans::{Ids, Spans, attribute, each, ids, links, parent, some};
