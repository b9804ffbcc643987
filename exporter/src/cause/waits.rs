//! What a blocked thread waited for, as far as the names in its stack tell.
//!
//! The kernel's frames say which object it was (a socket, a file, a timer), and are believed first. A futex
//! says nothing: locks, channels, conditions and joins all end there, so the functions above it decide. The
//! same holds for `poll` below a socket's method.

use spanprof_symbolizer::{Frame, FrameKind};

/// What a blocked thread waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Channel,
    Condition,
    Join,
    Lock,
    Sleep,
    Pipe,
    Socket,
    File,
    Memory,
    PageFault,
    Events,
    Park,
    ReadOrWrite,
    Futex,
}

/// One row: names that are told by a part, and names that must match whole.
struct WaitRow(Wait, &'static [&'static str], &'static [&'static str]);

/// Functions in user space, from the most telling to the least: the first row that any of them matches wins.
const CALLS: &[WaitRow] = &[
    WaitRow(
        Wait::Channel,
        &["mpsc::", "mpmc::", "oneshot::", "crossbeam_channel::", "flume::", "async_channel::"],
        &[],
    ),
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
            "sem_wait",
            "sem_timedwait",
            "ObjectMonitor",
            "AbstractQueuedSynchronizer",
        ],
        &["lock"],
    ),
    WaitRow(
        Wait::Sleep,
        &["nanosleep", "thread::sleep", "time::sleep", "Thread.sleep"],
        &["sleep", "usleep", "JVM_Sleep"],
    ),
    WaitRow(Wait::Pipe, &["PipeReader", "PipeWriter"], &["pipe"]),
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
            "SocketInputStream",
        ],
        &["recv", "send", "accept", "accept4", "connect", "__recv", "__send", "socket"],
    ),
    WaitRow(
        Wait::File,
        &["std::fs::", "tokio::fs::", "fsync", "fdatasync"],
        &["pread64", "pwrite64", "openat", "open64", "sync_file_range", "file"],
    ),
    WaitRow(Wait::Memory, &[], &["mmap", "munmap", "madvise"]),
    WaitRow(
        Wait::Events,
        &["epoll_wait", "epoll_pwait", "io_uring_enter"],
        &["poll", "ppoll", "__poll", "select", "pselect", "pselect6", "__select"],
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

/// Functions of the kernel, in the same order.
const KERNEL: &[WaitRow] = &[
    WaitRow(Wait::Sleep, &["nanosleep"], &[]),
    WaitRow(
        Wait::Events,
        &["ep_poll", "epoll_wait", "poll_schedule_timeout", "do_sys_poll", "io_cqring_wait"],
        &["do_select"],
    ),
    WaitRow(Wait::Futex, &["futex"], &[]),
    WaitRow(Wait::Join, &[], &["do_wait", "kernel_wait4", "kernel_waitid"]),
    WaitRow(Wait::Pipe, &["pipe_read", "pipe_write", "pipe_wait"], &[]),
    WaitRow(
        Wait::Socket,
        &[
            "sock_",
            "tcp_",
            "udp_",
            "udpv6_",
            "inet_",
            "inet6_",
            "unix_stream_",
            "unix_dgram_",
            "unix_wait",
            "sk_wait",
            "sk_stream_wait",
            "skb_wait",
            "skb_recv",
            "sys_recv",
            "sys_send",
            "sys_accept",
            "sys_connect",
        ],
        &[],
    ),
    WaitRow(
        Wait::File,
        &[
            "ext4_",
            "xfs_",
            "btrfs_",
            "f2fs_",
            "nfs_",
            "fuse_",
            "jbd2",
            "fsync",
            "fdatasync",
            "submit_bio",
            "folio_wait",
            "io_schedule",
            "filemap_",
            "blkdev_",
            "blk_mq_",
            "sync_file_range",
            "wait_on_buffer",
        ],
        &[],
    ),
    WaitRow(
        Wait::Memory,
        &["sys_mmap", "sys_munmap", "sys_madvise", "sys_mprotect", "sys_mremap", "sys_brk"],
        &[],
    ),
    WaitRow(Wait::Lock, &["mutex_lock", "rwsem_down"], &[]),
];

impl Wait {
    /// The wait in words, to be followed by "in" and a place.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Wait::Channel => "waiting for a channel",
            Wait::Condition => "waiting to be notified",
            Wait::Join => "waiting for another thread or process to end",
            // A futex that no function explains: whoever calls it directly builds a lock of their own.
            Wait::Lock | Wait::Futex => "waiting for a lock",
            Wait::Sleep => "sleeping",
            Wait::Pipe => "waiting for a pipe",
            Wait::Socket => "waiting for a socket",
            Wait::File => "file I/O",
            Wait::Memory => "waiting for memory",
            Wait::PageFault => "page fault",
            Wait::Events => "polling",
            Wait::Park => "parked",
            Wait::ReadOrWrite => "reading or writing",
        }
    }

    /// What the plumbing between the application and the scheduler waited for; `wait` is the label.
    pub(super) fn of(plumbing: &[&Frame], wait: Option<&str>) -> Option<Wait> {
        let (kernel, calls): (Vec<&Frame>, Vec<&Frame>) =
            plumbing.iter().partition(|frame| frame.kind == FrameKind::Kernel);
        if let Some(KernelEntry::PageFault) = KernelEntry::of(&kernel) {
            return Some(Wait::PageFault);
        }
        let calls = calls.into_iter().map(|frame| &*frame.function).chain(wait);
        let called = first_row(CALLS, &calls.collect::<Vec<_>>());
        let kernel: Vec<&str> = kernel.into_iter().map(|frame| &*frame.function).collect();
        match first_row(KERNEL, &kernel) {
            Some(Wait::Futex) => Some(called.unwrap_or(Wait::Futex)),
            Some(Wait::Events) if called == Some(Wait::Socket) => called,
            Some(known) => Some(known),
            None => called,
        }
    }
}

fn first_row(rows: &[WaitRow], names: &[&str]) -> Option<Wait> {
    rows.iter()
        .find(|WaitRow(_, parts, whole)| {
            names.iter().any(|name| whole.contains(name) || parts.iter().any(|part| name.contains(part)))
        })
        .map(|WaitRow(wait, ..)| *wait)
}

/// How a thread came into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KernelEntry<'a> {
    /// By a system call of this name.
    SystemCall(&'a str),
    /// By touching memory that was not there.
    PageFault,
    /// It was interrupted.
    Interrupt,
}

impl<'a> KernelEntry<'a> {
    /// The entry that the kernel's frames (leaf first) tell; the outermost one, because an interrupt or a
    /// fault may come in the middle of a system call.
    pub(super) fn of(kernel: &[&'a Frame]) -> Option<KernelEntry<'a>> {
        kernel.iter().rev().find_map(|frame| KernelEntry::named(&frame.function))
    }

    fn named(function: &'a str) -> Option<KernelEntry<'a>> {
        const CALLS: [&str; 6] =
            ["__x64_sys_", "__arm64_sys_", "__ia32_sys_", "__se_sys_", "__do_sys_", "__sys_"];
        if let Some(name) = CALLS.iter().find_map(|prefix| function.strip_prefix(prefix)) {
            return Some(KernelEntry::SystemCall(name));
        }
        const FAULTS: [&str; 3] = ["page_fault", "user_addr_fault", "mem_abort"];
        if FAULTS.iter().any(|part| function.contains(part)) {
            return Some(KernelEntry::PageFault);
        }
        const INTERRUPTS: [&str; 4] = ["asm_sysvec_", "asm_common_interrupt", "el0_interrupt", "irq_exit"];
        let interrupted = INTERRUPTS.iter().any(|part| function.contains(part));
        interrupted.then_some(KernelEntry::Interrupt)
    }

    /// The entry in a sentence.
    pub(super) const fn as_str(self) -> &'a str {
        match self {
            KernelEntry::SystemCall(name) => name,
            KernelEntry::PageFault => "page fault",
            KernelEntry::Interrupt => "interrupt",
        }
    }
}
