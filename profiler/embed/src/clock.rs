//! One clock for all stamps, in nanoseconds of `CLOCK_MONOTONIC`.
//!
//! A suspension takes three stamps, a change of span one. `clock_gettime` costs 24 ns each, the processor's time-stamp counter
//! 10 ns, so the counter is read where the kernel itself trusts it: where its clock source is `tsc`. Its rate is measured
//! against `CLOCK_MONOTONIC` over the first 50 ms, in which stamps come from that clock; later the two may drift apart by
//! as much as the kernel corrects its own, so stamps are compared with stamps alone. Refused: the rate from CPUID, which
//! many hypervisors leave out, and a sleep at the start. A stamp may lie tens of nanoseconds before one taken earlier
//! (at the change-over, or on another processor), so whoever subtracts clamps.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Long enough that the pairs' own inaccuracy (tens of nanoseconds) is a millionth of it.
const CALIBRATION: u64 = 50_000_000;

/// How ticks become nanoseconds; together, since each stamp reads all.
#[repr(align(32))]
struct Line {
    /// Nanoseconds per tick, times 2^32; 0 as long as stamps come from the kernel's clock. Written last.
    rate: AtomicU64,
    first_tick: AtomicU64,
    first_nanosecond: AtomicU64,
}

static LINE: Line =
    Line { rate: AtomicU64::new(0), first_tick: AtomicU64::new(0), first_nanosecond: AtomicU64::new(0) };
static ANCHOR: OnceLock<Anchor> = OnceLock::new();

struct Anchor {
    nanoseconds: u64,
    /// The counter at the same moment, if it may be used.
    ticks: Option<u64>,
}

/// The time now; at least 1.
#[inline]
pub(crate) fn now() -> u64 {
    by_counter().unwrap_or_else(by_kernel)
}

/// The same, for signal handlers: takes no step towards the counter, only uses it where that has been done.
#[cfg(all(feature = "self-profile", target_arch = "x86_64"))]
#[inline]
pub(crate) fn now_in_handler() -> u64 {
    by_counter().unwrap_or_else(monotonic)
}

#[inline]
fn by_counter() -> Option<u64> {
    let rate = LINE.rate.load(Ordering::Acquire);
    if rate == 0 {
        return None;
    }
    let ticks = counter::read().wrapping_sub(LINE.first_tick.load(Ordering::Relaxed));
    let since = ((u128::from(ticks) * u128::from(rate)) >> 32) as u64;
    Some(LINE.first_nanosecond.load(Ordering::Relaxed) + since)
}

#[cold]
fn by_kernel() -> u64 {
    let anchor = ANCHOR.get_or_init(|| {
        let pair = if counter::is_trusted() { pair() } else { None };
        let nanoseconds = pair.map_or_else(monotonic, |(_, nanoseconds)| nanoseconds);
        Anchor { nanoseconds, ticks: pair.map(|(ticks, _)| ticks) }
    });
    let now = monotonic();
    if let Some(first) = anchor.ticks
        && now.saturating_sub(anchor.nanoseconds) >= CALIBRATION
        && let Some((ticks, nanoseconds)) = pair()
        && let Some(rate) = rate(nanoseconds.saturating_sub(anchor.nanoseconds), ticks.saturating_sub(first))
    {
        LINE.first_tick.store(first, Ordering::Relaxed);
        LINE.first_nanosecond.store(anchor.nanoseconds, Ordering::Relaxed);
        // The first rate stays: all stamps on one line.
        let _ = LINE.rate.compare_exchange(0, rate, Ordering::Release, Ordering::Relaxed);
    }
    now.max(1)
}

/// Nanoseconds per tick, times 2^32. `None` unless the counter runs at 100 MHz to 20 GHz.
fn rate(nanoseconds: u64, ticks: u64) -> Option<u64> {
    let rate = (u128::from(nanoseconds) << 32).checked_div(u128::from(ticks))?;
    ((1 << 32) / 20..=10 << 32).contains(&rate).then_some(rate as u64)
}

/// The counter and the kernel's clock at one moment: of a few tries the one that took least. `None` if the thread was
/// interrupted in each.
fn pair() -> Option<(u64, u64)> {
    const TRIES: usize = 5;
    /// A few microseconds.
    const MAXIMUM_WIDTH: u64 = 10_000;
    let read = |_| {
        let before = counter::read();
        let nanoseconds = monotonic();
        let width = counter::read().wrapping_sub(before);
        (width, before.wrapping_add(width / 2), nanoseconds)
    };
    let (width, ticks, nanoseconds) = (0..TRIES).map(read).min_by_key(|read| read.0)?;
    (width <= MAXIMUM_WIDTH).then_some((ticks, nanoseconds))
}

fn monotonic() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod counter {
    #[inline]
    pub(super) fn read() -> u64 {
        // SAFETY: every x86-64 processor has the instruction, and Linux leaves it to user code unless a process
        // forbids it to itself (`PR_SET_TSC`), when the C library's own clock would fail too.
        unsafe { std::arch::x86_64::_rdtsc() }
    }

    /// Whether the kernel itself tells the time by this counter: then it is constant and equal on all processors.
    pub(super) fn is_trusted() -> bool {
        std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource")
            .is_ok_and(|source| source.trim() == "tsc")
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
mod counter {
    pub(super) fn read() -> u64 {
        0
    }

    pub(super) fn is_trusted() -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_follow_the_kernels_clock_across_the_change_over() {
        let start = (now(), monotonic());
        let mut before = start.0;
        while monotonic() - start.1 < 2 * CALIBRATION {
            let stamp = now();
            assert!(stamp >= 1 && stamp + 100_000 > before, "{before} then {stamp}");
            before = stamp;
        }
        let end = (now(), monotonic());
        let (ours, kernels) = (end.0 - start.0, end.1 - start.1);
        // Apart by what may come between the two reads of a pair.
        assert!(ours.abs_diff(kernels) < kernels / 20, "{ours} of {kernels}");
        assert!(end.0.abs_diff(end.1) < kernels / 20, "{end:?} are the same moment");
    }

    #[test]
    fn a_rate_that_no_counter_has_is_refused() {
        assert_eq!(rate(50_000_000, 150_000_000), Some((1u64 << 32) / 3));
        assert_eq!(rate(50_000_000, 0), None);
        assert_eq!(rate(50_000_000, 1_000), None);
        assert_eq!(rate(0, 150_000_000), None);
    }
}
