//! The demo's consumer as a program of its own.

use std::process::ExitCode;

use clap::Parser;
use spanprof_demo::consumer::Config;
use spanprof_demo::role::Role;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[command(flatten)]
    config: Config,
}

fn main() -> ExitCode {
    Role::Consumer(Arguments::parse().config).run()
}
