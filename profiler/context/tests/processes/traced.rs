//! A thread of another process, stopped by ptrace, and its thread pointer.

use std::io;
use std::ptr;

/// Stops a thread, hands its thread pointer to `look`, and lets it go on.
pub(crate) fn with_thread_pointer<T>(thread: i32, look: impl FnOnce(u64) -> T) -> T {
    let stopped = Stopped::new(thread);
    look(thread_pointer(stopped.0))
}

struct Stopped(i32);

impl Stopped {
    fn new(thread: i32) -> Self {
        // SAFETY: ptrace requests that write nothing here.
        unsafe {
            check(libc::ptrace(libc::PTRACE_SEIZE, thread, ptr::null_mut::<u8>(), ptr::null_mut::<u8>()));
            check(libc::ptrace(libc::PTRACE_INTERRUPT, thread, ptr::null_mut::<u8>(), ptr::null_mut::<u8>()));
            let mut status = 0;
            check(libc::waitpid(thread, &mut status, libc::__WALL).into());
            assert!(libc::WIFSTOPPED(status));
        }
        Self(thread)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // SAFETY: a ptrace request that writes nothing here.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, ptr::null_mut::<u8>(), ptr::null_mut::<u8>()) };
    }
}

#[cfg(target_arch = "x86_64")]
fn thread_pointer(thread: i32) -> u64 {
    // SAFETY: zero is a value of this plain structure, which the kernel fills.
    unsafe {
        let mut registers: libc::user_regs_struct = std::mem::zeroed();
        check(libc::ptrace(libc::PTRACE_GETREGS, thread, ptr::null_mut::<u8>(), &raw mut registers));
        registers.fs_base
    }
}

#[cfg(target_arch = "aarch64")]
fn thread_pointer(thread: i32) -> u64 {
    const NT_ARM_TLS: usize = 0x401;
    let mut pointer = 0u64;
    let mut buffer = libc::iovec { iov_base: (&raw mut pointer).cast(), iov_len: 8 };
    // SAFETY: the kernel fills at most the buffer's 8 bytes.
    unsafe { check(libc::ptrace(libc::PTRACE_GETREGSET, thread, NT_ARM_TLS, &raw mut buffer)) };
    pointer
}

fn check(result: libc::c_long) {
    assert!(result >= 0, "ptrace: {}", io::Error::last_os_error());
}
