//! From the embedded half to the agent beside it, over a unix socket: so that one place ships.
//!
//! A service that profiles itself hands each window to `spanprof attach --receive PATH`, which owns the credentials,
//! the retries and the connection to the server; and one that is profiled from outside tells its finished spans there,
//! so that the agent knows how long each took. A message is a header of 16 bytes, and behind it either the resource's
//! attributes and a pprof file as it lies on disks, or spans as OTLP has them; the answer is one byte. A protocol of
//! its own rather than HTTP, because both ends are ours, on one machine, and neither should need a parser for more than
//! a kind and two lengths. The answer makes the sender's count true: what was not answered is not called delivered.
//!
//! Both ends check who the other is (`SO_PEERCRED`): the same user or root. A receiver bounds what it reads, how long
//! it waits for the rest of a message and how many connections it holds; what a sender breaks is its own connection.

mod frame;
mod receiver;
mod sink;
mod socket;

use std::path::PathBuf;

pub use receiver::{LocalReceiver, Received, ReceiverCounts, TakeSpans, Wanted};
pub use sink::LocalSink;
pub use socket::Peer;

/// The largest profile that is sent or taken, compressed, in bytes.
pub const LARGEST_PROFILE: usize = 16 << 20;

/// The most finished spans that are sent or taken at once, in bytes.
pub const LARGEST_SPANS: usize = 1 << 20;

/// Why a profile did not get to the other side, or none can come.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Nobody listens there.
    #[error("no agent listens on {}: start `spanprof attach --receive {}`", path.display(), path.display())]
    NobodyListens {
        /// The socket.
        path: PathBuf,
    },
    /// Somebody else listens there.
    #[error("{} is in use: another agent listens there; stop it or choose another path", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket lies there.
    #[error("{} is no socket: choose another path", path.display())]
    NoSocket {
        /// What was found.
        path: PathBuf,
    },
    /// The path can't name a socket.
    #[error("{} can't name a socket: {reason}", path.display())]
    BadPath {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Neither the same user nor root.
    #[error("the process at the other end of {} belongs to user {uid}, neither this one nor root", path.display())]
    Stranger {
        /// The socket.
        path: PathBuf,
        /// The other's user.
        uid: u32,
    },
    /// A profile or spans are larger than can be sent.
    #[error(
        "{bytes} bytes are more than is sent at once ({LARGEST_PROFILE} of a profile, {LARGEST_SPANS} of spans)"
    )]
    TooLarge {
        /// Their size, a profile's compressed.
        bytes: usize,
    },
    /// The agent could not read it.
    #[error(
        "the agent refused it: it is malformed, or newer than the agent is; use the same version of both"
    )]
    Refused,
    /// The agent has as much as it can hold.
    #[error("the agent has no room for more now")]
    Busy,
    /// The agent has no use for it: for finished spans where it captures nothing itself, for profiles where it ships
    /// none.
    #[error(
        "the agent there has no use for it: it takes spans of services that it captures, and profiles if it ships"
    )]
    Unwanted,
    /// The agent did not answer in time; it may have taken it.
    #[error("the agent did not answer in time")]
    TimedOut,
    /// What is spoken there is not this protocol, or another version of it.
    #[error("what listens on {} is no agent of this version", path.display())]
    NotOurs {
        /// The socket.
        path: PathBuf,
    },
    /// Anything else that the system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl LocalError {
    fn io(path: &std::path::Path, source: std::io::Error) -> LocalError {
        LocalError::Io { path: path.to_owned(), source }
    }
}
