//! All three processes together: started in order, each when the one before it is ready, and ended.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use clap::ValueEnum;

use crate::error::DemoError;
use crate::role::{LISTENING, READY};
use crate::transport::Transport;

/// Which programs play the roles.
#[derive(Clone, Debug)]
pub enum Programs {
    /// One program for all: `program prefix… role arguments…`, where the role is `broker`, `producer` or `consumer`.
    One {
        /// The program.
        program: PathBuf,
        /// What its command line begins with.
        prefix: Vec<OsString>,
    },
    /// `demo-broker`, `demo-producer` and `demo-consumer` in this folder.
    Folder(PathBuf),
}

/// How the processes are started.
#[derive(Clone, Debug)]
pub struct Script {
    /// Which programs play the roles.
    pub programs: Programs,
    /// On which broker.
    pub transport: Transport,
    /// Messages per second.
    pub rate: u32,
    /// Number of messages after which producer and consumer end by themselves, if they shall.
    pub messages: Option<u64>,
    /// Seconds after which each process ends by itself, whatever happens to the one that started it.
    pub seconds: u64,
    /// Where the consumer writes the truth, if it shall.
    pub truth: Option<PathBuf>,
    /// Where producer and consumer write profiles of themselves, if they shall.
    pub profiles: Option<PathBuf>,
    /// The socket on which producer and consumer tell their finished spans, if they shall.
    pub finished_spans: Option<PathBuf>,
}

/// The running processes. Dropping it kills what is still running.
#[derive(Debug)]
pub struct Cast {
    broker: Actor,
    consumer: Actor,
    producer: Actor,
    address: SocketAddr,
}

/// A process of the demo with its standard output.
#[derive(Debug)]
struct Actor {
    role: &'static str,
    child: Child,
    output: BufReader<ChildStdout>,
}

/// How the processes ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The producer's last words, such as `sent 40 messages, 40 acknowledged`.
    pub producer: String,
    /// The consumer's last words, such as `processed 40 messages, 0 failed`.
    pub consumer: String,
}

impl Cast {
    /// Starts the broker, then the consumer, then the producer; returns when messages begin to flow.
    ///
    /// Errors when one of them doesn't start or doesn't get ready; the others are ended then.
    pub fn start(script: &Script) -> Result<Self, DemoError> {
        let seconds = script.seconds.to_string();
        let transport = script.transport.to_possible_value().expect("none is hidden").get_name().to_owned();
        let mut common: Vec<OsString> =
            vec!["--transport".into(), transport.into(), "--seconds".into(), seconds.into()];
        let mut broker = Actor::start(script, "broker", &common)?;
        let line = broker.read_line()?;
        let address = line.strip_prefix(LISTENING).and_then(|address| address.parse::<SocketAddr>().ok());
        let address = address.ok_or_else(|| broker.unexpected(&line))?;

        common.extend(["--broker".into(), address.to_string().into()]);
        if let Some(messages) = script.messages {
            common.extend(["--messages".into(), messages.to_string().into()]);
        }
        let mut arguments = common.clone();
        if let Some(truth) = &script.truth {
            arguments.extend(["--truth".into(), truth.into()]);
        }
        let mut consumer = Actor::start(script, "consumer", &arguments)?;
        let line = consumer.read_line()?;
        if line != READY {
            return Err(consumer.unexpected(&line));
        }

        let mut arguments = common;
        arguments.extend(["--rate".into(), script.rate.to_string().into()]);
        let producer = Actor::start(script, "producer", &arguments)?;
        Ok(Self { broker, consumer, producer, address })
    }

    /// Process ids of the producer and the consumer, which are what is worth profiling.
    pub fn services(&self) -> [u32; 2] {
        [self.producer.child.id(), self.consumer.child.id()]
    }

    /// The broker's process id.
    pub fn broker(&self) -> u32 {
        self.broker.child.id()
    }

    /// Where the broker listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until producer and consumer have ended by themselves, then ends the broker.
    ///
    /// Errors when one of them ended badly.
    pub fn wait_for_end(mut self) -> Result<Ended, DemoError> {
        let producer = self.producer.wait_for_end()?;
        let consumer = self.consumer.wait_for_end()?;
        self.broker.end()?;
        Ok(Ended { producer, consumer })
    }

    /// Asks the processes to end, the producer first, and waits for each: messages in hand are finished.
    ///
    /// Errors when one of them ended badly.
    pub fn end(mut self) -> Result<Ended, DemoError> {
        let producer = self.producer.end()?;
        let consumer = self.consumer.end()?;
        self.broker.end()?;
        Ok(Ended { producer, consumer })
    }
}

impl Actor {
    fn start(script: &Script, role: &'static str, arguments: &[OsString]) -> Result<Self, DemoError> {
        let mut command = match &script.programs {
            Programs::Folder(folder) => Command::new(folder.join(format!("demo-{role}"))),
            Programs::One { program, prefix } => {
                let mut command = Command::new(program);
                command.args(prefix).arg(role);
                command
            }
        };
        // As an operator would: the services need no change for it.
        if let Some(profiles) = script.profiles.as_ref().filter(|_| role != "broker") {
            command.env("SPANPROF_DIRECTORY", profiles.join(role));
        }
        if let Some(socket) = script.finished_spans.as_ref().filter(|_| role != "broker") {
            command.env("SPANPROF_LOCAL_AGENT", socket);
            command.env("SPANPROF_SELF_PROFILE", script.profiles.is_some().to_string());
        }
        let mut child =
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|error| {
                DemoError::Process {
                    role,
                    reason: format!("starting {}: {error}", command.get_program().display()),
                }
            })?;
        let output = BufReader::new(child.stdout.take().expect("its output is piped"));
        Ok(Self { role, child, output })
    }

    /// The next line of its output, without the line's end; empty when the output ended.
    fn read_line(&mut self) -> Result<String, DemoError> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn unexpected(&self, line: &str) -> DemoError {
        let said = if line.is_empty() { "ended early".to_owned() } else { format!("said `{line}`") };
        DemoError::Process { role: self.role, reason: said }
    }

    /// Sends SIGTERM, reads its last line and waits for its end.
    fn end(&mut self) -> Result<String, DemoError> {
        // SAFETY: the child isn't waited for yet, so that its id can't belong to another process.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        self.wait_for_end()
    }

    /// Reads its last line and waits for its end.
    fn wait_for_end(&mut self) -> Result<String, DemoError> {
        let line = self.read_line()?;
        let status = self.child.wait()?;
        self.check(status).map(|()| line)
    }

    fn check(&self, status: ExitStatus) -> Result<(), DemoError> {
        if status.success() {
            return Ok(());
        }
        Err(DemoError::Process { role: self.role, reason: format!("ended with {status}") })
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // Both fail only if the process is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
