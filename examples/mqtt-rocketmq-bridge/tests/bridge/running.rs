//! The bridge as a process, and what it says.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use spanprof_brokers::{Mosquitto, RocketMq};

use crate::told::{Told, read};

/// After this long it hangs, on however slow a machine.
const HANGS: Duration = Duration::from_secs(300);

/// A running bridge. Dropping it kills it.
pub(crate) struct Bridge {
    process: Child,
    lines: Receiver<String>,
    /// What it said so far: two lines may come in either order.
    said: RefCell<Vec<String>>,
}

/// What a bridge is started with: a configuration, and a file for its spans.
pub(crate) struct Setting {
    configuration: PathBuf,
    spans: PathBuf,
}

impl Setting {
    /// A bridge between two brokers with one rule. Its files are in mosquitto's directory and vanish with it.
    pub(crate) fn new(mosquitto: &Mosquitto, rocketmq: &RocketMq, filter: &str, topic: &str) -> Self {
        let configuration = mosquitto.directory().join("bridge.toml");
        let text = format!(
            "[mqtt]\naddress = \"{}\"\nclient_id = \"bridge\"\n\n[rocketmq]\nproxy = \"{}\"\n\n\
             [[rule]]\nfilter = \"{filter}\"\ntopic = \"{topic}\"\ntrace_in_json = true\n",
            mosquitto.address(),
            rocketmq.proxy(),
        );
        fs::write(&configuration, text).expect("the directory is there");
        Self { configuration, spans: mosquitto.directory().join("spans.jsonl") }
    }

    /// Starts the bridge, and returns when it has subscribed.
    pub(crate) fn start(&self) -> Bridge {
        let mut process = Command::new(env!("CARGO_BIN_EXE_mqtt-rocketmq-bridge"))
            .arg(&self.configuration)
            .arg("--spans")
            .arg(&self.spans)
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (told, lines) = channel();
        let output = BufReader::new(process.stderr.take().expect("it is piped"));
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                println!("{line}");
                // Nobody listens where the test is through.
                let _ = told.send(line);
            }
        });
        let bridge = Bridge { process, lines, said: RefCell::default() };
        bridge.says("subscribed");
        bridge
    }

    /// The spans of all bridges that were started with it.
    pub(crate) fn spans(&self) -> Vec<Told> {
        read(&fs::read_to_string(&self.spans).expect("the bridge made it"))
    }
}

impl Bridge {
    /// Waits until it has said a line that holds these words.
    pub(crate) fn says(&self, words: &str) {
        let mut said = self.said.borrow_mut();
        while !said.iter().any(|line| line.contains(words)) {
            let line = self.lines.recv_timeout(HANGS);
            said.push(line.unwrap_or_else(|_| panic!("the bridge never said {words:?}")));
        }
    }

    /// Ends it at once, as the kernel does when memory is short.
    pub(crate) fn kill(mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it has ended");
    }

    /// Asks it to end.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("there is a `kill`").success());
        self.process.wait().expect("it ends")
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
