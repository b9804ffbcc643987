//! One process as it is now: identity, names, owner, threads and namespaces.
//!
//! Process ids are reused, so what names a process is its id with its start time ([`ProcessKey`]). The
//! standard is proc(5). `sysinfo` and `procfs` were refused: both read much more than this per process,
//! and neither tells a kernel thread or a refused permission from a process that is gone.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::cgroup;
use super::procfs::ProcFs;
use super::{Pid, ThreadId};

/// `stat` and `status` are a page at most.
const MAX_STATUS: usize = 16 << 10;
/// Bytes kept of a command line.
const MAX_COMMAND_LINE: usize = 16 << 10;
/// Bytes read of `cgroup`: a dozen version-1 hierarchies with deep paths.
const MAX_CGROUP: usize = 64 << 10;
/// `PF_KTHREAD` in the flags of `stat`: linux/sched.h.
const KERNEL_THREAD_FLAG: u64 = 0x0020_0000;

/// Why a process could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It ended, or never was.
    #[error("no process has the id {pid}")]
    NoSuchProcess {
        /// The id asked for.
        pid: Pid,
    },
    /// It belongs to someone else, or is protected.
    #[error(
        "not allowed to read {what} of process {pid}: it belongs to another user or is protected; \
         run as root or grant CAP_SYS_PTRACE"
    )]
    NotPermitted {
        /// The process.
        pid: Pid,
        /// Which of its files was refused.
        what: &'static str,
    },
    /// It has no user code to profile.
    #[error("process {pid} is a thread of the kernel and has no code of its own to profile")]
    KernelThread {
        /// The process.
        pid: Pid,
    },
    /// Anything else.
    #[error("cannot read {what} of process {pid}: {source}")]
    Io {
        /// The process.
        pid: Pid,
        /// Which of its files.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl ProcessError {
    /// Sorts an error of reading `/proc/PID/what` by what the caller can do about it.
    pub fn from_io(pid: Pid, what: &'static str, source: io::Error) -> ProcessError {
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => ProcessError::NoSuchProcess { pid },
            Some(libc::EACCES | libc::EPERM) => ProcessError::NotPermitted { pid, what },
            _ => ProcessError::Io { pid, what, source },
        }
    }

    /// The capability that would help, where one would.
    pub fn missing_capability(&self) -> Option<&'static str> {
        matches!(self, ProcessError::NotPermitted { .. }).then_some("CAP_SYS_PTRACE")
    }
}

/// Which process, for good: an id is reused after its process ended, an id with a start time is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey {
    /// The process id.
    pub pid: Pid,
    /// When it started, in clock ticks since boot (field 22 of `stat`).
    pub start_ticks: u64,
}

/// A process as it was when read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Which one.
    pub key: ProcessKey,
    /// The process that started it, 0 where that is in another pid namespace.
    pub parent: Pid,
    /// The owner's user id.
    pub user_id: u32,
    /// Its name of at most 15 bytes (`comm`).
    pub comm: String,
    /// The arguments, the program first; empty for a kernel thread and for a process that erased them.
    pub command_line: Vec<OsString>,
    /// The program's path in its own mount namespace, where it may be read.
    pub executable: Option<PathBuf>,
    /// Whether the program was removed or replaced since it started.
    pub executable_deleted: bool,
    /// The text of `/proc/PID/cgroup`.
    pub cgroup_file: String,
    /// Its id in its own pid namespace; equal to the outer id where that is ours.
    pub namespace_pid: Pid,
    /// Whether it sees the same mounts as we do; `None` where that may not be read.
    pub same_mount_namespace: Option<bool>,
    /// Whether it is a thread of the kernel.
    pub is_kernel_thread: bool,
}

/// One thread of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// Its id.
    pub thread_id: ThreadId,
    /// Its name of at most 15 bytes.
    pub name: String,
    /// What it was doing.
    pub state: ThreadState,
}

/// What a thread was doing when it was read: the letter of `stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ThreadState {
    /// Running or waiting for a CPU.
    Runnable,
    /// Blocked, and a signal would wake it.
    Sleeping,
    /// Blocked in the kernel, mostly on a disk.
    Uninterruptible,
    /// Stopped by a signal or a debugger.
    Stopped,
    /// Ended and not yet collected.
    Ended,
    /// A letter that this version does not know.
    Other(char),
}

impl ThreadState {
    fn from_letter(letter: char) -> ThreadState {
        match letter {
            'R' => ThreadState::Runnable,
            'S' | 'I' => ThreadState::Sleeping,
            'D' => ThreadState::Uninterruptible,
            'T' | 't' => ThreadState::Stopped,
            'Z' | 'X' | 'x' => ThreadState::Ended,
            other => ThreadState::Other(other),
        }
    }
}

impl Process {
    /// Reads a process. The id of a thread gives the process that the thread belongs to.
    ///
    /// What needs a privilege that is not there (the executable, the mount namespace) is left out, so
    /// that names can still be matched.
    ///
    /// # Errors
    /// When it is gone or hidden. A zombie is gone: nothing of it can be profiled any more.
    pub fn read(procfs: &ProcFs, id: u32) -> Result<Process, ProcessError> {
        let status = procfs.read(id, "status", MAX_STATUS)?;
        let status = Status::parse(&String::from_utf8_lossy(&status), id);
        let pid = status.pid;
        let stat = Stat::read(procfs, pid, "stat")?;
        if stat.state == ThreadState::Ended {
            return Err(ProcessError::NoSuchProcess { pid });
        }
        let (executable, executable_deleted) = match procfs.link(pid, "exe") {
            Ok(path) => without_deleted(&path),
            Err(_) => (None, false),
        };
        let cgroup_file = procfs.read(pid, "cgroup", MAX_CGROUP).unwrap_or_default();
        Ok(Process {
            key: ProcessKey { pid, start_ticks: stat.start_ticks },
            parent: stat.parent,
            user_id: status.user_id,
            comm: stat.name,
            command_line: split_arguments(&procfs.read(pid, "cmdline", MAX_COMMAND_LINE).unwrap_or_default()),
            executable,
            executable_deleted,
            cgroup_file: String::from_utf8_lossy(&cgroup_file).into_owned(),
            namespace_pid: status.namespace_pid,
            same_mount_namespace: same_namespace(procfs, pid, "ns/mnt"),
            is_kernel_thread: stat.flags & KERNEL_THREAD_FLAG != 0,
        })
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        self.key.pid
    }

    /// Whether the id still means this process.
    pub fn is_alive(&self, procfs: &ProcFs) -> bool {
        Stat::read(procfs, self.pid(), "stat")
            .is_ok_and(|stat| stat.start_ticks == self.key.start_ticks && stat.state != ThreadState::Ended)
    }

    /// The program's file name: of the executable, else of the first argument, else `comm`.
    pub fn executable_name(&self) -> String {
        self.executable
            .as_deref()
            .and_then(Path::file_name)
            .map(|name| name.to_string_lossy().into_owned())
            .or_else(|| self.first_argument_name())
            .unwrap_or_else(|| self.comm.clone())
    }

    /// The file name in the first argument: what a person sees in `ps`.
    pub fn first_argument_name(&self) -> Option<String> {
        let first = Path::new(self.command_line.first()?);
        Some(first.file_name()?.to_string_lossy().into_owned())
    }

    /// The id of the container it runs in.
    pub fn container_id(&self) -> Option<&str> {
        cgroup::container_id(&self.cgroup_file)
    }

    /// Its threads, ascending by id. Threads that end meanwhile are left out.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn threads(&self, procfs: &ProcFs) -> Result<Vec<Thread>, ProcessError> {
        let pid = self.pid();
        let ids = procfs.thread_ids(pid)?;
        Ok(ids.into_iter().filter_map(|thread_id| Thread::read(procfs, pid, thread_id)).collect())
    }

    /// Refuses a process whose program may not be read: its stacks could be neither walked nor named.
    ///
    /// That the mappings can be read does not say so: newer kernels let CAP_PERFMON read those.
    ///
    /// # Errors
    /// When it may not be read, or is gone.
    pub fn require_readable(&self, procfs: &ProcFs) -> Result<(), ProcessError> {
        procfs.link(self.pid(), "exe").map(|_| ())
    }

    /// Refuses a thread of the kernel.
    ///
    /// # Errors
    /// When it is one.
    pub fn with_user_code(self) -> Result<Process, ProcessError> {
        match self.is_kernel_thread {
            true => Err(ProcessError::KernelThread { pid: self.pid() }),
            false => Ok(self),
        }
    }
}

impl Thread {
    /// Reads one thread; `None` once it ended.
    pub fn read(procfs: &ProcFs, pid: Pid, thread_id: ThreadId) -> Option<Thread> {
        let file = procfs.path(pid, "task").join(thread_id.to_string()).join("stat");
        let stat = Stat::parse(&read_small(&file).ok()?)?;
        Some(Thread { thread_id, name: stat.name, state: stat.state })
    }
}

fn read_small(file: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(MAX_STATUS as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn same_namespace(procfs: &ProcFs, pid: Pid, which: &'static str) -> Option<bool> {
    let theirs = std::fs::metadata(procfs.path(pid, which)).ok()?;
    let ours = std::fs::metadata(procfs.root().join("self").join(which)).ok()?;
    Some((theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()))
}

fn without_deleted(link: &Path) -> (Option<PathBuf>, bool) {
    match link.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(path) => (Some(PathBuf::from(OsString::from_vec(path.to_vec()))), true),
        None => (Some(link.to_owned()), false),
    }
}

fn split_arguments(bytes: &[u8]) -> Vec<OsString> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|byte| *byte == 0).map(|argument| OsString::from_vec(argument.to_vec())).collect()
}

/// What is taken from `status`.
struct Status {
    pid: Pid,
    user_id: u32,
    namespace_pid: Pid,
}

impl Status {
    fn parse(text: &str, asked: u32) -> Status {
        let mut status = Status { pid: asked, user_id: u32::MAX, namespace_pid: asked };
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let mut numbers = value.split_whitespace().map_while(|number| number.parse::<u32>().ok());
            match key {
                "Tgid" => status.pid = numbers.next().unwrap_or(asked),
                // Real, effective, saved, file system: the effective one decides what may be read.
                "Uid" => status.user_id = numbers.nth(1).unwrap_or(u32::MAX),
                "NStgid" => status.namespace_pid = numbers.last().unwrap_or(asked),
                _ => {}
            }
        }
        status
    }
}

/// What is taken from `stat`.
struct Stat {
    name: String,
    state: ThreadState,
    parent: Pid,
    flags: u64,
    start_ticks: u64,
}

impl Stat {
    fn read(procfs: &ProcFs, pid: Pid, file: &'static str) -> Result<Stat, ProcessError> {
        let bytes = procfs.read(pid, file, MAX_STATUS)?;
        Stat::parse(&bytes).ok_or_else(|| ProcessError::Io {
            pid,
            what: file,
            source: io::Error::new(io::ErrorKind::InvalidData, "not in the format of proc(5)"),
        })
    }

    /// The name may hold blanks and parentheses, so it ends at the *last* `)`.
    fn parse(bytes: &[u8]) -> Option<Stat> {
        let open = bytes.iter().position(|byte| *byte == b'(')?;
        let close = bytes.iter().rposition(|byte| *byte == b')')?;
        let name = String::from_utf8_lossy(bytes.get(open + 1..close)?).into_owned();
        let rest = std::str::from_utf8(&bytes[close + 1..]).ok()?;
        // The fields behind the name are numbered from 3, the state.
        let fields: Vec<&str> = rest.split_ascii_whitespace().take(20).collect();
        Some(Stat {
            name,
            state: ThreadState::from_letter(fields.first()?.chars().next()?),
            parent: fields.get(1)?.parse().ok()?,
            flags: fields.get(6)?.parse().ok()?,
            start_ticks: fields.get(19)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_ourselves() {
        let procfs = ProcFs::host();
        let process = Process::read(&procfs, std::process::id()).unwrap();
        assert_eq!(process.pid(), std::process::id());
        assert_eq!(process.executable, Some(std::env::current_exe().unwrap()));
        assert_eq!(process.same_mount_namespace, Some(true));
        assert!(!process.executable_deleted && !process.is_kernel_thread);
        assert!(process.key.start_ticks > 0);
        assert!(process.is_alive(&procfs));
        let reused = Process { key: ProcessKey { start_ticks: 1, ..process.key }, ..process };
        assert!(!reused.is_alive(&procfs), "the id alone is not the process");
    }

    #[test]
    fn the_id_of_a_thread_gives_its_process() {
        let procfs = ProcFs::host();
        let process = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    // SAFETY: gettid has no arguments and cannot fail.
                    let thread_id = unsafe { libc::gettid() } as u32;
                    assert_ne!(thread_id, std::process::id());
                    Process::read(&procfs, thread_id).unwrap()
                })
                .join()
                .unwrap()
        });
        assert_eq!(process.pid(), std::process::id());
    }

    #[test]
    fn lists_threads_with_their_names() {
        let (ready, wait) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let worker = std::thread::Builder::new()
            .name("orders worker)".into())
            .spawn(move || {
                ready.send(()).unwrap();
                let _ = stopped.recv();
            })
            .unwrap();
        wait.recv().unwrap();
        let procfs = ProcFs::host();
        let threads = Process::read(&procfs, std::process::id()).unwrap().threads(&procfs).unwrap();
        assert!(threads.iter().any(|thread| thread.name == "orders worker)"), "{threads:?}");
        drop(stop);
        worker.join().unwrap();
    }

    #[test]
    fn says_when_a_process_is_gone() {
        let procfs = ProcFs::host();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let error = Process::read(&procfs, pid).unwrap_err();
        assert!(matches!(error, ProcessError::NoSuchProcess { .. }), "{error}");
        assert_eq!(error.to_string(), format!("no process has the id {pid}"));
    }

    #[test]
    fn a_zombie_is_gone() {
        let procfs = ProcFs::host();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        // SAFETY: waits for our own child without collecting it; the struct is written by the call.
        let waited = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_PID, child.id(), &mut info, libc::WEXITED | libc::WNOWAIT)
        };
        assert_eq!(waited, 0);
        assert!(matches!(Process::read(&procfs, child.id()), Err(ProcessError::NoSuchProcess { .. })));
        child.wait().unwrap();
    }

    #[test]
    fn names_with_blanks_and_parentheses_do_not_shift_the_fields() {
        let line = b"42 (a) R 1 (b) S 7 1 1 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 314159 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat.name, "a) R 1 (b");
        assert_eq!((stat.parent, stat.start_ticks), (7, 314_159));
        assert_ne!(stat.flags & KERNEL_THREAD_FLAG, 0);
    }

    #[test]
    fn status_gives_the_owner_and_the_inner_id() {
        let text = "Name:\tx\nTgid:\t900\nPid:\t901\nUid:\t0\t65534\t0\t0\nNStgid:\t900\t17\t3\n";
        let status = Status::parse(text, 901);
        assert_eq!((status.pid, status.user_id, status.namespace_pid), (900, 65534, 3));
    }

    #[test]
    fn a_kernel_thread_is_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let kthreadd = directory.path().join("2");
        std::fs::create_dir(&kthreadd).unwrap();
        std::fs::write(kthreadd.join("status"), "Tgid:\t2\nUid:\t0\t0\t0\t0\n").unwrap();
        std::fs::write(kthreadd.join("stat"), "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 3")
            .unwrap();
        let process = Process::read(&ProcFs::at(directory.path()), 2).unwrap();
        assert!(matches!(process.with_user_code(), Err(ProcessError::KernelThread { pid: 2 })));
    }

    proptest! {
        #[test]
        fn hostile_files_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Stat::parse(&bytes);
            let _ = Status::parse(&String::from_utf8_lossy(&bytes), 1);
            let _ = split_arguments(&bytes);
            let _ = cgroup::container_id(&String::from_utf8_lossy(&bytes));
        }
    }
}
