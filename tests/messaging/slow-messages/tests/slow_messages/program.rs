//! The `spanprof` that is tested, as a process beside a consumer.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;

use rustix::process::{Pid, Signal, geteuid, kill_process};

/// The program that `SPANPROF_UNDER_TEST` names, or the one that the main workspace's release build makes; `None` where there is
/// none or no right to capture, which is said by the test's name.
///
/// # Panics
/// Where the environment says `CI`, as no test may be missing there.
pub(crate) fn under_test(test: &str) -> Option<PathBuf> {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../target/release/spanprof");
    let program = PathBuf::from(std::env::var_os("SPANPROF_UNDER_TEST").unwrap_or_else(|| built.into()));
    let missing = match (program.exists(), geteuid().is_root()) {
        (true, true) => return Some(program),
        (false, _) => {
            format!("no {}; build it: cargo build --release -p spanprof-agent", program.display())
        }
        (true, false) => "it needs root".to_owned(),
    };
    assert!(std::env::var_os("CI").is_none(), "{test} cannot run: {missing}");
    eprintln!("NOT RUN: {test}: {missing}");
    None
}

/// A running `spanprof`; it is killed when dropped.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
    said: String,
}

impl Program {
    /// Starts it with these arguments.
    pub(crate) fn start(program: &Path, arguments: &[&str]) -> Self {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.expect("spanprof starts");
        let errors = BufReader::new(child.stderr.take().expect("piped"));
        let (send, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, said: String::new() }
    }

    /// Waits until it says these words, and gives the whole line.
    pub(crate) fn wait_for(&mut self, words: &str) -> String {
        loop {
            let line = self.lines.recv();
            let line = line.unwrap_or_else(|_| panic!("it ended before it said {words:?}: {}", self.said));
            self.said += &line;
            self.said.push('\n');
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Interrupts it, waits for its end, and gives all that it said.
    pub(crate) fn end(mut self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("it runs still");
        let status = self.child.wait().expect("our child");
        let mut said = std::mem::take(&mut self.said);
        for line in self.lines.iter() {
            said += &line;
            said.push('\n');
        }
        assert!(status.success(), "{status}: {said}");
        said
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
