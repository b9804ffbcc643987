//! The signal handler: copies what it sees of its thread into a buffer, and nothing else.
//!
//! **What may run here** is less than anywhere else in the crate: the handler may have interrupted `malloc`, the dynamic
//! linker or a panic in the middle. So it takes no lock, allocates nothing, reads no thread-local storage through the
//! linker, walks no tables and can't panic: it reads the registers that the kernel saved, the thread's slot by its fixed
//! distance from the thread pointer, one clock, and the top of the stack; the last by a system call, which fails
//! where memory isn't readable instead of crashing. The sampler unwinds the copy later, when it pleases.
//!
//! Refused: unwinding in the handler. It saves the copy (0.2 to 2 µs), and needs tables that no thread may be changing or
//! freeing while any handler runs, and the end of every stack, whoever allocated it. A copy is bounded
//! ([`STACK_BYTES`]); deeper stacks are cut there and say so.
//!
//! Runs on the interrupted stack, which is grown by the kernel's frame and some 300 bytes. An alternate stack was refused: that
//! of Rust's threads is 8 KB, of which the kernel's frame takes up to three.

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};

use super::buffers::{Buffers, STACK_BYTES};
use super::clock::{self, ThreadId};
use super::registers::Registers;
use super::slot_reading::SlotReading;

/// The mark in a signal's value by which we know our own; the lower half is the thread's id.
const MARK: u64 = 0x5350_524f << 32;

static BUFFERS: AtomicPtr<Buffers> = AtomicPtr::new(ptr::null_mut());
/// The descriptor of `/proc/self/mem`, where reading one's own memory by `process_vm_readv` is forbidden; or -1.
static MEMORY: AtomicI32 = AtomicI32::new(-1);
static PROCESS: AtomicI32 = AtomicI32::new(0);
static FOREIGN: AtomicU64 = AtomicU64::new(0);

/// The value that makes a signal to `thread` one of ours.
pub(super) fn value_for(thread: ThreadId) -> usize {
    (MARK | u64::from(thread as u32)) as usize
}

/// Installs the handler for a signal that nobody handles, and gives its number. A second call gives the same one.
pub(super) fn install(buffers: &'static Buffers) -> io::Result<c_int> {
    PROCESS.store(std::process::id() as i32, Ordering::Relaxed);
    BUFFERS.store(ptr::from_ref(buffers).cast_mut(), Ordering::Release);
    choose_how_to_read_memory();
    let candidates = std::iter::once(libc::SIGPROF).chain((libc::SIGRTMIN()..=libc::SIGRTMAX()).rev());
    for signal in candidates {
        let current = disposition(signal)?;
        if current.sa_sigaction == on_signal as *const () as usize {
            return Ok(signal);
        }
        if current.sa_sigaction != libc::SIG_DFL && current.sa_sigaction != libc::SIG_IGN {
            continue;
        }
        let mut action = current;
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        // SAFETY: the handler has the signature that SA_SIGINFO asks for, and does only what a handler may.
        unsafe {
            libc::sigemptyset(&mut action.sa_mask);
            if libc::sigaction(signal, &action, ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        return Ok(signal);
    }
    Err(io::Error::other("all signals that could be used have handlers already"))
}

/// Whether the signal still is ours: another library may have taken it since.
pub(super) fn is_installed(signal: c_int) -> bool {
    disposition(signal).is_ok_and(|current| current.sa_sigaction == on_signal as *const () as usize)
}

fn disposition(signal: c_int) -> io::Result<libc::sigaction> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: writes the current action; a zeroed one is valid.
    unsafe {
        if libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(action.assume_init())
    }
}

/// A filter may forbid `process_vm_readv`, even on oneself. The file is opened before that is needed.
fn choose_how_to_read_memory() {
    let probe = 1u64;
    let mut copy = [0; 8];
    let copied = copy_by_call(ptr::from_ref(&probe) as u64, &mut copy);
    if copied != copy.len() {
        // SAFETY: the path is a C string.
        let descriptor = unsafe { libc::open(c"/proc/self/mem".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
        MEMORY.store(descriptor, Ordering::Relaxed);
    }
}

/// Copies what is readable of this process's memory from `address` on; gives how many bytes. Safe in a signal handler.
pub(super) fn copy_memory(address: u64, into: &mut [u8]) -> usize {
    match MEMORY.load(Ordering::Relaxed) {
        -1 => copy_by_call(address, into),
        // SAFETY: the buffer is as long as said.
        file => unsafe {
            libc::pread64(file, into.as_mut_ptr().cast(), into.len(), address as libc::off64_t).max(0)
                as usize
        },
    }
}

fn copy_by_call(address: u64, into: &mut [u8]) -> usize {
    const PAGE: u64 = 4096;
    // The call copies whole pieces or nothing of them: with pages for pieces, all that is readable is copied.
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let mut pieces = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; 1 + STACK_BYTES / PAGE as usize];
    let mut count = 0;
    let mut at = address;
    let end = address.saturating_add(into.len() as u64);
    while at < end
        && let Some(piece) = pieces.get_mut(count)
    {
        let next = ((at / PAGE + 1) * PAGE).min(end);
        *piece = libc::iovec { iov_base: at as *mut c_void, iov_len: (next - at) as usize };
        count += 1;
        at = next;
    }
    // SAFETY: the kernel checks every piece, and writes no more than the local buffer holds.
    let copied =
        unsafe { libc::process_vm_readv(process(), &local, 1, pieces.as_ptr(), count as libc::c_ulong, 0) };
    copied.max(0) as usize
}

/// This process, also before there is a handler; remembered, as asking is a call.
fn process() -> i32 {
    match PROCESS.load(Ordering::Relaxed) {
        0 => std::process::id() as i32,
        known => known,
    }
}

unsafe extern "C" fn on_signal(_: c_int, information: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid structure; both fields are there for signals of timers and queued ones.
    let (code, value) = unsafe { ((*information).si_code, (*information).si_value().sival_ptr as u64) };
    let is_ours = (code == libc::SI_TIMER || code == libc::SI_QUEUE) && value >> 32 == MARK >> 32;
    if !is_ours {
        // Nobody handled the signal before us, so that there is nobody to pass it on to.
        FOREIGN.fetch_add(1, Ordering::Relaxed);
        return;
    }
    // SAFETY: never null once the handler is installed, and never freed.
    let Some(buffers) = (unsafe { BUFFERS.load(Ordering::Acquire).as_ref() }) else { return };
    // SAFETY: the address of this thread's own variable, which the interrupted code may be about to read.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let saved = unsafe { *errno };
    // A visit is no time; a timer's signal stands for one period and those that it was late by.
    let periods = if code == libc::SI_TIMER { overrun(information).saturating_add(1) } else { 0 };
    buffers.fill(periods, |sample| {
        sample.thread = value as u32 as ThreadId;
        sample.at = clock::now_in_handler();
        sample.periods = periods;
        // SAFETY: the kernel's argument.
        sample.registers = unsafe { Registers::of_interrupted(context) };
        sample.slot = SlotReading::of_interrupted(&mut sample.attributes);
        sample.stack_length = copy_memory(sample.registers.stack, &mut sample.stack) as u32;
    });
    // SAFETY: as above.
    unsafe { *errno = saved };
}

/// How many expirations were merged into this signal.
fn overrun(information: *const libc::siginfo_t) -> u32 {
    /// The start of the kernel's structure for signals of timers.
    #[repr(C)]
    struct TimerInformation {
        signal: c_int,
        error: c_int,
        code: c_int,
        padding: c_int,
        timer: c_int,
        overrun: c_int,
    }
    // SAFETY: the signal is a timer's, for which the kernel fills in these fields.
    unsafe { (*information.cast::<TimerInformation>()).overrun.max(0) as u32 }
}

/// Foreign signals that came to our handler since the last call.
pub(super) fn take_foreign() -> u64 {
    FOREIGN.swap(0, Ordering::Relaxed)
}
