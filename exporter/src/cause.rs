//! Says in words what a stack was doing: "waiting for a lock in orders::reserve (futex)".
//!
//! The place is the first function of the application from the leaf; the verb comes from the plumbing above
//! it (and from the `wait` label), because a futex alone does not say whether a lock, a channel or a sleep
//! was meant. Where the plumbing says nothing, the sentence says no more than "blocked".

use spanprof_symbolizer::Frame;

use crate::profile::{Profile, SampleKind, StackId};
use crate::runtime::{is_library, is_runtime};

/// What a blocked thread waited for, as far as names tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Wait {
    Channel,
    Condition,
    Join,
    Lock,
    Sleep,
    Pipe,
    Socket,
    File,
    Memory,
    Events,
    Park,
    ReadOrWrite,
    Futex,
}

/// One row: names that are told by a part, and names that must match whole.
struct WaitRow(Wait, &'static [&'static str], &'static [&'static str]);

/// From the most telling to the least: the first row that any frame of the plumbing matches wins.
const WAITS: &[WaitRow] = &[
    WaitRow(Wait::Channel, &["mpsc::", "mpmc::", "crossbeam_channel::", "flume::", "async_channel::"], &[]),
    WaitRow(
        Wait::Condition,
        &["Condvar", "condvar::", "pthread_cond_", "cond_wait", "Barrier", "std::condition_variable"],
        &["condition"],
    ),
    WaitRow(
        Wait::Join,
        &["JoinHandle", "JoinInner", "pthread_join", "clockjoin"],
        &["wait4", "waitid", "do_wait"],
    ),
    WaitRow(
        Wait::Lock,
        &[
            "Mutex",
            "mutex",
            "RwLock",
            "rwlock",
            "lock_contended",
            "lll_lock_wait",
            "lock_slow",
            "rwsem_down",
            "sem_wait",
            "sem_timedwait",
            "ObjectMonitor",
            "AbstractQueuedSynchronizer",
        ],
        &["lock"],
    ),
    WaitRow(Wait::Sleep, &["nanosleep", "thread::sleep", "Thread.sleep"], &["sleep", "usleep", "JVM_Sleep"]),
    WaitRow(Wait::Pipe, &["pipe_read", "pipe_write", "pipe_wait"], &["pipe"]),
    WaitRow(
        Wait::Socket,
        &[
            "recvfrom",
            "recvmsg",
            "recvmmsg",
            "sendto",
            "sendmsg",
            "sendmmsg",
            "TcpStream",
            "UdpSocket",
            "UnixStream",
            "TcpListener",
            "tcp_",
            "udp_",
            "inet_",
            "unix_stream_",
            "sk_wait",
            "sock_",
            "skb_wait",
            "SocketInputStream",
        ],
        &["recv", "send", "accept", "accept4", "connect", "__recv", "__send", "socket"],
    ),
    WaitRow(
        Wait::File,
        &[
            "std::fs::",
            "fsync",
            "fdatasync",
            "io_schedule",
            "ext4_",
            "xfs_",
            "btrfs_",
            "filemap_",
            "vfs_fsync",
        ],
        &["pread64", "pwrite64", "openat", "open64", "sync_file_range", "file"],
    ),
    WaitRow(Wait::Memory, &["page_fault", "handle_mm_fault"], &["mmap", "munmap", "madvise"]),
    WaitRow(
        Wait::Events,
        &["epoll_wait", "epoll_pwait", "ep_poll", "io_uring_enter", "poll_schedule_timeout"],
        &["poll", "ppoll", "__poll", "select", "pselect", "pselect6", "__select", "do_sys_poll"],
    ),
    WaitRow(Wait::Park, &["thread::park", "Parker", "LockSupport.park", "parking::"], &[]),
    WaitRow(
        Wait::ReadOrWrite,
        &["io::Read>::read", "io::Write>::write"],
        &[
            "read",
            "write",
            "readv",
            "writev",
            "__read",
            "__write",
            "__libc_read",
            "__libc_write",
            "__GI___libc_read",
        ],
    ),
    WaitRow(Wait::Futex, &["futex"], &[]),
];

impl Wait {
    fn verb(self) -> &'static str {
        match self {
            Wait::Channel => "waiting for a channel",
            Wait::Condition => "waiting to be notified",
            Wait::Join => "waiting for another thread or process to end",
            Wait::Lock => "waiting for a lock",
            Wait::Sleep => "sleeping",
            Wait::Pipe => "waiting for a pipe",
            Wait::Socket => "waiting for a socket",
            Wait::File => "waiting for a file",
            Wait::Memory => "waiting for memory",
            Wait::Events => "waiting for events",
            Wait::Park => "parked",
            Wait::ReadOrWrite => "reading or writing",
            Wait::Futex => "waiting on a futex",
        }
    }

    fn of(names: &[&str]) -> Option<Wait> {
        WAITS
            .iter()
            .find(|WaitRow(_, parts, whole)| {
                names.iter().any(|name| whole.contains(name) || parts.iter().any(|part| name.contains(part)))
            })
            .map(|WaitRow(wait, ..)| *wait)
    }
}

/// What a stack was doing, in words.
pub(crate) fn cause(profile: &Profile, stack: StackId, kind: SampleKind, wait: Option<&str>) -> String {
    let frames: Vec<&Frame> =
        profile.stack(stack).iter().flat_map(|location| &profile.location(*location).frames).collect();
    let own = frames.iter().position(|frame| !is_library(frame));
    let own = own.or_else(|| frames.iter().position(|frame| !is_runtime(frame)));
    let (plumbing, place) = match own {
        Some(own) => (&frames[..own], Some(frames[own])),
        None => (&frames[..], None),
    };
    let mut names: Vec<&str> = wait.into_iter().collect();
    names.extend(plumbing.iter().map(|frame| &*frame.function));
    let verb = match kind {
        SampleKind::Cpu => "running",
        SampleKind::RunQueue => "ready to run but not running",
        SampleKind::OffCpu => Wait::of(&names).map_or("blocked", Wait::verb),
    };
    if frames.is_empty() {
        return format!("{verb}, stack unknown");
    }
    let called = match (kind, place) {
        // The call that the application made, on CPU; what the kernel was asked for, off it.
        (SampleKind::Cpu | SampleKind::RunQueue, Some(_)) => plumbing.last(),
        _ => plumbing.first(),
    };
    let called = match (kind, wait) {
        (SampleKind::OffCpu, Some(wait)) => Some(wait.to_owned()),
        _ => called.map(|frame| short_name(&frame.function)),
    };
    let place = place.map_or_else(|| NO_PLACE.to_owned(), |frame| short_name(&frame.function));
    let preposition = if verb == "running" { "" } else { "in " };
    match called.filter(|called| !called.is_empty() && *called != place) {
        Some(called) => format!("{verb} {preposition}{place} ({called})"),
        None => format!("{verb} {preposition}{place}"),
    }
}

/// The place where a stack has no function of the application: an idle worker, mostly.
const NO_PLACE: &str = "runtime code";

/// The longest short name, in characters: what fits a terminal's line beside the times.
const SHORT_NAME_LENGTH: usize = 80;

/// A function's name for a narrow column: no type parameters, no closure marks, no trait.
///
/// `<orders::Handler as tower::Service<Request>>::call::{closure#0}` becomes `orders::Handler::call`.
pub fn short_name(function: &str) -> String {
    let subject = match function.strip_prefix('<').and_then(crate::runtime::split_qualified) {
        Some((subject, rest)) => format!("{subject}{rest}"),
        None => function.to_owned(),
    };
    let mut short = String::with_capacity(subject.len());
    let mut depth = 0_u32;
    let mut previous = ' ';
    for character in subject.chars() {
        match character {
            '<' => depth += 1,
            '>' if depth > 0 && previous != '-' => depth -= 1,
            _ if depth == 0 => short.push(character),
            _ => {}
        }
        previous = character;
    }
    let mut short = short.replace("::::", "::");
    loop {
        let trimmed = short.trim_end_matches("::").trim_end_matches("{{closure}}");
        let trimmed = match trimmed.rfind("::{closure#").filter(|_| trimmed.ends_with('}')) {
            Some(start) => &trimmed[..start],
            None => trimmed,
        };
        if trimmed.len() == short.len() {
            break;
        }
        short.truncate(trimmed.len());
    }
    if short.is_empty() {
        short = function.to_owned();
    }
    if short.chars().count() > SHORT_NAME_LENGTH {
        short = short.chars().take(SHORT_NAME_LENGTH - 1).chain(['…']).collect();
    }
    short
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use spanprof_symbolizer::FrameKind;

    use super::*;
    use crate::profile::Location;

    fn said(names: &[&str], kind: SampleKind, wait: Option<&str>) -> String {
        let mut profile = Profile::default();
        let locations = names
            .iter()
            .map(|name| {
                let function: Arc<str> = Arc::from(*name);
                let kind = FrameKind::Rust;
                let frame = Frame { system_name: function.clone(), function, file: None, line: 0, kind };
                profile.intern_location(Location { module: None, address: 0, frames: vec![frame] })
            })
            .collect();
        let stack = profile.intern_stack(locations);
        cause(&profile, stack, kind, wait)
    }

    #[test]
    fn waits_are_named_by_the_plumbing_above_the_application() {
        for (names, wait, expected) in [
            (
                &[
                    "syscall",
                    "std::sys::sync::mutex::futex::Mutex::lock_contended",
                    "orders::reserve",
                    "main",
                ][..],
                Some("futex"),
                "waiting for a lock in orders::reserve (futex)",
            ),
            (
                &["__GI___clock_nanosleep", "std::thread::sleep", "orders::settle::{closure#0}"],
                None,
                "sleeping in orders::settle (__GI___clock_nanosleep)",
            ),
            (
                &["syscall", "std::sync::mpmc::list::Channel<T>::recv", "<orders::Inbox as Iterator>::next"],
                Some("futex"),
                "waiting for a channel in orders::Inbox::next (futex)",
            ),
            (
                &["recv", "<std::net::tcp::TcpStream as std::io::Read>::read", "orders::charge"],
                Some("recvfrom"),
                "waiting for a socket in orders::charge (recvfrom)",
            ),
            (
                &["fsync", "std::fs::File::sync_all", "orders::log"],
                None,
                "waiting for a file in orders::log (fsync)",
            ),
            (&["syscall", "orders::spin"], Some("futex"), "waiting on a futex in orders::spin (futex)"),
            (&["orders::spin"], None, "blocked in orders::spin"),
            (
                &["epoll_wait", "mio::poll::Poll::poll"],
                None,
                "waiting for events in runtime code (epoll_wait)",
            ),
            (&[], None, "blocked, stack unknown"),
        ] {
            assert_eq!(said(names, SampleKind::OffCpu, wait), expected);
        }
    }

    #[test]
    fn cpu_names_the_call_that_the_application_made() {
        let names = ["memcpy", "alloc::vec::Vec<T>::push", "orders::parse", "main"];
        assert_eq!(said(&names, SampleKind::Cpu, None), "running orders::parse (alloc::vec::Vec::push)");
        assert_eq!(said(&["orders::parse"], SampleKind::Cpu, None), "running orders::parse");
        let idle = said(&["memcpy", "std::thread::park"], SampleKind::Cpu, None);
        assert_eq!(idle, "running runtime code (memcpy)");
        let waiting = said(&["orders::parse"], SampleKind::RunQueue, None);
        assert_eq!(waiting, "ready to run but not running in orders::parse");
    }

    #[test]
    fn names_are_shortened() {
        for (function, expected) in [
            (
                "<orders::Handler as tower::Service<http::Request<B>>>::call::{closure#0}",
                "orders::Handler::call",
            ),
            ("orders::parse::<alloc::vec::Vec<u8>>", "orders::parse"),
            ("orders::main::{{closure}}::{{closure}}", "orders::main"),
            ("<orders::Store>::get::{closure#1}::{closure#0}", "orders::Store::get"),
            ("orders::map::<fn(u8) -> u8>::go", "orders::map::go"),
            ("<", "<"),
            ("", ""),
        ] {
            assert_eq!(short_name(function), expected, "{function}");
        }
        assert_eq!(short_name(&"é".repeat(500)).chars().count(), SHORT_NAME_LENGTH);
    }
}
