//! The two clocks by which truth is told, and work that lasts for a given share of them.

use std::hint::black_box;

/// Nanoseconds of `CLOCK_MONOTONIC`, the clock of the kernel's scheduler events.
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds of CPU that the calling thread has used (`CLOCK_THREAD_CPUTIME_ID`).
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

/// Does `rounds` rounds of arithmetic that the compiler can't drop, about a nanosecond each.
#[inline(always)]
pub fn turn(rounds: u64) -> u64 {
    let mut state = black_box(rounds | 1);
    for _ in 0..rounds {
        state = black_box(state.wrapping_mul(6_364_136_223_846_793_005).rotate_left(17));
    }
    state
}

/// Computes in the caller's own frame until the thread has used `cpu_ns` more of CPU; returns the exact use.
///
/// The clock is read about every 20 µs, so that next to none of the time is spent in reading it.
#[inline(always)]
pub fn spin_cpu(cpu_ns: u64) -> u64 {
    let start = thread_cpu_ns();
    loop {
        turn(10_000);
        let used = thread_cpu_ns() - start;
        if used >= cpu_ns {
            return used;
        }
    }
}

/// Blocks the calling thread in `clock_nanosleep` for `ns`, again after a signal, to its full length.
pub fn sleep_ns(ns: u64) {
    std::thread::sleep(std::time::Duration::from_nanos(ns));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spin_uses_at_least_what_was_asked_for() {
        let before = thread_cpu_ns();
        let used = spin_cpu(2_000_000);
        assert!(used >= 2_000_000);
        assert!(thread_cpu_ns() - before >= used);
    }
}
