//! The `spanprof` program, as the end-to-end tests start it.
//!
//! Cargo builds and names for a test the programs of its own package only. This one is the same single call, so
//! that no test ever runs a `spanprof` that some earlier build left behind.

use std::process::ExitCode;

fn main() -> ExitCode {
    spanprof_agent::cli::run()
}
