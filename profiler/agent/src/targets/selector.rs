//! What a person asked for: `--pid`, `--name`, `--cgroup`.
//!
//! Selectors add up: a process that any of them names is selected. We never select ourselves, and never
//! a thread of the kernel by name or group.

use std::path::{Path, PathBuf};

use regex_lite::Regex;

use super::Pid;
use super::cgroup::CgroupPath;
use super::process::{Process, ProcessError};
use super::procfs::ProcFs;

/// Why a selector is no selector.
#[derive(Debug, thiserror::Error)]
pub enum SelectorError {
    /// The pattern does not parse.
    #[error("the pattern {pattern:?} is not a regular expression: {reason}")]
    Pattern {
        /// As written.
        pattern: String,
        /// What is wrong with it.
        reason: regex_lite::Error,
    },
    /// The path names no group below the root.
    #[error(
        "{path:?} is not a control group: write its directory under /sys/fs/cgroup, or the path that \
         /proc/PID/cgroup shows"
    )]
    Cgroup {
        /// As written.
        path: PathBuf,
    },
}

/// A regular expression over the names of a process.
///
/// It matches anywhere in a name; `^` and `$` pin it. The names are `comm`, the file name of the first
/// argument and that of the executable.
#[derive(Debug, Clone)]
pub struct NamePattern(Regex);

impl NamePattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// When it is not a regular expression.
    pub fn new(pattern: &str) -> Result<NamePattern, SelectorError> {
        Regex::new(pattern)
            .map(NamePattern)
            .map_err(|reason| SelectorError::Pattern { pattern: pattern.to_owned(), reason })
    }

    fn matches(&self, process: &Process) -> bool {
        self.0.is_match(&process.comm)
            || process.first_argument_name().is_some_and(|name| self.0.is_match(&name))
            || self.0.is_match(&process.executable_name())
    }
}

/// Which processes to profile.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    pids: Vec<Pid>,
    names: Vec<NamePattern>,
    cgroups: Vec<CgroupPath>,
}

/// What a selector found at one moment.
#[derive(Debug, Default)]
pub struct Found {
    /// The processes, ascending by id, each once.
    pub processes: Vec<Process>,
    /// What was asked for by id and cannot be profiled, with the reason.
    pub refused: Vec<ProcessError>,
}

impl Selector {
    /// A selector that selects nothing yet.
    pub fn new() -> Selector {
        Selector::default()
    }

    /// Also selects the process with this id, or the one that the thread with this id belongs to.
    pub fn pid(mut self, pid: Pid) -> Selector {
        self.pids.push(pid);
        self
    }

    /// Also selects every process with such a name.
    ///
    /// # Errors
    /// When the pattern is not a regular expression.
    pub fn name(mut self, pattern: &str) -> Result<Selector, SelectorError> {
        self.names.push(NamePattern::new(pattern)?);
        Ok(self)
    }

    /// Also selects every process in a control group or below it.
    ///
    /// # Errors
    /// When the path names no group below the root.
    pub fn cgroup(mut self, path: &Path) -> Result<Selector, SelectorError> {
        let group = CgroupPath::new(path).ok_or_else(|| SelectorError::Cgroup { path: path.to_owned() })?;
        self.cgroups.push(group);
        Ok(self)
    }

    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.pids.is_empty() && self.names.is_empty() && self.cgroups.is_empty()
    }

    /// Whether processes that start later can match: true with a name or a group.
    pub fn can_match_later(&self) -> bool {
        !self.names.is_empty() || !self.cgroups.is_empty()
    }

    /// Whether the process is selected.
    pub fn matches(&self, process: &Process) -> bool {
        if process.pid() == std::process::id() || process.is_kernel_thread {
            return false;
        }
        self.pids.contains(&process.pid())
            || self.names.iter().any(|name| name.matches(process))
            || self.cgroups.iter().any(|group| group.holds(&process.cgroup_file))
    }

    /// All processes that are selected now.
    pub fn find(&self, procfs: &ProcFs) -> Found {
        let mut found = Found::default();
        for pid in &self.pids {
            match Process::read(procfs, *pid).and_then(Process::with_user_code) {
                Ok(process) if process.pid() == std::process::id() => {}
                Ok(process) => found.processes.push(process),
                Err(error) => found.refused.push(error),
            }
        }
        if self.can_match_later() {
            let all = procfs.processes().into_iter().filter_map(|pid| Process::read(procfs, pid).ok());
            found.processes.extend(all.filter(|process| self.matches(process)));
        }
        found.processes.sort_by_key(|process| process.key);
        found.processes.dedup_by_key(|process| process.key);
        found
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::targets::process::ProcessKey;

    /// A child that waits for its standard input to close, with a name of its own.
    struct Waiting(Child);

    impl Waiting {
        fn start() -> Waiting {
            Waiting(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
        }
    }

    impl Drop for Waiting {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn process(comm: &str, arguments: &[&str], executable: Option<&str>, cgroup_file: &str) -> Process {
        Process {
            key: ProcessKey { pid: 4_000_000, start_ticks: 1 },
            parent: 1,
            user_id: 0,
            comm: comm.into(),
            command_line: arguments.iter().map(Into::into).collect(),
            executable: executable.map(Into::into),
            executable_deleted: false,
            cgroup_file: cgroup_file.into(),
            namespace_pid: 4_000_000,
            same_mount_namespace: None,
            is_kernel_thread: false,
        }
    }

    #[test]
    fn a_name_is_sought_in_comm_first_argument_and_executable() {
        let selector = Selector::new().name("^orders").unwrap();
        assert!(selector.matches(&process("orders-consumer", &[], None, "")));
        assert!(selector.matches(&process("tokio", &["/opt/bin/orders"], None, "")));
        assert!(selector.matches(&process("main", &["run"], Some("/srv/orders-v2"), "")));
        assert!(!selector.matches(&process("bash", &["bash", "orders"], Some("/bin/bash"), "")));
        assert!(!selector.matches(&process("my-orders", &[], Some("/orders/bin"), "")));
    }

    #[test]
    fn selectors_add_up() {
        let selector =
            Selector::new().pid(7).name("producer").unwrap().cgroup(Path::new("shop.slice")).unwrap();
        assert!(selector.matches(&process("producer", &[], None, "0::/\n")));
        assert!(selector.matches(&process("x", &[], None, "0::/shop.slice/orders\n")));
        assert!(!selector.matches(&process("x", &[], None, "0::/\n")));
        assert!(!Selector::new().matches(&process("x", &[], None, "0::/\n")));
    }

    #[test]
    fn never_ourselves_and_never_the_kernel() {
        let own = std::process::id();
        let found = Selector::new().pid(own).name(".").unwrap().find(&ProcFs::host());
        assert!(!found.processes.is_empty(), "at least the shell or the test runner is there");
        assert!(found.processes.iter().all(|process| process.pid() != own && !process.is_kernel_thread));
        let kernel = Process { is_kernel_thread: true, ..process("kthreadd", &[], None, "0::/\n") };
        assert!(!Selector::new().name("kthreadd").unwrap().matches(&kernel));
    }

    #[test]
    fn finds_a_process_by_id_and_by_name_once() {
        let child = Waiting::start();
        let selector = Selector::new().pid(child.0.id()).pid(child.0.id()).name("^cat$").unwrap();
        let found = selector.find(&ProcFs::host());
        let hits = found.processes.iter().filter(|process| process.pid() == child.0.id()).count();
        assert_eq!(hits, 1);
        assert!(found.refused.is_empty());
    }

    #[test]
    fn an_id_that_nobody_has_is_refused_with_the_reason() {
        let found = Selector::new().pid(u32::MAX).find(&ProcFs::host());
        assert!(found.processes.is_empty());
        assert!(matches!(found.refused[..], [ProcessError::NoSuchProcess { pid: u32::MAX }]));
    }

    #[test]
    fn bad_patterns_and_groups_say_what_is_wrong() {
        let error = Selector::new().name("orders(").unwrap_err().to_string();
        assert!(error.contains("orders(") && error.contains("regular expression"), "{error}");
        let error = Selector::new().cgroup(Path::new("/sys/fs/cgroup")).unwrap_err().to_string();
        assert!(error.contains("/proc/PID/cgroup"), "{error}");
    }
}
