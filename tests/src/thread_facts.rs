//! What the kernel says of a thread of this process: its id, its name, its core, its waits in the run queue.

use std::ffi::CString;

/// The kernel's id of the calling thread.
pub fn thread_id() -> u64 {
    // SAFETY: gettid takes nothing and always succeeds.
    unsafe { libc::gettid() as u64 }
}

/// CPU time, run-queue time (both nanoseconds) and number of time slices of the calling thread so far.
///
/// From `/proc/thread-self/schedstat`; `None` where the kernel keeps no such statistics.
pub fn schedstat() -> Option<[u64; 3]> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let mut numbers = text.split_ascii_whitespace().map(|word| word.parse::<u64>().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next()??])
}

/// Voluntary and involuntary context switches of the calling thread so far.
pub fn context_switches() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/status").ok()?;
    text.lines()
        .filter(|line| line.contains("ctxt_switches"))
        .map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
        .sum()
}

/// Names the calling thread, by at most 15 bytes of `name`.
pub fn name_thread(name: &str) {
    let name = CString::new(&name.as_bytes()[..name.len().min(15)]).expect("a thread name without NUL");
    // SAFETY: `name` is NUL-terminated and outlives the call.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Pins the calling thread to the last core that it may use and returns that core.
///
/// # Panics
/// When the kernel refuses, since the program's truth would then be another one.
pub fn pin_to_last_core() -> usize {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut allowed: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: `allowed` is a valid place of `size` bytes; 0 is the calling thread.
    assert_eq!(unsafe { libc::sched_getaffinity(0, size, &mut allowed) }, 0, "sched_getaffinity");
    // SAFETY: the index stays below the number of bits in the set.
    let core = (0..size * 8).rev().find(|core| unsafe { libc::CPU_ISSET(*core, &allowed) });
    let core = core.expect("at least one core to run on");
    // SAFETY: as above.
    let mut only: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `core` came from a set of the same size.
    unsafe { libc::CPU_SET(core, &mut only) };
    // SAFETY: `only` is a valid set of `size` bytes.
    assert_eq!(unsafe { libc::sched_setaffinity(0, size, &only) }, 0, "sched_setaffinity to core {core}");
    core
}
