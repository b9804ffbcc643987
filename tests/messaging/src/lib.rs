//! What the tests on real brokers share: tracers whose spans stay in memory, and how to look at these.

mod spans;

pub use spans::{Ids, Spans, attribute, each, ids, links, parent, some};
