//! Rules: what a stack is blocked on.
//!
//! The kernel's functions say which object it was (a socket, a file, a timer), and are believed first. A futex says
//! nothing: locks, channels, conditions and joins all end there, so the functions above it decide; where none does, it
//! is unknown. The same holds for `poll` below a socket's method. From inside a process there are no kernel frames, so
//! that the functions of the C library stand for them.

use super::Wait;
use super::stack::{KernelEntry, Plumbing};

/// One row: names that are told by a part, and names that must match whole.
struct Row(Wait, &'static [&'static str], &'static [&'static str]);

/// Functions in user space, from the most telling to the least: the first row that any of them matches wins.
const CALLS: &[Row] = &[
    // Tokio's locks stand on the semaphores that follow, and all of Java's waits on a condition of the C library.
    Row(
        Wait::Lock,
        &[
            "tokio::sync::mutex::",
            "tokio::sync::rwlock::",
            "tokio::sync::once_cell::",
            "java.util.concurrent.locks.Reentrant",
            "java.util.concurrent.locks.StampedLock",
            "ObjectMonitor::enter",
            "ObjectSynchronizer::enter",
        ],
        &[],
    ),
    Row(Wait::Sleep, &["java.lang.Thread.sleep"], &["JVM_Sleep"]),
    Row(
        Wait::FlowControl,
        &[
            "SyncSender::send",
            "mpmc::Sender::send",
            "array::Channel::send",
            "zero::Channel::send",
            "crossbeam_channel::channel::Sender::send",
            "flume::Sender::send",
            "flume::Shared::send",
            "flume::async::SendFut",
            "async_channel::Send::",
            "mpsc::bounded::Sender::",
            "futures_channel::mpsc::Sender::",
            "batch_semaphore::",
            "tokio::sync::semaphore::Semaphore::acquire",
            "PollSemaphore",
            "async_lock::semaphore::",
            "java.util.concurrent.Semaphore.",
            "BlockingQueue.put",
        ],
        &[],
    ),
    Row(
        Wait::Channel,
        &[
            "mpsc::",
            "mpmc::",
            "oneshot::",
            "tokio::sync::broadcast::",
            "tokio::sync::watch::",
            "crossbeam_channel::",
            "flume::",
            "async_channel::",
            "BlockingQueue.take",
            "BlockingQueue.poll",
            "BlockingDeque.take",
            "SynchronousQueue.",
            "java.util.concurrent.Exchanger.",
        ],
        &[],
    ),
    Row(
        Wait::Join,
        &[
            "JoinHandle",
            "JoinInner",
            "join_set::",
            "pthread_join",
            "clockjoin",
            "java.lang.Thread.join",
            "java.lang.Process.waitFor",
        ],
        &["wait4", "waitid", "do_wait"],
    ),
    Row(
        Wait::Condition,
        &[
            "Condvar",
            "condvar::",
            "pthread_cond_",
            "cond_wait",
            "cnd_wait",
            "cnd_timedwait",
            "sem_wait",
            "sem_timedwait",
            "Barrier",
            "std::condition_variable",
            "tokio::sync::notify::",
            "event_listener::",
            "AbstractQueuedSynchronizer$ConditionObject.await",
            "ObjectMonitor::wait",
            "java.lang.Object.wait",
            "CountDownLatch.await",
            "CompletableFuture.get",
            "CompletableFuture.join",
            "FutureTask.get",
        ],
        &["condition"],
    ),
    Row(
        Wait::Lock,
        &[
            "Mutex",
            "mutex",
            "RwLock",
            "rwlock",
            "lock_contended",
            "lll_lock_wait",
            "lock_slow",
            "mtx_lock",
            "ObjectMonitor",
            "AbstractQueuedSynchronizer",
        ],
        &["lock"],
    ),
    Row(
        Wait::Sleep,
        &["nanosleep", "thread::sleep", "time::sleep", "time::interval::", "async_io::Timer"],
        &["sleep", "usleep"],
    ),
    Row(Wait::Pipe, &["PipeReader", "PipeWriter"], &["pipe"]),
    Row(
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
            "UnixDatagram",
            "TcpListener",
            "UnixListener",
            "tokio::net::",
            "SocketInputStream",
            "SocketOutputStream",
            "NioSocketImpl",
            "socketRead0",
            "sun.nio.ch.Net.",
            "sun.nio.ch.SocketDispatcher",
        ],
        &["recv", "send", "accept", "accept4", "connect", "__recv", "__send", "socket"],
    ),
    Row(
        Wait::File,
        &["std::fs::", "tokio::fs::", "fsync", "fdatasync", "java.io.File", "sun.nio.ch.FileDispatcher"],
        &["pread64", "pwrite64", "openat", "open64", "sync_file_range", "file"],
    ),
    Row(Wait::Memory, &[], &["mmap", "munmap", "madvise", "memory"]),
    Row(
        Wait::Events,
        &["epoll_wait", "epoll_pwait", "io_uring_enter", "EPoll.wait", "epollWait", "PollSelectorImpl"],
        &["poll", "ppoll", "__poll", "select", "pselect", "pselect6", "__select"],
    ),
    Row(
        Wait::Condition,
        &[
            "thread::park",
            "Thread::park",
            "Parker",
            "LockSupport.park",
            "parking::",
            "Unsafe_Park",
            "Unsafe.park",
        ],
        &[],
    ),
];

/// Functions of the kernel, in the same order. A futex is left to those in user space.
const KERNEL: &[Row] = &[
    Row(Wait::Sleep, &["nanosleep"], &[]),
    Row(
        Wait::Events,
        &["ep_poll", "epoll_wait", "poll_schedule_timeout", "do_sys_poll", "io_cqring_wait"],
        &["do_select"],
    ),
    Row(Wait::Lock, &["futex_lock_pi", "futex_wait_requeue_pi"], &[]),
    Row(Wait::Join, &[], &["do_wait", "kernel_wait4", "kernel_waitid"]),
    Row(Wait::Pipe, &["pipe_read", "pipe_write", "pipe_wait"], &[]),
    Row(
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
    Row(
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
    Row(
        Wait::Memory,
        &["sys_mmap", "sys_munmap", "sys_madvise", "sys_mprotect", "sys_mremap", "sys_brk"],
        &[],
    ),
    Row(Wait::Lock, &["mutex_lock", "rwsem_down"], &[]),
];

/// What the plumbing is blocked on; `word` is another tool's label, and counts as a function that was called.
pub(super) fn of(plumbing: &Plumbing<'_>, word: Option<&str>) -> Wait {
    if plumbing.entry == Some(KernelEntry::PageFault) {
        return Wait::PageFault;
    }
    let calls: Vec<&str> = plumbing.calls.iter().map(String::as_str).chain(word).collect();
    let called = first_row(CALLS, &calls);
    match first_row(KERNEL, &plumbing.kernel) {
        Some(Wait::Events) if called == Some(Wait::Socket) => Wait::Socket,
        Some(known) => known,
        None => called.unwrap_or(Wait::Unknown),
    }
}

fn first_row(rows: &[Row], names: &[&str]) -> Option<Wait> {
    let matches = |Row(_, parts, whole): &&Row| {
        names.iter().any(|name| whole.contains(name) || parts.iter().any(|part| name.contains(part)))
    };
    rows.iter().find(matches).map(|Row(wait, ..)| *wait)
}
