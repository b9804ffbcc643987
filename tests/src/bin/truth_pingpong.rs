//! A futex ping-pong under spans of our own writer; with `--writer none` without any.

use spanprof_tests::ping_pong::{self, SpanWriter};
use spanprof_tests::truth_program::TruthProgram;

#[path = "span_writers/ours.rs"]
mod ours;

fn main() {
    let program = TruthProgram::begin();
    ours::publish_process("truth_pingpong");
    let ours = SpanWriter {
        name: "ours",
        publish: |kind, number| spanprof_context::thread::set(&ours::span(kind, number)),
        clear: spanprof_context::thread::clear,
    };
    let writer = match program.arguments().text("writer") {
        None | Some("ours") => ours,
        Some("none") => SpanWriter::NONE,
        Some(other) => {
            eprintln!("--writer {other}: expected ours or none");
            std::process::exit(2);
        }
    };
    ping_pong::run(program, "truth_pingpong", writer);
}
