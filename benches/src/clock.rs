//! The clocks and the memory of a service, as the kernel counts them.

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds of CPU that the calling thread has used.
pub fn thread_cpu_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Nanoseconds of CPU that the process has used, all threads together.
pub fn process_cpu_ns() -> u64 {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for one timespec, and every clock used here exists on Linux.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(result, 0, "clock_gettime of clock {clock}");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What the process holds of memory, KiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident now: `VmRSS`.
    pub resident: u64,
    /// Of it what is the process's own and no file's: `RssAnon`.
    pub anonymous: u64,
    /// The most that ever was resident: `VmHWM`.
    pub peak: u64,
}

impl Memory {
    /// Reads it from `/proc/self/status`.
    ///
    /// # Panics
    /// Where the kernel doesn't tell, since there is nothing to compare then.
    pub fn read() -> Memory {
        let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
        let field = |name: &str| {
            let line =
                status.lines().find_map(|line| line.strip_prefix(name)).expect("a field of the status");
            let number = line.trim_start_matches(':').trim().trim_end_matches("kB").trim();
            number.parse().expect("a number of KiB")
        };
        Memory { resident: field("VmRSS"), anonymous: field("RssAnon"), peak: field("VmHWM") }
    }
}
