//! NATS, with JetStream.

use std::fs;
use std::path::Path;
use std::process::{ChildStdin, Command};
use std::sync::OnceLock;

use crate::ports::Ports;
use crate::process::{Process, RunDirectory};
use crate::programs::find;
use crate::talk::{self, Attempt, await_line};
use crate::{NotHere, StartError};

/// What its clients expect.
const USUAL_PORTS: [u16; 1] = [4222];

/// A running NATS server without streams, on the loopback, open to everybody there. Dropping it ends it.
#[derive(Debug)]
pub struct Nats {
    process: Process,
    _input: ChildStdin,
    address: String,
}

impl Nats {
    /// Starts it on a free port, and returns when clients can use it.
    ///
    /// # Errors
    /// Where it is not on this machine, or doesn't start.
    pub fn start() -> Result<Self, StartError> {
        Self::start_on(Ports::Free)
    }

    /// As [`start`](Self::start), on a port as chosen.
    ///
    /// # Errors
    /// As there.
    pub fn start_on(ports: Ports) -> Result<Self, StartError> {
        let program = program()?;
        talk::start("NATS", |attempt| Self::attempt(&program, ports.choose(USUAL_PORTS, attempt)))
    }

    /// The one that all tests of a program share; it ends with the program.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn shared() -> Result<&'static Self, &'static StartError> {
        static SHARED: OnceLock<Result<Nats, StartError>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// Looks whether it is there.
    ///
    /// # Errors
    /// Where it is not.
    pub fn fetch() -> Result<(), StartError> {
        Ok(program().map(drop)?)
    }

    fn attempt(program: &Path, [port]: [u16; 1]) -> Result<Self, Attempt> {
        let directory = RunDirectory::new("nats")?;
        let configuration = directory.path().join("nats.conf");
        let text = include_str!("../nats/nats.conf")
            .replace("{directory}", &directory.path().display().to_string())
            .replace("{port}", &port.to_string());
        fs::write(&configuration, text)?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec \"$0\" -c \"$1\" 2>&1"]).arg(program).arg(configuration);
        let (process, input, lines) = Process::start(directory, command)?;
        await_line(&process, &lines, |line| line.ends_with(" Server is ready"))?;
        Ok(Self { process, _input: input, address: format!("127.0.0.1:{port}") })
    }

    /// Where clients connect: host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The process that it is.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Its configuration and its log, which vanish with it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.process.directory()
    }
}

fn program() -> Result<std::path::PathBuf, NotHere> {
    find("nats-server").ok_or_else(|| {
        NotHere::new("no nats-server here", "sudo apt-get install -y --no-install-recommends nats-server")
    })
}
