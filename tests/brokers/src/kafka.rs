//! Kafka with its own controller in one JVM.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use crate::artifacts::{Jars, Program, Source};
use crate::ports::Ports;
use crate::process::RunDirectory;
use crate::talk::{self, Attempt, Talk};
use crate::{Refused, StartError};

/// What its clients expect, and its own.
const USUAL_PORTS: [u16; 2] = [9092, 9093];

const JVM: [&str; 8] = [
    "-XX:+UseSerialGC",
    // The second compiler takes more from a start than it gives.
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-Xms96m",
    "-Xmx256m",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dfile.encoding=UTF-8",
];

/// Of the broker; its client comes along.
pub(crate) const JARS: Jars = Jars {
    name: "kafka",
    version: "4.3.1",
    pom: include_str!("../kafka/pom.xml"),
    version_property: "kafka.version",
};

const LAUNCHER: Source = Source { class: "KafkaLauncher", text: include_str!("../kafka/KafkaLauncher.java") };

/// A running Kafka without messages, on the loopback. Dropping it ends it.
///
/// A topic that a client asks for comes into being with two partitions.
#[derive(Debug)]
pub struct Kafka {
    talk: Talk,
    bootstrap_servers: String,
}

impl Kafka {
    /// As in its file names.
    pub const VERSION: &str = JARS.version;

    /// Starts it on free ports, and returns when clients can use it.
    ///
    /// # Errors
    /// Where something is missing on this machine, or it doesn't start.
    pub fn start() -> Result<Self, StartError> {
        Self::start_on(Ports::Free)
    }

    /// As [`start`](Self::start), on ports as chosen.
    ///
    /// # Errors
    /// As there.
    pub fn start_on(ports: Ports) -> Result<Self, StartError> {
        let program = JARS.program(&LAUNCHER)?;
        talk::start(&JARS.title(), |attempt| Self::attempt(&program, ports.choose(USUAL_PORTS, attempt)))
    }

    /// The one that all tests of a program share; it ends with the program.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn shared() -> Result<&'static Self, &'static StartError> {
        static SHARED: OnceLock<Result<Kafka, StartError>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// Gets its jars, where the cache has none.
    ///
    /// # Errors
    /// Where Java or Maven is missing, or Maven can't get them.
    pub fn fetch() -> Result<(), StartError> {
        JARS.program(&LAUNCHER).map(drop)
    }

    fn attempt(program: &Program, ports: [u16; 2]) -> Result<Self, Attempt> {
        let [broker, controller] = ports;
        let directory = RunDirectory::new("kafka")?;
        let configuration = directory.path().join("server.properties");
        let text = include_str!("../kafka/server.properties")
            .replace("{directory}", &directory.path().display().to_string())
            .replace("{broker}", &broker.to_string())
            .replace("{controller}", &controller.to_string());
        fs::write(&configuration, text)?;
        let bootstrap_servers = format!("127.0.0.1:{broker}");
        let mut command = Command::new(&program.java.run);
        command
            .args(JVM)
            .arg(format!("-Djava.io.tmpdir={}", directory.path().display()))
            .args(["-cp", &program.class_path, LAUNCHER.class, &bootstrap_servers])
            .arg(configuration);
        Ok(Self { talk: Talk::start(directory, command)?, bootstrap_servers })
    }

    /// Where clients begin: host and port.
    #[must_use]
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// The process that it is.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.talk.process().id()
    }

    /// Its configuration, messages and logs, which vanish with it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.talk.process().directory()
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// Where Kafka refuses it, as one that is there already.
    pub fn topic(&self, name: &str, partitions: u32) -> Result<(), Refused> {
        self.talk.ask(&format!("topic {name} {partitions}"))
    }
}
