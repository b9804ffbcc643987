//! A truth program as a process: started, set off, told from.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError};

use serde_json::Value;
use spanprof_agent::ActiveSpan;

/// A truth program that is ready and waits for the word to begin; it is ended when dropped.
#[derive(Debug)]
pub(crate) struct Truth {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Truth {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(program: impl AsRef<Path>, seconds: u64, arguments: &[&str]) -> Truth {
        let mut command = Command::new(program.as_ref());
        command.args(arguments);
        Truth::started(command, seconds)
    }

    /// Like [`start`](Self::start), with these variables in its environment.
    pub(crate) fn start_with(program: &str, seconds: u64, variables: &[(&str, &OsStr)]) -> Truth {
        let mut command = Command::new(program);
        command.envs(variables.iter().copied());
        Truth::started(command, seconds)
    }

    fn started(mut command: Command, seconds: u64) -> Truth {
        let program = command.get_program().to_owned();
        let mut child = command
            .args(["--hold", "--seconds", &seconds.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let (send, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            loop {
                let mut line = String::new();
                if !matches!(output.read_line(&mut line), Ok(1..)) || send.send(line).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        let truth = Truth { child, input, lines };
        assert_eq!(truth.lines.recv().as_deref(), Ok("ready\n"), "{} starts", program.display());
        truth
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives the word to begin.
    pub(crate) fn begin(&mut self) {
        self.input.as_mut().expect("open until the end").write_all(b"\n").expect("it lives");
    }

    /// Its truth, once it has told it; it stays alive until dropped.
    pub(crate) fn told(&self) -> Option<Value> {
        match self.lines.try_recv() {
            Ok(line) => Some(serde_json::from_str(&line).expect("the truth is JSON")),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => panic!("it ended without telling its truth"),
        }
    }

    /// Waits for its truth.
    pub(crate) fn wait(&self) -> Value {
        let line = self.lines.recv().expect("it ended without telling its truth");
        serde_json::from_str(&line).expect("the truth is JSON")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: the child was not waited for, so the id is still its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }
}

impl Drop for Truth {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The span of a kind and number, as truth programs make its ids (`span` of their writers).
pub(crate) fn span(kind: u64, number: u64) -> ActiveSpan {
    let span_id = ((kind + 1) << 56 | number).to_be_bytes();
    let mut trace_id = [0; 16];
    trace_id[..8].copy_from_slice(b"truth\0\0\0");
    trace_id[8..].copy_from_slice(&span_id);
    ActiveSpan { trace_id, span_id }
}

/// A whole number of a truth.
pub(crate) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no whole number"))
}

/// A text of a truth.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// A list of a truth.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}
