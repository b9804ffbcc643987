//! A futex ping-pong under spans of another author's writer of the same standard.

use spanprof_tests::ping_pong::{self, SpanWriter};
use spanprof_tests::truth_program::TruthProgram;

#[path = "span_writers/foreign.rs"]
mod foreign;

fn main() {
    let program = TruthProgram::begin();
    if let Err(error) = foreign::publish_process() {
        eprintln!("the process context could not be published: {error}");
        std::process::exit(1);
    }
    let writer = SpanWriter { name: "foreign", publish: foreign::publish_span, clear: foreign::clear_span };
    ping_pong::run(program, "truth_pingpong_foreign", writer);
}
