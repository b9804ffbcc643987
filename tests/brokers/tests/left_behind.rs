//! Nothing stays of a broker, however the process that started it ends.

use std::ffi::CString;
use std::io::{BufRead, BufReader, ErrorKind, Lines, Read};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use spanprof_brokers::{Kafka, Mosquitto, RocketMq, StartError, require};

/// Tells [`holds_a_broker`] which one.
const WHICH: &str = "SPANPROF_TEST_HOLDS";

/// How long a broker and its directory may need to vanish.
const PATIENCE_MILLISECONDS: i32 = 60_000;

#[test]
fn a_killed_process_leaves_no_mosquitto() {
    let Some(_) = require("a_killed_process_leaves_no_mosquitto", Mosquitto::fetch()) else { return };
    Holder::start("mosquitto").ends_without_a_trace(|holder| holder.kill().expect("it can be killed"));
}

#[test]
fn a_killed_process_leaves_no_kafka() {
    let Some(_) = require("a_killed_process_leaves_no_kafka", Kafka::fetch()) else { return };
    Holder::start("kafka").ends_without_a_trace(|holder| holder.kill().expect("it can be killed"));
}

#[test]
fn a_killed_process_leaves_no_rocketmq() {
    let Some(_) = require("a_killed_process_leaves_no_rocketmq", RocketMq::start().map(drop)) else { return };
    Holder::start("rocketmq").ends_without_a_trace(|holder| holder.kill().expect("it can be killed"));
}

#[test]
fn a_process_that_ends_leaves_no_shared_broker() {
    let Some(_) = require("a_process_that_ends_leaves_no_shared_broker", Mosquitto::fetch()) else { return };
    // The end of its input ends it; it never drops what it shares.
    Holder::start("mosquitto").ends_without_a_trace(|holder| drop(holder.stdin.take()));
}

/// Not a test: the process that those above start and end.
#[test]
#[ignore = "it is run by the tests above"]
fn holds_a_broker() {
    let told = match std::env::var(WHICH).as_deref() {
        Ok("mosquitto") => Mosquitto::shared().map(|broker| (broker.directory(), broker.address())),
        Ok("kafka") => Kafka::shared().map(|broker| (broker.directory(), broker.bootstrap_servers())),
        Ok("rocketmq") => RocketMq::shared().map(|broker| (broker.directory(), broker.name_server())),
        _ => return,
    };
    let (directory, address) = told.map_err(StartError::clone).expect("the broker starts");
    println!("\nholds {address} {}", directory.display());
    std::io::stdin().read_to_end(&mut Vec::new()).expect("the input ends");
}

struct Holder {
    process: Child,
    // Open to the end, as the test harness in it goes on to print.
    _output: Lines<BufReader<ChildStdout>>,
    address: String,
    directory: PathBuf,
}

impl Holder {
    fn start(which: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("a test program has a name"))
            .args(["--exact", "holds_a_broker", "--ignored", "--nocapture"])
            .env(WHICH, which)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be run again");
        let mut output = BufReader::new(process.stdout.take().expect("the output is a pipe")).lines();
        let mut lines = output.by_ref().map_while(Result::ok);
        let told = lines.find_map(|line| Some(line.strip_prefix("holds ")?.to_owned()));
        let told = told.expect("the broker starts");
        let (address, directory) = told.split_once(' ').expect("an address and a directory");
        Self { process, _output: output, address: address.to_owned(), directory: directory.into() }
    }

    fn ends_without_a_trace(mut self, end: impl FnOnce(&mut Child)) {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let removal = Removal::of(&self.directory);
        end(&mut self.process);
        self.process.wait().expect("it is ours");
        // The connection ends with the broker's process.
        let patience = Duration::from_millis(PATIENCE_MILLISECONDS.unsigned_abs().into());
        stream.set_read_timeout(Some(patience)).expect("it is not nothing");
        let ended = stream.read_to_end(&mut Vec::new());
        assert!(
            !matches!(&ended, Err(error) if error.kind() == ErrorKind::WouldBlock),
            "the broker still runs"
        );
        removal.wait();
        assert!(!self.directory.exists());
        TcpStream::connect(&self.address).expect_err("nobody listens any more");
    }
}

/// The end of a directory, as the kernel reports it.
struct Removal(OwnedFd);

impl Removal {
    fn of(directory: &Path) -> Self {
        let path = CString::new(directory.as_os_str().as_bytes()).expect("a path holds no zero");
        // SAFETY: takes no pointer; what it returns is checked and nobody else's.
        let events = unsafe {
            let descriptor = libc::inotify_init1(libc::IN_CLOEXEC);
            assert_ne!(descriptor, -1, "{}", std::io::Error::last_os_error());
            OwnedFd::from_raw_fd(descriptor)
        };
        // SAFETY: the path ends in zero and outlives the call.
        let watch =
            unsafe { libc::inotify_add_watch(events.as_raw_fd(), path.as_ptr(), libc::IN_DELETE_SELF) };
        assert_ne!(watch, -1, "{}", std::io::Error::last_os_error());
        Self(events)
    }

    fn wait(self) {
        let mut polled = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one structure that outlives the call.
        let ready = unsafe { libc::poll(&raw mut polled, 1, PATIENCE_MILLISECONDS) };
        assert_eq!(ready, 1, "the directory is still there");
    }
}
