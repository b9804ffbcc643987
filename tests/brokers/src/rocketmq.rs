//! The official RocketMQ: name server, broker and proxy in one JVM.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use crate::artifacts::{Jars, Program, Source};
use crate::ports::Ports;
use crate::process::RunDirectory;
use crate::talk::{self, Attempt, Talk};
use crate::{Refused, StartError};

/// What RocketMQ expects: the broker's fast port has to be two below its main one.
const USUAL_PORTS: [u16; 6] = [10909, 9876, 10911, 10912, 8081, 8080];

/// Each small; the heap that 2,000 messages of a test need is a third of it.
const JVM: [&str; 17] = [
    "--add-opens=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
    "-XX:+UseSerialGC",
    // The second compiler takes more from a start than it gives.
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-Xms128m",
    "-Xmx320m",
    "-XX:MaxDirectMemorySize=256m",
    "-Xshare:auto",
    // The keys of a self-signed certificate take seconds to find.
    "-Dtls.server.mode=disabled",
    "-Djava.awt.headless=true",
    "-Dfile.encoding=UTF-8",
    "-Duser.timezone=UTC",
];

const LAUNCHER: Source =
    Source { class: "RocketMqLauncher", text: include_str!("../rocketmq/RocketMqLauncher.java") };

/// Which RocketMQ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RocketMqVersion {
    /// 5.5.0, the newest that is published whole.
    #[default]
    Newest,
    /// 5.3.3: appends the properties of a batch's wrapper to those of every message in it, as all older ones do.
    CopiesWrapperProperties,
}

impl RocketMqVersion {
    /// As in its file names.
    #[must_use]
    pub const fn number(self) -> &'static str {
        match self {
            Self::Newest => "5.5.0",
            Self::CopiesWrapperProperties => "5.3.3",
        }
    }

    /// Of the broker; its client over the remoting protocol comes along.
    pub(crate) const fn jars(self) -> Jars {
        Jars {
            name: "rocketmq",
            version: self.number(),
            pom: include_str!("../rocketmq/pom.xml"),
            version_property: "rocketmq.version",
        }
    }

    /// Gets its jars, where the cache has none.
    ///
    /// # Errors
    /// Where Java or Maven is missing, or Maven can't get them.
    pub fn fetch(self) -> Result<(), StartError> {
        self.jars().program(&LAUNCHER).map(drop)
    }
}

/// How a [`RocketMq`] is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RocketMqOptions {
    /// Which one.
    pub version: RocketMqVersion,
    /// Where it listens.
    pub ports: Ports,
}

/// What messages a topic takes; over gRPC each kind needs a topic of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicKind {
    /// Without order or delay.
    Normal,
    /// In order within a message group.
    Fifo,
    /// Delivered at a time.
    Delay,
    /// Delivered when a transaction commits.
    Transaction,
}

impl TopicKind {
    /// As RocketMQ spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::Fifo => "FIFO",
            Self::Delay => "DELAY",
            Self::Transaction => "TRANSACTION",
        }
    }
}

/// A running RocketMQ without messages. Dropping it ends it.
///
/// Plain text only: a gRPC client has to turn TLS off. The name server and the broker listen on the loopback; the
/// proxy's two ports and the broker's replication port can't be bound, and listen on every address.
///
/// A failed message is delivered again after a second, whatever its client asks for, and an open transaction is asked
/// about after three.
#[derive(Debug)]
pub struct RocketMq {
    talk: Talk,
    version: RocketMqVersion,
    first_port: u16,
    name_server: String,
    broker: String,
    proxy: String,
}

impl RocketMq {
    /// Starts the newest on free ports, and returns when clients can use it.
    ///
    /// # Errors
    /// Where something is missing on this machine, or it doesn't start.
    pub fn start() -> Result<Self, StartError> {
        Self::start_with(RocketMqOptions::default())
    }

    /// As [`start`](Self::start), as chosen.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(options: RocketMqOptions) -> Result<Self, StartError> {
        let jars = options.version.jars();
        let program = jars.program(&LAUNCHER)?;
        talk::start(&jars.title(), |attempt| {
            let ports = options.ports.choose(USUAL_PORTS, attempt);
            Self::attempt(&program, options.version, ports)
        })
    }

    /// The one that all tests of a program share; it ends with the program.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn shared() -> Result<&'static Self, &'static StartError> {
        static SHARED: OnceLock<Result<RocketMq, StartError>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    fn attempt(program: &Program, version: RocketMqVersion, ports: [u16; 6]) -> Result<Self, Attempt> {
        let [first_port, name_server, broker, _replication, grpc, _remoting] = ports;
        let directory = RunDirectory::new("rocketmq")?;
        write_configuration(directory.path(), ports)?;
        let address = |port: u16| format!("127.0.0.1:{port}");
        let mut command = Command::new(&program.java.run);
        command
            .args(JVM)
            .arg(format!("-Duser.home={}", directory.path().display()))
            .arg(format!("-Djava.io.tmpdir={}/tmp", directory.path().display()))
            .args(["-cp", &program.class_path, LAUNCHER.class])
            .args([address(name_server), address(broker)])
            .args(["nameserver.conf", "broker.conf", "proxy.json"].map(|file| directory.path().join(file)))
            .env("ROCKETMQ_HOME", directory.path())
            .env("NAMESRV_ADDR", address(name_server));
        Ok(Self {
            talk: Talk::start(directory, command)?,
            version,
            first_port,
            name_server: address(name_server),
            broker: address(broker),
            proxy: address(grpc),
        })
    }

    /// Which one runs.
    #[must_use]
    pub fn version(&self) -> RocketMqVersion {
        self.version
    }

    /// Where another one can be started in its place when it has ended, if it was started on free ports.
    #[must_use]
    pub fn ports(&self) -> Ports {
        Ports::From(self.first_port)
    }

    /// Where clients of the remoting protocol begin: host and port.
    #[must_use]
    pub fn name_server(&self) -> &str {
        &self.name_server
    }

    /// The broker of the remoting protocol: host and port.
    #[must_use]
    pub fn broker(&self) -> &str {
        &self.broker
    }

    /// The endpoint of gRPC clients: host and port, without TLS.
    #[must_use]
    pub fn proxy(&self) -> &str {
        &self.proxy
    }

    /// The process that is all three.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.talk.process().id()
    }

    /// Its configuration, messages and logs, which vanish with it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.talk.process().directory()
    }

    /// Makes a topic; on return every client finds its route. One that is there already is changed.
    ///
    /// # Errors
    /// Where RocketMQ refuses it: names consist of letters, digits, `_`, `-`, `%` and `|`.
    pub fn topic(&self, name: &str, kind: TopicKind, queues: u32) -> Result<(), Refused> {
        self.talk.ask(&format!("topic {name} {} {queues}", kind.name()))
    }

    /// Makes a consumer group, whose messages go to the dead-letter queue after `retries` deliveries beside the first.
    ///
    /// # Errors
    /// Where RocketMQ refuses it, as for [`topic`](Self::topic).
    pub fn group(&self, name: &str, retries: u32) -> Result<(), Refused> {
        self.talk.ask(&format!("group {name} {retries}"))
    }

    /// As [`group`](Self::group), for consumers of a [`Fifo`](TopicKind::Fifo) topic.
    ///
    /// # Errors
    /// As there.
    pub fn orderly_group(&self, name: &str, retries: u32) -> Result<(), Refused> {
        self.talk.ask(&format!("group {name} {retries} orderly"))
    }
}

fn write_configuration(directory: &Path, ports: [u16; 6]) -> std::io::Result<()> {
    let [_fast, name_server, broker, replication, grpc, remoting] = ports;
    let fill = |text: &str| {
        text.replace("{directory}", &directory.display().to_string())
            .replace("{nameserver}", &name_server.to_string())
            .replace("{broker}", &broker.to_string())
            .replace("{replication}", &replication.to_string())
            .replace("{grpc}", &grpc.to_string())
            .replace("{remoting}", &remoting.to_string())
    };
    fs::create_dir(directory.join("tmp"))?;
    fs::write(directory.join("nameserver.conf"), fill(include_str!("../rocketmq/nameserver.conf")))?;
    fs::write(directory.join("broker.conf"), fill(include_str!("../rocketmq/broker.conf")))?;
    fs::write(directory.join("proxy.json"), fill(include_str!("../rocketmq/proxy.json")))
}
