//! Bounded reading of `/proc`, with errors that say which process and what was refused.
//!
//! The directory is a value, not a constant, so that tests (and a sidecar that sees the host's processes
//! under another path) can point somewhere else.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::process::ProcessError;
use super::{Pid, ThreadId};

/// More processes than `pid_max` allows on any kernel cannot be real.
const MAX_PROCESSES: usize = 1 << 22;
/// Threads listed of one process; the kernel's own default limit for a whole machine is below this.
const MAX_THREADS: usize = 1 << 18;

/// A mounted proc file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcFs {
    root: PathBuf,
}

impl Default for ProcFs {
    fn default() -> Self {
        ProcFs::host()
    }
}

impl ProcFs {
    /// The one at `/proc`.
    pub fn host() -> ProcFs {
        ProcFs { root: PathBuf::from("/proc") }
    }

    /// One that is mounted, or imitated, elsewhere.
    pub fn at(root: impl Into<PathBuf>) -> ProcFs {
        ProcFs { root: root.into() }
    }

    /// The path of a file of a process.
    pub fn path(&self, pid: Pid, file: &str) -> PathBuf {
        self.root.join(pid.to_string()).join(file)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The first `limit` bytes of a file of a process.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn read(&self, pid: Pid, file: &'static str, limit: usize) -> Result<Vec<u8>, ProcessError> {
        let open = File::open(self.path(pid, file));
        let mut bytes = Vec::new();
        open.and_then(|opened| opened.take(limit as u64).read_to_end(&mut bytes))
            .map_err(|error| ProcessError::from_io(pid, file, error))?;
        Ok(bytes)
    }

    /// Where a link of a process points to.
    ///
    /// # Errors
    /// When the process is gone or its links may not be read.
    pub fn link(&self, pid: Pid, file: &'static str) -> Result<PathBuf, ProcessError> {
        fs::read_link(self.path(pid, file)).map_err(|error| ProcessError::from_io(pid, file, error))
    }

    /// All processes, ascending. Empty where the directory cannot be read.
    pub fn processes(&self) -> Vec<Pid> {
        numeric_entries(&self.root, MAX_PROCESSES).unwrap_or_default()
    }

    /// The threads of a process, ascending.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn thread_ids(&self, pid: Pid) -> Result<Vec<ThreadId>, ProcessError> {
        numeric_entries(&self.path(pid, "task"), MAX_THREADS)
            .map_err(|error| ProcessError::from_io(pid, "task", error))
    }
}

fn numeric_entries(directory: &Path, limit: usize) -> io::Result<Vec<u32>> {
    let mut numbers: Vec<u32> = fs::read_dir(directory)?
        .flatten()
        .filter_map(|entry| number(&entry.file_name()))
        .take(limit)
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn number(name: &OsString) -> Option<u32> {
    name.to_str()?.parse().ok()
}
