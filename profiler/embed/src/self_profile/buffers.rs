//! Where a signal handler leaves what it saw, and the sampler finds it: a fixed number of buffers on two lock-free lists.
//!
//! A handler takes a free buffer, fills it and puts it on the list of full ones; the sampler takes that list whole. Both
//! are stacks whose head carries a counter, so that a handler on one thread may interrupt any step of one on another (or be
//! stopped in the middle for as long as it pleases): nobody ever waits. With no buffer left the sample is counted and dropped.
//!
//! The buffers are mapped once and untouched pages cost nothing; as the last one freed is taken first, only as many are
//! ever touched as samples came between two rounds of the sampler, with the pages that their stacks took.

use std::cell::UnsafeCell;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use spanprof_context::record::MAXIMUM_ATTRIBUTES_SIZE;

use super::clock::ThreadId;
use super::registers::Registers;
use super::slot_reading::SlotReading;

/// Buffers: samples that may come between two rounds of the sampler.
const COUNT: usize = 128;
/// The most that is copied of a stack; deeper ones are cut, and say so.
pub(super) const STACK_BYTES: usize = 64 << 10;

/// What a handler saw of its thread.
pub(super) struct Sample {
    pub(super) thread: ThreadId,
    /// Monotonic clock.
    pub(super) at: u64,
    /// How many periods of the timer this sample stands for.
    pub(super) periods: u32,
    pub(super) registers: Registers,
    pub(super) slot: SlotReading,
    pub(super) attributes: [u8; MAXIMUM_ATTRIBUTES_SIZE],
    /// How many bytes of `stack` hold what lay from the stack pointer on.
    pub(super) stack_length: u32,
    pub(super) stack: [u8; STACK_BYTES],
}

/// A list of buffers: a counter in the upper half, in the lower the first one's number plus one, or 0.
struct List(AtomicU64);

pub(super) struct Buffers {
    samples: NonNull<UnsafeCell<Sample>>,
    next: [AtomicU32; COUNT],
    free: List,
    full: List,
    lost: AtomicU64,
}

// SAFETY: a buffer belongs to whoever took it off a list, until it is put on one.
unsafe impl Sync for Buffers {}
// SAFETY: the mapping belongs to no thread.
unsafe impl Send for Buffers {}

impl Buffers {
    /// Maps the buffers; they stay for the life of the process, as a handler may run late.
    pub(super) fn map() -> io::Result<&'static Buffers> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let length = COUNT * size_of::<Sample>();
        // SAFETY: a new mapping at an address that the kernel chooses.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // A child that goes on has no sampler to fill them for.
        // SAFETY: the mapping was just made.
        unsafe { libc::madvise(address, length, libc::MADV_DONTDUMP) };
        let samples = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let buffers = Box::leak(Box::new(Buffers {
            samples,
            next: [const { AtomicU32::new(0) }; COUNT],
            free: List(AtomicU64::new(0)),
            full: List(AtomicU64::new(0)),
            lost: AtomicU64::new(0),
        }));
        for number in (0..COUNT as u32).rev() {
            buffers.push(&buffers.free, number);
        }
        Ok(buffers)
    }

    /// Has `fill` fill a free buffer and hands it to the sampler; counts a loss of `periods` if there is none.
    ///
    /// Safe in a signal handler as far as `fill` is: no lock, no allocation, no loop that waits for another thread.
    pub(super) fn fill(&self, periods: u32, fill: impl FnOnce(&mut Sample)) {
        match self.pop_free() {
            None => {
                self.lost.fetch_add(u64::from(periods), Ordering::Relaxed);
            }
            Some(number) => {
                // SAFETY: taken off the list, so nobody else's; a mapping of zeros is a valid sample.
                fill(unsafe { &mut *self.sample(number) });
                self.push(&self.full, number);
            }
        }
    }

    /// Shows every full buffer, in no order, and frees it. For one sampler at a time.
    pub(super) fn drain(&self, mut take: impl FnMut(&Sample)) {
        let mut rest = self.full.0.load(Ordering::Acquire);
        while let Err(current) =
            self.full.0.compare_exchange_weak(rest, with_first(rest, 0), Ordering::Acquire, Ordering::Acquire)
        {
            rest = current;
        }
        let mut first = rest as u32;
        while let Some(number) = first.checked_sub(1) {
            first = self.next[number as usize % COUNT].load(Ordering::Relaxed);
            // SAFETY: taken off the list, so nobody else's.
            take(unsafe { &*self.sample(number) });
            self.push(&self.free, number);
        }
    }

    /// Periods lost for want of a buffer since the last call.
    pub(super) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    fn sample(&self, number: u32) -> *mut Sample {
        // SAFETY: there are `COUNT` buffers.
        unsafe { UnsafeCell::raw_get(self.samples.add(number as usize % COUNT).as_ptr()) }
    }

    fn push(&self, list: &List, number: u32) {
        let mut head = list.0.load(Ordering::Relaxed);
        loop {
            self.next[number as usize % COUNT].store(head as u32, Ordering::Relaxed);
            let new = with_first(head, number + 1);
            match list.0.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(current) => head = current,
            }
        }
    }

    fn pop_free(&self) -> Option<u32> {
        let mut head = self.free.0.load(Ordering::Acquire);
        loop {
            let number = (head as u32).checked_sub(1)?;
            // Another thread may have taken this buffer meanwhile; the counter then differs below.
            let next = self.next[number as usize % COUNT].load(Ordering::Relaxed);
            match self.free.0.compare_exchange_weak(
                head,
                with_first(head, next),
                Ordering::Acquire,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(number),
                Err(current) => head = current,
            }
        }
    }
}

/// The list's head after a change: counted, with another first buffer.
const fn with_first(head: u64, first: u32) -> u64 {
    ((head >> 32).wrapping_add(1) << 32) | first as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_once() {
        let buffers = Buffers::map().unwrap();
        for round in 0..10 {
            for number in 0..COUNT as u32 {
                buffers.fill(1, |sample| sample.periods = number);
            }
            buffers.fill(3, |_| panic!("there is no buffer left"));
            let mut seen = Vec::new();
            buffers.drain(|sample| seen.push(sample.periods));
            seen.sort_unstable();
            assert_eq!(seen, (0..COUNT as u32).collect::<Vec<_>>(), "round {round}");
            assert_eq!(buffers.take_lost(), 3);
        }
    }

    #[test]
    fn threads_fill_while_the_sampler_drains() {
        const FILLS: u64 = 20_000;
        let buffers = Buffers::map().unwrap();
        let done = AtomicU32::new(0);
        let mut drained = 0u64;
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let done = &done;
                scope.spawn(move || {
                    for number in 0..FILLS {
                        buffers.fill(1, |sample| {
                            sample.at = number;
                            sample.thread = thread;
                        });
                    }
                    done.fetch_add(1, Ordering::Release);
                });
            }
            let mut last = [None; 4];
            loop {
                let finished = done.load(Ordering::Acquire) == 4;
                let mut round = Vec::new();
                buffers.drain(|sample| round.push((sample.thread, sample.at)));
                round.sort_unstable();
                for (thread, at) in round {
                    assert!(last[thread as usize] < Some(at), "none comes twice");
                    last[thread as usize] = Some(at);
                    drained += 1;
                }
                if finished {
                    break;
                }
            }
        });
        assert_eq!(drained + buffers.take_lost(), 4 * FILLS);
        assert!(drained > 0);
    }
}
