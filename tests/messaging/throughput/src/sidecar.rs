//! The agent beside a consumer: attached before the first message, looked at after the last.

use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;

/// A `spanprof record` that records.
pub(crate) struct Sidecar {
    child: Child,
    out: tempfile::TempDir,
    /// Where the agent says what happens.
    said: BufReader<std::process::ChildStderr>,
}

impl Sidecar {
    /// Returns when it records.
    pub(crate) fn attach(spanprof: &Path, pid: u32) -> Result<Self, Failure> {
        let out = tempfile::tempdir()?;
        let mut child = Command::new(spanprof)
            .args(["record", "--seconds", "3600", "--pid", &pid.to_string(), "--out"])
            .arg(out.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                format!("{}: {error}; build it: cargo build --release -p spanprof-agent", spanprof.display())
            })?;
        let mut said = BufReader::new(child.stderr.take().ok_or("no standard error")?);
        let mut all = String::new();
        loop {
            let mut line = String::new();
            if said.read_line(&mut line)? == 0 {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("the agent does not record: {all}").into());
            }
            if line.starts_with("recording ") {
                return Ok(Self { child, out, said });
            }
            all += &line;
        }
    }

    /// Ends it, if it has not seen the consumer's end itself, and says what it saw.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        let pid = Pid::from_child(&self.child);
        let _ = kill_process(pid, Signal::INT);
        let last = self.said.by_ref().lines().map_while(Result::ok).last();
        let status = self.child.wait()?;
        if !status.success() {
            return Err(format!("the agent failed: {status}: {}", last.unwrap_or_default()).into());
        }
        let summary: serde_json::Value =
            serde_json::from_slice(&std::fs::read(self.out.path().join("summary.json"))?)?;
        eprintln!("         agent: {} samples; losses {}", summary["samples"], summary["losses"]);
        Ok(())
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
