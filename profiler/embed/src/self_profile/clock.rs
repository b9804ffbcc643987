//! The clocks of the self-profile, in nanoseconds. Stamps are those of [`crate::clock`].

pub(super) use crate::clock::{now, now_in_handler};

/// A thread's id, as the kernel numbers it.
pub(crate) type ThreadId = i32;

/// CPU time that the calling thread has used.
pub(super) fn own_cpu() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID).unwrap_or(0)
}

/// CPU time that all threads of the process have used, also those that ended.
pub(super) fn process_cpu() -> u64 {
    read(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or(0)
}

/// Time since 1970.
pub(super) fn unix() -> u64 {
    read(libc::CLOCK_REALTIME).unwrap_or(0)
}

/// CPU time that a thread of this process has used; `None` if there is no such thread.
pub(super) fn cpu_of(thread: ThreadId) -> Option<u64> {
    read(cpu_clock(thread))
}

/// The clock of a thread's CPU time, by the kernel's numbering of clocks: the complement of the thread's id, then three
/// bits that say "of one thread, as the scheduler counts it".
pub(super) const fn cpu_clock(thread: ThreadId) -> libc::clockid_t {
    const OF_ONE_THREAD: libc::clockid_t = 4;
    const BY_THE_SCHEDULER: libc::clockid_t = 2;
    (!thread << 3) | OF_ONE_THREAD | BY_THE_SCHEDULER
}

#[inline]
fn read(clock: libc::clockid_t) -> Option<u64> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    let result = unsafe { libc::clock_gettime(clock, &mut now) };
    (result == 0).then(|| now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_thread_s_clock_is_read_by_its_id() {
        // SAFETY: has no arguments.
        let own = unsafe { libc::gettid() };
        let before = own_cpu();
        let read = std::thread::spawn(move || cpu_of(own)).join().unwrap().expect("the thread is alive");
        assert!(before <= read && read <= own_cpu());
        assert_eq!(cpu_of(i32::MAX >> 4), None);
    }
}
