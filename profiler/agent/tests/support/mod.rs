//! What the tests of the program share: starting it, also without privilege, and something to profile.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use spanprof_agent::summary::Summary;
use spanprof_exporter::{Label, Location, Profile, SampleKey, SampleKind, label, pprof};
use spanprof_symbolizer::{Frame, FrameKind};

/// The user without privilege on every Linux.
const NOBODY: u32 = 65534;

/// What a finished program left.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Its exit code; none where a signal ended it.
    pub(crate) code: Option<i32>,
    /// Its standard output.
    pub(crate) output: String,
    /// Its standard error.
    pub(crate) errors: String,
}

/// The program under test.
pub(crate) fn spanprof() -> Command {
    Command::new(env!("CARGO_BIN_EXE_spanprof"))
}

/// Runs to the end.
pub(crate) fn run(command: &mut Command) -> Finished {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Finished {
        code: output.status.code(),
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Whether we are root; a test that is not says so by name, and fails where it must not be missing.
pub(crate) fn is_root(test: &str) -> bool {
    // SAFETY: no arguments, cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    root || skipped(test, "it needs root")
}

/// Whether this machine allows a capture; as [`is_root`].
pub(crate) fn can_capture(test: &str) -> bool {
    let finished = run(spanprof().arg("doctor"));
    finished.code == Some(0) && is_root(test) || skipped(test, &finished.output)
}

fn skipped(test: &str, why: &str) -> bool {
    assert!(std::env::var_os("CI").is_none(), "{test} cannot run: {why}");
    eprintln!("NOT RUN: {test}: {why}");
    false
}

/// The program as nobody, with these capabilities only.
pub(crate) fn as_nobody(arguments: &[&str], capabilities: &[u32]) -> Box<Command> {
    let mut command = Box::new(spanprof());
    command.args(arguments).current_dir("/");
    let bits: u64 = capabilities.iter().map(|bit| 1u64 << bit).sum();
    let raised: Vec<u32> = capabilities.to_vec();
    // SAFETY: between fork and exec only system calls are made, on memory that was made before.
    unsafe {
        command.pre_exec(move || {
            let check = |result: libc::c_long| match result {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            };
            check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0).into())?;
            check(libc::setgroups(0, std::ptr::null()).into())?;
            check(libc::setgid(NOBODY).into())?;
            check(libc::setuid(NOBODY).into())?;
            // _LINUX_CAPABILITY_VERSION_3: two words of effective, permitted and inheritable bits.
            let header: [u32; 2] = [0x2008_0522, 0];
            let (low, high) = (bits as u32, (bits >> 32) as u32);
            let sets: [u32; 6] = [low, low, low, high, high, high];
            check(libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()))?;
            for bit in &raised {
                check(libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, *bit, 0, 0).into())?;
            }
            Ok(())
        });
    }
    command
}

/// A capture that runs while the test acts.
pub(crate) struct Recording {
    child: Child,
    errors: BufReader<std::process::ChildStderr>,
    seen: String,
}

impl Recording {
    /// A recording into a directory.
    pub(crate) fn start(arguments: &[&str], out: &std::path::Path) -> Recording {
        let mut command = spanprof();
        command.args(["record", "--out"]).arg(out).args(arguments);
        Recording::of(command)
    }

    /// Any command of the program.
    pub(crate) fn of(mut command: Command) -> Recording {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        Recording { child, errors, seen: String::new() }
    }

    /// Waits until it said something on standard error.
    pub(crate) fn wait_for(&mut self, words: &str) {
        self.wait_for_line(words);
    }

    /// The same, and gives the line.
    pub(crate) fn wait_for_line(&mut self, words: &str) -> String {
        loop {
            let begin = self.seen.len();
            let read = self.errors.read_line(&mut self.seen).unwrap();
            assert_ne!(read, 0, "it ended before it said {words:?}: {}", self.seen);
            if self.seen[begin..].contains(words) {
                return self.seen[begin..].to_owned();
            }
        }
    }

    /// The next line of its standard output.
    pub(crate) fn output_line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: the child was not collected, so the id is still its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Finished {
        // A grandchild may hold the pipes open, so that the end of the process is awaited first where it can
        // be told from its output alone.
        let status = self.child.wait().unwrap();
        set_nonblocking(&self.errors);
        let mut rest = Vec::new();
        let _ = self.errors.read_to_end(&mut rest);
        self.seen.push_str(&String::from_utf8_lossy(&rest));
        Finished { code: status.code(), output: String::new(), errors: std::mem::take(&mut self.seen) }
    }
}

fn set_nonblocking(errors: &BufReader<std::process::ChildStderr>) {
    use std::os::fd::AsRawFd;
    // SAFETY: sets a flag on a descriptor that we own.
    unsafe { libc::fcntl(errors.get_ref().as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
}

/// A process that waits for its standard input to close.
pub(crate) struct Cat(Child);

impl Cat {
    /// Starts one that runs its own code already.
    pub(crate) fn start() -> Cat {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        Cat(child)
    }

    /// Its id as an argument.
    pub(crate) fn id(&self) -> String {
        self.0.id().to_string()
    }

    /// Whether it still answers.
    pub(crate) fn still_answers(mut self) -> bool {
        let answered = self.0.stdin.as_mut().unwrap().write_all(b"y").is_ok();
        answered && self.0.stdout.as_mut().unwrap().read_exact(&mut [0]).is_ok()
    }
}

impl Drop for Cat {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file system of a few pages, in memory.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Mounts one; needs root.
    pub(crate) fn mount(bytes: usize) -> SmallDisk {
        let directory = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(directory.path()).status();
        assert!(status.unwrap().success(), "cannot mount a small disk");
        SmallDisk(directory)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// Reads what a recording says of itself.
pub(crate) fn summary(out: &Path) -> Summary {
    serde_json::from_slice(&std::fs::read(out.join("summary.json")).unwrap()).unwrap()
}

/// Answers one request after another as a server that takes nothing.
pub(crate) fn refuse(connection: &mut std::net::TcpStream) {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = connection.read(&mut chunk) {
        request.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some(head) = text.find("\r\n\r\n") else { continue };
        let length = text
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
            })
            .unwrap_or(0);
        // The body is binary, so that its length is counted in the bytes, not in the text.
        let head_bytes = request.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(head) + 4;
        if request.len() < head_bytes + length {
            continue;
        }
        let answer = "HTTP/1.1 400 Bad Request\r\ncontent-length: 21\r\n\r\nno room for this here";
        if connection.write_all(answer.as_bytes()).is_err() {
            return;
        }
        request.clear();
    }
}

/// A small recording: one span that waited and one that computed.
pub(crate) fn recording(directory: &Path) -> PathBuf {
    write_recording(directory, false)
}

/// The same, in which the second span awaited too.
pub(crate) fn recording_with_tasks(directory: &Path) -> PathBuf {
    write_recording(directory, true)
}

fn write_recording(directory: &Path, tasks: bool) -> PathBuf {
    let mut profile = Profile::default();
    let mut location = |name: &str| {
        let name: Arc<str> = name.into();
        let frame = Frame {
            function: name.clone(),
            system_name: name.clone(),
            file: None,
            line: 0,
            kind: FrameKind::Rust,
        };
        let address = name.len() as u64;
        profile.intern_location(Location { module: None, address, frames: vec![frame] })
    };
    let (run, reserve, parse) =
        (location("consumer::run"), location("orders::reserve"), location("orders::parse"));
    let mut add = |leaf, span: &str, kind, nanoseconds| {
        let stack = profile.intern_stack(vec![leaf, run]);
        let labels = profile.intern_labels(vec![
            Label::text(label::TRACE_ID, "4bf92f3577b34da6a3ce929d0e0e4736"),
            Label::text(label::SPAN_ID, span),
            Label::text(label::SERVICE_NAME, "consumer"),
            Label::text(label::DESTINATION, "orders"),
        ]);
        profile.add(SampleKey { stack, labels, kind }, nanoseconds, 1);
    };
    add(reserve, "00f067aa0ba902b7", SampleKind::OffCpu, 430_000_000);
    add(parse, "00f067aa0ba902b7", SampleKind::Cpu, 12_000_000);
    add(parse, "1111111111111111", SampleKind::Cpu, 38_000_000);
    if tasks {
        add(parse, "1111111111111111", SampleKind::Suspended, 70_000_000);
        add(parse, "1111111111111111", SampleKind::Ready, 3_000_000);
    }
    let file = directory.join("profile.pb.gz");
    std::fs::write(&file, pprof::encode(&profile)).unwrap();
    file
}

/// Ten slow messages with long names, in one trace each, that waited for different things.
pub(crate) fn recording_of_slow_messages(directory: &Path) -> PathBuf {
    let mut profile = Profile::default();
    let mut location = |name: &str| {
        let function: Arc<str> = name.into();
        let system_name = function.clone();
        let frame = Frame { function, system_name, file: None, line: 0, kind: FrameKind::Rust };
        profile.intern_location(Location { module: None, address: name.len() as u64, frames: vec![frame] })
    };
    let own = location("orders::inventory::Inventory::reserve_everything_that_this_order_needs");
    let lock = location("std::sync::poison::mutex::Mutex<T>::lock");
    let commit = location("rd_kafka_commit");
    for number in 0..10_u64 {
        let trace = format!("4bf92f3577b34da6a3ce929d0e0e47{number:02x}");
        let labels = profile.intern_labels(vec![
            Label::text(label::TRACE_ID, trace),
            Label::text(label::SPAN_ID, format!("{:016x}", number + 1)),
            Label::text(label::SERVICE_NAME, "orders-consumer-of-the-whole-continent"),
            Label::text(label::DESTINATION, "orders.created.eu-west-1.priority"),
            Label::text(label::CONSUMER_GROUP, "billing-and-fulfilment"),
            Label::text(label::OPERATION, "process"),
        ]);
        let blocked = profile.intern_stack(vec![if number % 2 == 0 { lock } else { commit }, own]);
        let ran = profile.intern_stack(vec![own]);
        let slow = 1_000_000 * (500 - 10 * number);
        for (stack, kind, nanoseconds) in [
            (blocked, SampleKind::OffCpu, slow * 90 / 100),
            (ran, SampleKind::RunQueue, slow * 6 / 100),
            (ran, SampleKind::Cpu, slow * 4 / 100),
        ] {
            profile.add(SampleKey { stack, labels, kind }, nanoseconds, 1);
        }
    }
    let file = directory.join("profile.pb.gz");
    std::fs::write(&file, pprof::encode(&profile)).unwrap();
    file
}
