//! Which processes are profiled: selection, life and death, code mappings and names.
//!
//! Use this room to get from what a person asked for (`--name orders`) to processes, and from a process
//! to the files that its code was mapped from. It knows nothing of samples or spans. Everything is read
//! from `/proc`, bounded, and never cached longer than a call: a process may exec, fork or die between
//! any two reads, so an identity is a process id *and* a start time.

mod cgroup;
mod launch;
mod mapped_file;
mod maps;
mod names;
mod process;
mod procfs;
mod selector;
mod watch;

pub use cgroup::{CgroupPath, container_id};
pub use launch::{ExitReason, LaunchError, Launched};
pub use mapped_file::{MappedFileError, open_mapped_file, read_vdso};
pub use maps::{CodeMappings, DeviceNumber, Mapping, MappingPath, parse_line};
pub use names::service_name;
pub use process::{Process, ProcessError, ProcessKey, Thread, ThreadState};
pub use procfs::ProcFs;
pub use selector::{Found, NamePattern, Selector, SelectorError};
pub use watch::{Changes, Watch};

/// A process id as this process sees it: the id of the thread group.
pub type Pid = u32;

/// A thread id as this process sees it.
pub type ThreadId = u32;
