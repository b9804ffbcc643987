//! The demo's broker as a program of its own.

use std::process::ExitCode;

use clap::Parser;
use spanprof_demo::broker::Config;
use spanprof_demo::role::Role;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[command(flatten)]
    config: Config,
}

fn main() -> ExitCode {
    Role::Broker(Arguments::parse().config).run()
}
