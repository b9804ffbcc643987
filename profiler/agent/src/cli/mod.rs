//! The command line: `spanprof record`, `attach`, `top`, `open`, `show`, `diff`, `doctor` and `demo`.
//!
//! One file per subcommand. Results go to standard output, progress and the closing words to standard
//! error. The exit codes are part of the contract (`exit`). It lives in the library so that tests
//! reach its parts; the program is one call.

mod attach;
mod browser;
mod complaints;
mod course;
mod demo;
mod destinations;
mod diff;
mod doctor;
mod exit;
mod finished_spans;
mod intakes;
mod interrupt;
mod links;
mod metrics;
mod open;
mod output;
mod page;
mod progress;
mod receiving;
mod record;
mod recording_file;
mod selection;
mod session;
mod shipping;
mod show;
mod stdout;
mod table;
mod top;
mod units;
mod waits;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::exit::{Exit, Failure};

/// Where did the time of this slow message go?
///
/// spanprof profiles running producers and consumers from outside: on-CPU and off-CPU, each sample with
/// the span that was active. It writes pprof, SVG and a page that opens offline, and pushes to Pyroscope.
#[derive(Debug, Parser)]
#[command(name = "spanprof", version, arg_required_else_help = true, after_long_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  spanprof demo --open
      See it work: a broker, a producer and a consumer, recorded for ten seconds.
  spanprof demo --broker rocketmq
      The same on the official RocketMQ, or Kafka.
  spanprof record --name orders-consumer --seconds 30
      Record 30 seconds of every process of that name into ./spanprof-out; open report.html.
  spanprof record -- ./target/release/orders-consumer
      Start a program and record it until it ends.
  spanprof attach --name orders-consumer --pyroscope http://localhost:4040
      Profile until Ctrl-C and push every ten seconds.
  spanprof top --name orders-consumer
      Watch its destinations and slow messages in the terminal.
  spanprof attach --name orders-consumer --page
      The same for a page on this machine: http://127.0.0.1:4142/
  spanprof open spanprof-out
      Look at a recording on that page.
  spanprof show spanprof-out --by span
      List the slowest spans of a recording with where their time went.
  spanprof diff spanprof-out --slow-vs-normal
      Say what its slow messages do that normal ones don't, per destination and consumer group.
  spanprof doctor
      Show what this machine allows and why.

Exit codes:
  0  done
  1  failed
  2  wrong usage
  3  nothing matched the selector
  4  not allowed (says which capability is missing and how to grant it)";

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArguments),
    Record(record::RecordArguments),
    // Boxed: its options outweigh the others'.
    Attach(Box<attach::AttachArguments>),
    Top(top::TopArguments),
    Open(open::OpenArguments),
    Show(show::ShowArguments),
    Diff(diff::DiffArguments),
    Doctor(doctor::DoctorArguments),
    #[cfg(feature = "demo")]
    #[command(name = "__demo", hide = true)]
    DemoRole(demo::RoleArguments),
}

/// Runs the program: reads its arguments, does what they say, prints what went wrong.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors: clap prints them on standard output and its code is 0.
            let _ = error.print();
            return match error.exit_code() {
                0 => Exit::Done,
                _ => Exit::Usage,
            }
            .into();
        }
    };
    let result = match arguments.command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Record(arguments) => record::run(&arguments),
        Command::Attach(arguments) => attach::run(&arguments),
        Command::Top(arguments) => top::run(&arguments),
        Command::Open(arguments) => open::run(&arguments),
        Command::Show(arguments) => show::run(&arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        #[cfg(feature = "demo")]
        Command::DemoRole(arguments) => return demo::run_role(&arguments),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit.into()
        }
    }
}

/// What a subcommand gives back.
type Outcome = Result<Exit, Failure>;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
