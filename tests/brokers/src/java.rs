//! Clients in Java, under OpenTelemetry's agent: what most services on these brokers are.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{ChildStdin, Command};
use std::time::{Duration, Instant};

use crate::StartError;
use crate::artifacts::{Jars, Program, Source};
use crate::process::{Lines, NoLine, Process, RunDirectory};
use crate::programs::Java;
use crate::{RocketMqVersion, kafka};

/// How long a program may be silent; the agent alone takes half a minute of a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

const JVM: [&str; 7] = [
    "-XX:+UseSerialGC",
    // The second compiler takes more from a start than it gives.
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-Xmx256m",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dfile.encoding=UTF-8",
];

/// The agent's settings: each span is a line as soon as it has ended, and there is nothing else.
const SPANS_ON_STANDARD_OUTPUT: [(&str, &str); 4] = [
    ("OTEL_TRACES_EXPORTER", "experimental-otlp/stdout"),
    ("OTEL_METRICS_EXPORTER", "none"),
    ("OTEL_LOGS_EXPORTER", "none"),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"),
];

const AGENT: Jars = Jars {
    name: "opentelemetry-javaagent",
    version: "2.33.1",
    pom: include_str!("../java-agent/pom.xml"),
    version_property: "agent.version",
};

const ROCKETMQ_GRPC_CLIENT: Jars = Jars {
    name: "rocketmq-client-java",
    version: "5.2.0",
    pom: include_str!("../rocketmq-grpc-client/pom.xml"),
    version_property: "client.version",
};

/// A client's library, on which a [`JavaProgram`] is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JavaClient {
    /// `rocketmq-client`, over the remoting protocol, as new as the [newest](RocketMqVersion::Newest) broker.
    RocketMqRemoting,
    /// `rocketmq-client-java`, over gRPC.
    RocketMqGrpc,
    /// `kafka-clients`, as new as the broker.
    Kafka,
}

impl JavaClient {
    const ALL: [Self; 3] = [Self::RocketMqRemoting, Self::RocketMqGrpc, Self::Kafka];

    /// Gets the jars of all of them and of the agent, where the cache has none.
    ///
    /// # Errors
    /// Where Java or Maven is missing, or Maven can't get them.
    pub fn fetch() -> Result<(), StartError> {
        Java::find()?;
        AGENT.get()?;
        Self::ALL.into_iter().try_for_each(|client| client.jars().get().map(drop))
    }

    const fn jars(self) -> Jars {
        match self {
            Self::RocketMqRemoting => RocketMqVersion::Newest.jars(),
            Self::RocketMqGrpc => ROCKETMQ_GRPC_CLIENT,
            Self::Kafka => kafka::JARS,
        }
    }
}

/// A program of a test in Java, in one file. It runs under OpenTelemetry's agent for Java, of which it need not know.
///
/// Its standard output is the agent's: the program itself writes nothing there.
#[derive(Clone, Copy, Debug)]
pub struct JavaProgram {
    /// What it is written on.
    pub client: JavaClient,
    /// The public class in the file.
    pub class: &'static str,
    /// The file's text, for Java 17.
    pub source: &'static str,
}

impl JavaProgram {
    /// Starts it, with further settings of the agent as environment variables.
    ///
    /// # Errors
    /// Where something is missing on this machine, or the program does not compile.
    pub fn start(
        &self,
        settings: &[(&str, &str)],
        arguments: &[&str],
    ) -> Result<RunningJavaProgram, StartError> {
        let agent = AGENT.get()?.join(format!("{}-{}.jar", AGENT.name, AGENT.version));
        let program = self.client.jars().program(&Source { class: self.class, text: self.source })?;
        self.run(&program, &agent, settings, arguments)
            .map_err(|error| StartError::Failed { program: self.class.to_owned(), reason: error.to_string() })
    }

    fn run(
        &self,
        program: &Program,
        agent: &Path,
        settings: &[(&str, &str)],
        arguments: &[&str],
    ) -> io::Result<RunningJavaProgram> {
        let directory = RunDirectory::new("java")?;
        let mut command = Command::new(&program.java.run);
        for name in agent_settings_of_this_process() {
            command.env_remove(name);
        }
        command
            .envs(SPANS_ON_STANDARD_OUTPUT)
            .envs(settings.iter().copied())
            .args(JVM)
            .arg(format!("-javaagent:{}", agent.display()))
            // Clients write logs at home.
            .arg(format!("-Duser.home={}", directory.path().display()))
            .arg(format!("-Djava.io.tmpdir={}", directory.path().display()))
            .args(["-cp", &program.class_path, self.class])
            .args(arguments);
        let (process, input, lines) = Process::start(directory, command)?;
        Ok(RunningJavaProgram { class: self.class, process, lines, _input: input })
    }
}

fn agent_settings_of_this_process() -> impl Iterator<Item = OsString> {
    let names = std::env::vars_os().map(|(name, _)| name);
    names.filter(|name| name.as_encoded_bytes().starts_with(b"OTEL_"))
}

/// A program that runs. Dropping it kills it; the kernel does, where this process is killed.
#[derive(Debug)]
pub struct RunningJavaProgram {
    class: &'static str,
    process: Process,
    lines: Lines,
    _input: ChildStdin,
}

/// Why there are no more spans of a program, where there should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{class} failed: {reason}")]
pub struct JavaFailure {
    class: &'static str,
    reason: String,
}

impl RunningJavaProgram {
    /// Waits for the next span that ends: OTLP's JSON of a request to export it. `None` after the program's end.
    ///
    /// # Errors
    /// Where the program failed, with what it said last, or was silent for minutes.
    pub fn next_span(&mut self) -> Result<Option<String>, JavaFailure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.next_until(deadline) {
                // Anything else is what a library has to say.
                Ok(line) if line.starts_with("{\"resourceSpans\"") => return Ok(Some(line)),
                Ok(_) => {}
                Err(NoLine::Ended) => return self.end().map(|()| None),
                Err(NoLine::Late) => {
                    let silence =
                        format!("silent for {} s; {}", PATIENCE.as_secs(), self.process.last_words());
                    return Err(self.failure(silence));
                }
            }
        }
    }

    fn end(&mut self) -> Result<(), JavaFailure> {
        match self.process.ended_well() {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.failure(self.process.last_words())),
            Err(error) => Err(self.failure(error.to_string())),
        }
    }

    fn failure(&self, reason: String) -> JavaFailure {
        JavaFailure { class: self.class, reason }
    }
}
