//! When a thread is sampled: a timer per thread that runs on the CPU time of that thread alone.
//!
//! A thread that waits costs nothing and is never interrupted in its wait. The kernel looks at such timers at its tick (250 a
//! second on many machines): a higher rate gives no more samples, but each says how many periods it stands for.
//!
//! Refused: perf events. They keep any rate, but their counter is re-armed at every switch, which costs a thread that switches
//! often up to 1.8 times its CPU time, and many machines forbid them. Refused: `setitimer`, which favours threads that
//! happen to run when the process's common timer expires.

use std::ffi::c_int;
use std::io;
use std::ptr;

use super::clock::{self, ThreadId};
use super::handler;

/// A thread's timer. It ends with the thread, and is taken back when dropped.
#[derive(Debug)]
pub(super) struct CpuTimer(c_int);

impl CpuTimer {
    /// Has `thread`, one of this process, be sent `signal` each time it has used `period` nanoseconds of CPU time, first
    /// after `first`.
    ///
    /// Errors: the thread has ended, a filter forbids it, or the user has no signals left to queue.
    pub(super) fn start(thread: ThreadId, signal: c_int, first: u64, period: u64) -> io::Result<CpuTimer> {
        // SAFETY: a plain structure, for which zeros are valid.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_value.sival_ptr = ptr::without_provenance_mut(handler::value_for(thread));
        event.sigev_signo = signal;
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_notify_thread_id = thread;
        let mut timer: c_int = 0;
        // The call itself: C libraries wrap the number that we need for the next ones.
        // SAFETY: reads one event and writes one number.
        let made = unsafe {
            libc::syscall(libc::SYS_timer_create, clock::cpu_clock(thread), &raw const event, &raw mut timer)
        };
        if made != 0 {
            return Err(io::Error::last_os_error());
        }
        let timer = CpuTimer(timer);
        let times = libc::itimerspec { it_interval: time(period), it_value: time(first.max(1)) };
        // SAFETY: reads one structure.
        let set = unsafe {
            libc::syscall(libc::SYS_timer_settime, timer.0, 0, &raw const times, ptr::null_mut::<()>())
        };
        if set == 0 { Ok(timer) } else { Err(io::Error::last_os_error()) }
    }

    /// Whether the timer runs. Not once its thread has ended, also if another one has its id now.
    pub(super) fn is_running(&self) -> bool {
        let mut times = libc::itimerspec { it_interval: time(0), it_value: time(0) };
        // SAFETY: writes one structure.
        let read = unsafe { libc::syscall(libc::SYS_timer_gettime, self.0, &raw mut times) };
        read == 0 && (times.it_value.tv_sec, times.it_value.tv_nsec) != (0, 0)
    }
}

impl Drop for CpuTimer {
    fn drop(&mut self) {
        // SAFETY: takes a number.
        unsafe { libc::syscall(libc::SYS_timer_delete, self.0) };
    }
}

fn time(nanoseconds: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (nanoseconds / 1_000_000_000) as libc::time_t,
        tv_nsec: (nanoseconds % 1_000_000_000) as libc::c_long,
    }
}

/// Asks for one sample of a thread now, by a signal. `false` if it could not be sent.
pub(super) fn send(thread: ThreadId, signal: c_int) -> bool {
    // SAFETY: a plain structure, for which zeros are valid.
    let mut information: libc::siginfo_t = unsafe { std::mem::zeroed() };
    /// The start of the kernel's structure for queued signals.
    #[repr(C)]
    struct Queued {
        signal: c_int,
        error: c_int,
        code: c_int,
        padding: c_int,
        process: c_int,
        user: c_int,
        value: usize,
    }
    let process = std::process::id() as c_int;
    let queued = Queued {
        signal,
        error: 0,
        code: libc::SI_QUEUE,
        padding: 0,
        process,
        user: 0,
        value: handler::value_for(thread),
    };
    // SAFETY: the structure is the other's beginning; the call reads one of the full size.
    unsafe {
        (&raw mut information).cast::<Queued>().write(queued);
        libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, signal, &raw const information) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::buffers::Buffers;
    use super::*;

    #[test]
    fn a_thread_s_cpu_time_is_sampled_and_its_timer_ends_with_it() {
        let buffers = Buffers::map().unwrap();
        let signal = handler::install(buffers).unwrap();
        assert!(handler::is_installed(signal));
        const PERIOD: u64 = 2_000_000;
        let (sender, receiver) = std::sync::mpsc::channel();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            // SAFETY: has no arguments.
            let own_id = unsafe { libc::gettid() };
            sender.send(own_id).unwrap();
            wait.recv().unwrap();
            let begin = clock::own_cpu();
            // Up to a sample, as the time since the last one has not been told: on a busy machine that is many periods.
            let (mut periods, mut samples) = (0, 0);
            loop {
                let before = samples;
                buffers.drain(|sample| {
                    assert_eq!(sample.thread, own_id);
                    assert!(sample.stack_length > 0 && sample.registers.instruction != 0);
                    periods += u64::from(sample.periods);
                    samples += 1;
                });
                let used = clock::own_cpu() - begin;
                if samples > before && used >= 200_000_000 {
                    return (periods + buffers.take_lost(), used, samples);
                }
                assert!(used < 10_000_000_000, "only {samples} samples in 10 s of CPU");
            }
        });
        let id = receiver.recv().unwrap();
        let timer = CpuTimer::start(id, signal, PERIOD / 2, PERIOD).unwrap();
        assert!(timer.is_running());
        go.send(()).unwrap();
        let (periods, used, samples) = thread.join().unwrap();
        let due = used / PERIOD;
        assert!(periods.abs_diff(due) <= 1 + due / 50, "{periods} periods in {samples} samples, of {due}");
        assert!(!timer.is_running());
        assert!(CpuTimer::start(id, signal, PERIOD, PERIOD).is_err());
    }
}
