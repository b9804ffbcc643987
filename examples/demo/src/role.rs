//! The three processes as subcommands, so that one program can be all of them.

use std::process::ExitCode;

use crate::{DemoError, broker, consumer, producer};

/// The line by which the broker says where it listens begins with this.
pub const LISTENING: &str = "listening ";
/// The line by which the consumer says that it is subscribed.
pub const READY: &str = "ready";

/// What a process of the demo is.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Role {
    /// Runs the broker.
    Broker(broker::Config),
    /// Sends orders.
    Producer(producer::Config),
    /// Processes orders.
    Consumer(consumer::Config),
}

impl Role {
    /// The role's name, which is its subcommand.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Broker(_) => "broker",
            Self::Producer(_) => "producer",
            Self::Consumer(_) => "consumer",
        }
    }

    /// Runs the role to its end; says on the standard output when it is ready and what it did.
    pub fn run(&self) -> ExitCode {
        match self.play() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("demo-{}: {error}", self.name());
                ExitCode::FAILURE
            }
        }
    }

    fn play(&self) -> Result<(), DemoError> {
        match self {
            Self::Broker(config) => broker::run(config, |address| say(&format!("{LISTENING}{address}"))),
            Self::Producer(config) => {
                let sent = producer::run(config)?;
                say(&format!("sent {} messages, {} acknowledged", sent.messages, sent.acknowledged));
                Ok(())
            }
            Self::Consumer(config) => {
                let processed = consumer::run(config, || say(READY))?;
                say(&format!("processed {} messages, {} failed", processed.messages, processed.failed));
                Ok(())
            }
        }
    }
}

/// Prints a line at once. A reader that is gone is no error of the process.
fn say(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
