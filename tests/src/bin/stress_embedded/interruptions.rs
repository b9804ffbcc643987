//! Raw calls that a signal makes fail even with `SA_RESTART`, counted: none fails for a thread that only waits.

use std::sync::atomic::{AtomicU64, Ordering};

use super::worker::require;

static INTERRUPTED: AtomicU64 = AtomicU64::new(0);

/// How many calls returned `EINTR`.
pub(crate) fn interrupted() -> u64 {
    INTERRUPTED.load(Ordering::Relaxed)
}

pub(crate) fn round(number: u64) {
    let millisecond = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    // SAFETY: each call reads one valid time, or no descriptors at all.
    let result = unsafe {
        match number % 3 {
            0 => libc::nanosleep(&millisecond, std::ptr::null_mut()),
            1 => libc::poll(std::ptr::null_mut(), 0, 1),
            _ => libc::ppoll(std::ptr::null_mut(), 0, &millisecond, std::ptr::null()),
        }
    };
    if result != 0 {
        let error = std::io::Error::last_os_error();
        require(error.kind() == std::io::ErrorKind::Interrupted, || format!("a wait failed: {error}"));
        INTERRUPTED.fetch_add(1, Ordering::Relaxed);
    }
}
