//! The demo's producer as a program of its own.

use std::process::ExitCode;

use clap::Parser;
use spanprof_demo::producer::Config;
use spanprof_demo::role::Role;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[command(flatten)]
    config: Config,
}

fn main() -> ExitCode {
    Role::Producer(Arguments::parse().config).run()
}
