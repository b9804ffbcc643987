//! Children by fork alone, by fork and exec, and by whatever `Command` uses; each must end well.
//!
//! A child of a fork alone has one thread and the memory of many: it allocates, enters a span and ends, while the threads that
//! held locks at the fork, the sampler among them, don't exist.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::worker::{enter, require};

static ENDED: AtomicU64 = AtomicU64::new(0);

/// How many children have ended.
pub(crate) fn ended() -> u64 {
    ENDED.load(Ordering::Relaxed)
}

pub(crate) fn round(number: u64) {
    match number % 4 {
        0 => command(true),
        1 => command(false),
        _ => fork_alone(number),
    }
    ENDED.fetch_add(1, Ordering::Relaxed);
    // Else this worker alone would keep a core busy in the kernel.
    std::thread::sleep(std::time::Duration::from_millis(2));
}

fn command(by_fork: bool) {
    // Not `/proc/self/exe`, which is another program under valgrind.
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| std::env::current_exe().expect("the path of this program"));
    let mut command = Command::new(program);
    command.arg("--child");
    if by_fork {
        // SAFETY: the closure does nothing; its presence makes the library fork and exec rather than spawn.
        unsafe { command.pre_exec(|| Ok(())) };
    }
    let status = command.status();
    require(status.as_ref().is_ok_and(|status| status.success()), || format!("a child by exec: {status:?}"));
}

fn fork_alone(number: u64) {
    let before = spanprof::context::thread::current();
    // SAFETY: the child does what a C library allows after a fork (glibc makes malloc whole), and ends by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let has_kept = spanprof::context::thread::current() == before;
        let span = enter(number);
        let text: String = (0..100).map(|part| part.to_string()).collect();
        let has_changed = spanprof::context::thread::current().is_some();
        drop(span);
        let code = i32::from(!(has_kept && has_changed && text.len() == 190));
        // SAFETY: takes a number.
        unsafe { libc::_exit(code) };
    }
    require(child > 0, || format!("fork: {}", std::io::Error::last_os_error()));
    let mut status = 0;
    // SAFETY: the child is ours and not waited for yet.
    while unsafe { libc::waitpid(child, &mut status, 0) } != child {
        let error = std::io::Error::last_os_error();
        require(error.kind() == std::io::ErrorKind::Interrupted, || format!("waitpid: {error}"));
    }
    require(status == 0, || format!("a child by fork ended with status {status:#x}"));
}
