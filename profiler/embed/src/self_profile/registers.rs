//! A thread's registers as the kernel hands them to a signal handler.

/// What an unwinder starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Registers {
    pub(super) instruction: u64,
    pub(super) stack: u64,
    pub(super) frame: u64,
}

#[cfg(target_arch = "x86_64")]
impl Registers {
    /// Those that a handler's third argument holds.
    ///
    /// # Safety
    /// `context` is what the kernel gave the handler.
    pub(super) unsafe fn of_interrupted(context: *const libc::c_void) -> Registers {
        // SAFETY: the caller's promise.
        let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
        Registers {
            instruction: registers[libc::REG_RIP as usize] as u64,
            stack: registers[libc::REG_RSP as usize] as u64,
            frame: registers[libc::REG_RBP as usize] as u64,
        }
    }
}
