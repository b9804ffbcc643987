//! The `spanprof` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    spanprof_agent::cli::run()
}
