//! Which span the calling thread must publish, kept beside what it publishes, and a signal handler that compares both.
//!
//! A handler reads what a profiler's handler would read at that instruction, so that every moment can be judged, and at any
//! rate: the timers of a profiler fire 250 times a second at most.

use std::cell::Cell;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering, compiler_fence};

use serde_json::{Value, json};
use spanprof::context::reading;

/// The thread has no span.
pub(crate) const NONE: u64 = 0;
/// The span changes: both the one before and the one after are right.
pub(crate) const CHANGING: u64 = u64::MAX;

thread_local! {
    // Neither lazy nor dropped, so that a signal handler may look at it at any time.
    static EXPECTED: Cell<u64> = const { Cell::new(NONE) };
}

/// Expects something else until it is dropped, also by a panic.
pub(crate) struct Expecting(u64);

impl Expecting {
    /// Expects the span with this id, [`NONE`] or [`CHANGING`].
    #[inline(always)]
    pub(crate) fn new(id: u64) -> Expecting {
        Expecting(replace(id))
    }
}

impl Drop for Expecting {
    #[inline(always)]
    fn drop(&mut self) {
        replace(self.0);
    }
}

#[inline(always)]
fn replace(id: u64) -> u64 {
    // No store of the publication may move across: the handler sees what the instructions say.
    compiler_fence(Ordering::SeqCst);
    let before = EXPECTED.replace(id);
    compiler_fence(Ordering::SeqCst);
    before
}

static RIGHT: AtomicU64 = AtomicU64::new(0);
static RIGHT_NONE: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);
static MISSING: AtomicU64 = AtomicU64::new(0);
static UNJUDGED: AtomicU64 = AtomicU64::new(0);
/// Of the wrong one seen last: what was expected and what was found.
static LAST_WRONG: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Installs the handler for SIGUSR1.
pub(crate) fn install() {
    // Looked for outside of the handler.
    assert!(reading::static_offset().is_some(), "the slot's distance from the thread pointer is known");
    // SAFETY: zeros are a valid action; the handler has the signature of one without SA_SIGINFO.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0, "sigaction");
    }
}

/// The span that this thread publishes, past the linker, as a profiler's handler reads it.
fn published() -> u64 {
    let Some(offset) = reading::static_offset() else { return NONE };
    let slot = reading::thread_pointer().wrapping_add_signed(offset) as *const u8;
    // SAFETY: this thread's slot, at the place where all threads have it.
    let snapshot = unsafe { reading::read_slot(slot, &mut []) };
    snapshot.map_or(NONE, |snapshot| u64::from_be_bytes(snapshot.span.span_id.0))
}

extern "C" fn on_signal(_: libc::c_int) {
    let published = published();
    let expected = EXPECTED.get();
    let tally = if expected == CHANGING {
        &UNJUDGED
    } else if published == expected {
        if expected == NONE { &RIGHT_NONE } else { &RIGHT }
    } else if published == NONE {
        &MISSING
    } else {
        LAST_WRONG[0].store(expected, Ordering::Relaxed);
        LAST_WRONG[1].store(published, Ordering::Relaxed);
        &WRONG
    };
    tally.fetch_add(1, Ordering::Relaxed);
}

/// Threads that are to be signalled.
static THREADS: [AtomicI32; 64] = [const { AtomicI32::new(0) }; 64];

/// The calling thread is to be signalled from now on, if there is room for one more.
pub(crate) fn join() {
    // SAFETY: takes nothing and always succeeds.
    let own = unsafe { libc::gettid() };
    let free =
        |place: &&AtomicI32| place.compare_exchange(0, own, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    let _ = THREADS.iter().find(free);
}

/// The calling thread ends.
pub(crate) fn leave() {
    // SAFETY: takes nothing and always succeeds.
    let own = unsafe { libc::gettid() };
    for place in &THREADS {
        let _ = place.compare_exchange(own, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// How a thread is asked to look at itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// By this program's own signal, whose handler judges at once.
    Own,
    /// By the self-profile's, whose samples end up in its files.
    SelfProfile,
}

/// Asks every joined thread once in each `interval_ns`, until `stopped`; tells how often.
pub(crate) fn ask_all(how: Ask, interval_ns: u64, stopped: impl Fn() -> bool) -> u64 {
    let process = std::process::id() as libc::pid_t;
    // SAFETY: takes a number. Sleeps are else up to 50 microseconds too long.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    let mut asked = 0;
    while !stopped() {
        for thread in &THREADS {
            let thread = thread.load(Ordering::Relaxed);
            if thread != 0 {
                // A thread that ended meanwhile is an error that nobody needs; one that got its id is ours too.
                let sent = match how {
                    Ask::SelfProfile => spanprof::self_profile::sample_thread_now(thread),
                    // SAFETY: takes numbers.
                    Ask::Own => unsafe {
                        libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) == 0
                    },
                };
                asked += u64::from(sent);
            }
        }
        std::thread::sleep(std::time::Duration::from_nanos(interval_ns));
    }
    asked
}

/// What the handler has counted.
pub(crate) fn tell() -> Value {
    let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let wrong = load(&WRONG);
    let last = LAST_WRONG.each_ref().map(|id| format!("{:016x}", load(id)));
    json!({
        "right_with_span": load(&RIGHT),
        "right_without_span": load(&RIGHT_NONE),
        "wrong": wrong,
        "missing": load(&MISSING),
        "unjudged": load(&UNJUDGED),
        "last_wrong": (wrong > 0).then_some(last),
    })
}
