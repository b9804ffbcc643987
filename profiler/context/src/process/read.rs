//! The reader: another process's context, from outside.

use std::io;
use std::sync::atomic::{Ordering, fence};

use super::{HEADER_SIZE, MAXIMUM_PAYLOAD_SIZE, ProcessContext, SIGNATURE, VERSION, wire};
use crate::maps::{self, Mapping};
use crate::memory::{Memory, ProcessMemory};

/// How often a context that changes while it is read is tried again.
const ATTEMPTS: usize = 16;

/// A context that was found.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// What it says.
    pub context: ProcessContext,
    /// When it was published, ns of the boot clock. Changes with every update: equal means the same context.
    pub published_at: u64,
}

/// Why a process's context could not be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The process is gone.
    NoSuchProcess,
    /// We have no right to inspect the process.
    NotAllowed,
    /// There is a context, but it is malformed or of another version.
    Malformed(&'static str),
    /// There is a context, but it changed each time it was read.
    Busy,
    /// Something else failed.
    Io(io::Error),
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoSuchProcess => formatter.write_str("there is no such process"),
            Self::NotAllowed => formatter.write_str(
                "not allowed to inspect the process: run as its user (and kernel.yama.ptrace_scope=0) or with CAP_SYS_PTRACE",
            ),
            Self::Malformed(what) => write!(formatter, "the process context is malformed: {what}"),
            Self::Busy => formatter.write_str("the process context changed each time it was read"),
            Self::Io(error) => write!(formatter, "the process cannot be read: {error}"),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ESRCH | libc::ENOENT) => Self::NoSuchProcess,
            Some(libc::EPERM | libc::EACCES) => Self::NotAllowed,
            _ => Self::Io(error),
        }
    }
}

/// Reads the context that a process publishes; `None` if it publishes none.
///
/// The process goes on meanwhile; a context that changes while it is read is read again.
pub fn read(process: u32) -> Result<Option<Found>, ReadError> {
    read_from(&ProcessMemory::new(process), &maps::read(process)?)
}

/// Reads the context of a process whose mappings are known.
pub(crate) fn read_from(memory: &impl Memory, mappings: &[Mapping]) -> Result<Option<Found>, ReadError> {
    let mut outcome = Ok(None);
    for mapping in mappings.iter().filter(|mapping| is_context(mapping)) {
        match read_at(memory, mapping) {
            Ok(found) => return Ok(Some(found)),
            // A mapping may bear the name by chance, or be left over: another may be the right one.
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

fn is_context(mapping: &Mapping) -> bool {
    let named = ["[anon_shmem:OTEL_CTX]", "[anon:OTEL_CTX]", "/memfd:OTEL_CTX"];
    !mapping.executable && named.iter().any(|name| mapping.name.starts_with(name))
}

fn read_at(memory: &impl Memory, mapping: &Mapping) -> Result<Found, ReadError> {
    if mapping.end.saturating_sub(mapping.start) < HEADER_SIZE as u64 {
        return Err(ReadError::Malformed("the mapping is too small"));
    }
    let mut last = ReadError::Busy;
    for _ in 0..ATTEMPTS {
        match attempt(memory, mapping.start) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => last = ReadError::Busy,
            // Perhaps the payload was replaced between the two reads: the next attempt sees the new one.
            Err(error @ (ReadError::Malformed(_) | ReadError::Io(_))) => last = error,
            Err(error) => return Err(error),
        }
        // Let the publisher finish, should it share our CPU.
        std::thread::yield_now();
    }
    Err(last)
}

/// One attempt; `None` if the context changed meanwhile.
fn attempt(memory: &impl Memory, address: u64) -> Result<Option<Found>, ReadError> {
    let mut header = [0; HEADER_SIZE];
    memory.read(address, &mut header)?;
    let u32_at =
        |offset: usize| u32::from_ne_bytes(*header[offset..].first_chunk().expect("within the header"));
    let u64_at =
        |offset: usize| u64::from_ne_bytes(*header[offset..].first_chunk().expect("within the header"));
    let published_at = u64_at(16);
    if published_at == 0 {
        return Ok(None);
    }
    if header[..8] != SIGNATURE {
        return Err(ReadError::Malformed("no signature"));
    }
    if u32_at(8) != VERSION {
        return Err(ReadError::Malformed("a version other than 2"));
    }
    let size = u32_at(12) as usize;
    if size == 0 || size > MAXIMUM_PAYLOAD_SIZE {
        return Err(ReadError::Malformed("a payload that is empty or larger than 65,536 bytes"));
    }
    fence(Ordering::SeqCst);
    let mut payload = vec![0; size];
    let payload_read = memory.read(u64_at(24), &mut payload);
    fence(Ordering::SeqCst);
    if memory.read_u64(address + 16)? != published_at {
        return Ok(None);
    }
    payload_read?;
    let context = wire::decode(&payload).ok_or(ReadError::Malformed("not a ProcessContext message"))?;
    Ok(Some(Found { context, published_at }))
}
