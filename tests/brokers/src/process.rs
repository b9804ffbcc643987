//! A broker's process and its directory, which end with this process, however that ends.
//!
//! A destructor alone is not enough: a test that is killed runs none, nor does a broker in a `static`. So the kernel
//! kills the broker when this process is gone, and a small guardian, a shell that waits for the end of a pipe, then
//! removes the directory. Both hold the pipe's other end, this process and the broker, so that the guardian moves
//! when the last of them is dead.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io::{self, BufRead, BufReader, PipeWriter, Read};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Instant;

/// What a line of a broker may hold; the rest of a longer one counts as the next.
const LINE_LIMIT: u64 = 16 * 1024;

/// How much of a broker's last words goes into an error.
const LAST_WORDS: usize = 2_000;

/// A new directory that is gone when it is dropped, or when this process and the broker in it are dead.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    path: PathBuf,
    lifeline: PipeWriter,
    guardian: Child,
}

impl RunDirectory {
    pub(crate) fn new(name: &str) -> io::Result<Self> {
        let path = make_directory(name)?;
        let (end, lifeline) = io::pipe()?;
        let guardian = Command::new("/bin/sh")
            .args([OsStr::new("-c"), OsStr::new("read -r _; rm -rf -- \"$1\""), OsStr::new("guardian")])
            .arg(&path)
            .stdin(end)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // Of its own, as the terminal's interrupt goes to a whole group.
            .process_group(0)
            .spawn()?;
        Ok(Self { path, lifeline, guardian })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        // What can't be removed here, the guardian could not remove either.
        let _ = fs::remove_dir_all(&self.path);
        let _ = self.guardian.kill();
        let _ = self.guardian.wait();
    }
}

fn make_directory(name: &str) -> io::Result<PathBuf> {
    let template = std::env::temp_dir().join(format!("spanprof-{name}-XXXXXX"));
    let mut bytes = CString::new(template.into_os_string().into_vec())?.into_bytes_with_nul();
    // SAFETY: a string that ends in zero and that nobody else holds; the call replaces its X's in place.
    if unsafe { libc::mkdtemp(bytes.as_mut_ptr().cast()) }.is_null() {
        return Err(io::Error::last_os_error());
    }
    bytes.pop();
    Ok(PathBuf::from(OsStr::from_bytes(&bytes)))
}

/// A broker's process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    // After the child, as fields are dropped in order.
    directory: RunDirectory,
}

impl Process {
    /// Starts a broker in its directory; its errors go to the file `console.log` there, its lines to the receiver.
    pub(crate) fn start(
        directory: RunDirectory,
        mut command: Command,
    ) -> io::Result<(Self, ChildStdin, Lines)> {
        let console = fs::File::create(directory.path().join("console.log"))?;
        let lifeline = directory.lifeline.as_raw_fd();
        command
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(console)
            .process_group(0);
        // SAFETY: it only duplicates a descriptor, which is allowed between fork and exec. The descriptor is open, as
        // the directory outlives the call.
        unsafe {
            command.pre_exec(move || match libc::dup(lifeline) {
                -1 => Err(io::Error::last_os_error()),
                _ => Ok(()),
            });
        }
        let mut child = spawn(command)?;
        let input = child.stdin.take().expect("the input is a pipe");
        let lines = Lines::of(child.stdout.take().expect("the output is a pipe"));
        Ok((Self { child, directory }, input, lines))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Waits for its end; whether it went well.
    pub(crate) fn ended_well(&mut self) -> io::Result<bool> {
        Ok(self.child.wait()?.success())
    }

    /// The end of what the broker wrote as errors.
    pub(crate) fn last_words(&self) -> String {
        last_words(&self.directory.path().join("console.log"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The end of a file, as text.
pub(crate) fn last_words(file: &Path) -> String {
    let text = fs::read(file).unwrap_or_default();
    let tail = &text[text.len().saturating_sub(LAST_WORDS)..];
    String::from_utf8_lossy(tail).trim().to_owned()
}

/// What a process prints, line by line.
#[derive(Debug)]
pub(crate) struct Lines(Receiver<String>);

/// Why there is no line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoLine {
    /// The process closed its output.
    Ended,
    /// It was silent until the deadline.
    Late,
}

impl Lines {
    /// Reads to the end also after this is dropped, as a process that nobody reads stops.
    fn of(output: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while matches!((&mut output).take(LINE_LIMIT).read_until(b'\n', &mut line), Ok(1..)) {
                let _ = sender.send(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
        });
        Self(receiver)
    }

    pub(crate) fn next_until(&self, deadline: Instant) -> Result<String, NoLine> {
        self.0.recv_timeout(deadline.saturating_duration_since(Instant::now())).map_err(|error| match error {
            RecvTimeoutError::Disconnected => NoLine::Ended,
            RecvTimeoutError::Timeout => NoLine::Late,
        })
    }
}

/// Starts a process that the kernel kills when this one is gone.
///
/// The kernel's promise is about the *thread* that started it, so one thread that never ends starts them all: a broker
/// that tests share would otherwise die with the test that came first.
pub(crate) fn spawn(mut command: Command) -> io::Result<Child> {
    type Order = (Command, Sender<io::Result<Child>>);
    static ORDERS: OnceLock<Sender<Order>> = OnceLock::new();

    let parent = std::process::id();
    // SAFETY: two system calls, which are allowed between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent died before the kernel knew.
            if u32::try_from(libc::getppid()) != Ok(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
    let orders = ORDERS.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        std::thread::Builder::new()
            .name("broker-parent".to_owned())
            .spawn(move || {
                for (mut command, answer) in orders {
                    let _ = answer.send(command.spawn());
                }
            })
            .expect("a thread starts");
        sender
    });
    let (answer, answered) = mpsc::channel();
    orders.send((command, answer)).expect("the thread never ends");
    answered.recv().expect("the thread answers every order")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_process_is_killed_and_its_directory_deleted_with_it() {
        let directory = RunDirectory::new("test").expect("there is a place for it");
        let path = directory.path().to_owned();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo $$; read -r _"]);
        let (process, _input, lines) = Process::start(directory, command).expect("it starts");
        let told = lines.next_until(Instant::now() + Duration::from_secs(60));
        assert_eq!(told, Ok(process.id().to_string()));
        assert!(path.is_dir());
        drop(process);
        assert!(!path.exists());
        assert_eq!(lines.next_until(Instant::now() + Duration::from_secs(60)), Err(NoLine::Ended));
    }
}
