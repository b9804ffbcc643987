//! The same futex ping-pong in a program that links no writer and publishes nothing: nobody's target.

use spanprof_tests::ping_pong::{self, SpanWriter};
use spanprof_tests::truth_program::TruthProgram;

fn main() {
    ping_pong::run(TruthProgram::begin(), "truth_unrelated", SpanWriter::NONE);
}
