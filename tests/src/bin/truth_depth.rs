//! Spins at the bottom of a call chain of exactly `--depth` frames, from the leaf to the thread's start.
//!
//! The chain goes round eight functions whose frames differ in size. Its length is counted by the language's
//! own unwinder, an independent witness. With `--blocks` the leaf also sleeps, a millisecond at a time, so
//! that the same chain is seen on and off CPU.

use std::ffi::c_void;
use std::hint::black_box;

use serde_json::json;
use spanprof_tests::clock;
use spanprof_tests::truth_program::{TruthProgram, is_stopped};

/// What the leaf does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Only count the frames.
    Count,
    Spin,
    SpinAndBlock,
}

/// What the leaf saw.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    frames: u64,
    cpu_ns: u64,
    blocked_wall_ns: u64,
    blocks: u64,
}

/// Defines one level of the chain: a frame of `$words` words more, then the next level, or the leaf.
macro_rules! levels {
    ($($name:ident => $next:ident, $words:literal;)*) => {$(
        #[inline(never)]
        fn $name(left: u64, work: Work) -> Seen {
            let mut pad = black_box([left; $words]);
            let seen = if left == 0 { black_box(spin_leaf(work)) } else { black_box($next(left - 1, work)) };
            // Keeps the frame alive over the call, so that it can't become a jump.
            pad[$words / 2] ^= seen.frames;
            black_box(&pad);
            seen
        }
    )*};
}

levels! {
    level_0 => level_1, 1;
    level_1 => level_2, 3;
    level_2 => level_3, 8;
    level_3 => level_4, 17;
    level_4 => level_5, 2;
    level_5 => level_6, 64;
    level_6 => level_7, 5;
    level_7 => level_0, 130;
}

#[inline(never)]
fn depth_root(levels: u64, work: Work) -> Seen {
    let seen = black_box(level_0(levels - 1, work));
    black_box(&seen);
    seen
}

#[inline(never)]
fn spin_leaf(work: Work) -> Seen {
    let mut seen = Seen { frames: count_frames(), ..Seen::default() };
    let start = clock::thread_cpu_ns();
    while work != Work::Count && !is_stopped() {
        clock::spin_cpu(1_000_000);
        if work == Work::SpinAndBlock {
            let before = clock::monotonic_ns();
            clock::sleep_ns(1_000_000);
            seen.blocked_wall_ns += clock::monotonic_ns() - before;
            seen.blocks += 1;
        }
    }
    seen.cpu_ns = clock::thread_cpu_ns() - start;
    seen
}

/// The number of frames from the caller to the thread's start, by the unwinder of the language's runtime.
#[inline(never)]
fn count_frames() -> u64 {
    extern "C" fn count(context: *mut c_void, counter: *mut c_void) -> i32 {
        // The unwinder also tells the end, as a frame at address 0 above the thread's start.
        // SAFETY: the context is the unwinder's own, and `counter` is the pointer to `frames` below; both are alive
        // during the whole walk.
        unsafe { *counter.cast::<u64>() += u64::from(_Unwind_GetIP(context) != 0) };
        0
    }
    unsafe extern "C" {
        fn _Unwind_GetIP(context: *mut c_void) -> usize;
        fn _Unwind_Backtrace(
            trace: extern "C" fn(*mut c_void, *mut c_void) -> i32,
            argument: *mut c_void,
        ) -> i32;
    }
    let mut frames = 0u64;
    // SAFETY: the callback only counts, and its argument points to a live counter.
    unsafe { _Unwind_Backtrace(count, (&raw mut frames).cast()) };
    // This function's own frame doesn't belong to its caller's chain.
    black_box(frames) - 1
}

fn main() {
    let program = TruthProgram::begin();
    let depth = program.arguments().number("depth", 17);
    let work = if program.arguments().has("blocks") { Work::SpinAndBlock } else { Work::Spin };

    let above = depth_root(1, Work::Count).frames - 1;
    if depth <= above {
        eprintln!("--depth {depth}: the shortest chain here has {} frames", above + 1);
        std::process::exit(2);
    }
    let levels = depth - above;

    program.ready();
    let stop = program.stop_in_background();
    let seen = depth_root(levels, work);
    stop.tell(&json!({
        "program": "truth_depth",
        "pid": std::process::id(),
        "depth": depth,
        "frames": seen.frames,
        "levels": levels,
        "leaf": "spin_leaf",
        "root": "depth_root",
        "cycle": (0..8).map(|level| format!("level_{level}")).collect::<Vec<_>>(),
        "thread_cpu_ns": seen.cpu_ns,
        "blocks": seen.blocks,
        "blocked_wall_ns": seen.blocked_wall_ns,
    }));
}
