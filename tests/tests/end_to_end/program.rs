//! The `spanprof` program as a process beside the test.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;

use spanprof_agent::summary::Summary;
use spanprof_exporter::{Profile, pprof};

/// A running `spanprof`; it is killed when dropped.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
    seen: String,
}

/// What a finished one left.
#[derive(Debug)]
pub(crate) struct Finished {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Its standard error.
    pub(crate) errors: String,
}

impl Program {
    /// Starts `spanprof` with these arguments.
    pub(crate) fn start<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Program {
        let mut child = Command::new(env!("CARGO_BIN_EXE_spanprof_under_test"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("spanprof starts");
        let errors = BufReader::new(child.stderr.take().expect("piped"));
        let (send, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Program { child, lines, seen: String::new() }
    }

    /// Waits until it says these words, and gives the whole line.
    pub(crate) fn wait_for(&mut self, words: &str) -> String {
        loop {
            let line = self.lines.recv();
            let line = line.unwrap_or_else(|_| panic!("it ended before it said {words:?}: {}", self.seen));
            self.seen.push_str(&line);
            self.seen.push('\n');
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: the child was not waited for, so the id is still its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Finished {
        let status = self.child.wait().expect("our child");
        let mut errors = std::mem::take(&mut self.seen);
        for line in self.lines.iter() {
            errors.push_str(&line);
            errors.push('\n');
        }
        Finished { status, errors }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The summary of a recording.
pub(crate) fn summary(out: &Path) -> Summary {
    let bytes = std::fs::read(out.join("summary.json")).expect("a summary");
    serde_json::from_slice(&bytes).expect("the summary's own type")
}

/// The profile of a recording or of a window.
pub(crate) fn profile(file: &Path) -> Profile {
    pprof::decode(&std::fs::read(file).expect("a profile")).expect("pprof")
}
