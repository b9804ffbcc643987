//! What watching allocates: once per task that suspends, once per thread, and nothing that stays.
#![cfg(feature = "await-points")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::task::{Context, Poll, Waker};

use spanprof::await_points::{WatchExt, drain};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

static LIVE: AtomicIsize = AtomicIsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: hands every call on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Pending at every poll, with a kept waker that wakes at once.
fn suspends() -> impl Future<Output = ()> {
    let mut kept: Option<Waker> = None;
    poll_fn(move |context| {
        kept.insert(context.waker().clone()).wake_by_ref();
        Poll::Pending
    })
}

fn allocations(run: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

/// One test, so that no other thread's memory is counted.
#[test]
fn only_the_first_suspension_allocates_and_short_threads_leave_nothing() {
    const OFTEN: u64 = if cfg!(miri) { 100 } else { 10_000 };
    let mut context = Context::from_waker(Waker::noop());
    let mut poll_often = |future: std::pin::Pin<&mut dyn Future<Output = ()>>, times| {
        let mut future = future;
        for _ in 0..times {
            assert!(future.as_mut().poll(&mut context).is_pending());
        }
    };
    {
        let mut future = pin!(suspends().watched());
        // The thread's recorder, the place, the task.
        let first = allocations(|| poll_often(future.as_mut(), 2));
        assert!(first > 0, "the counter counts");
        assert_eq!(allocations(|| poll_often(future.as_mut(), OFTEN)), 0);
        drain(&mut |suspension| assert_eq!(suspension.count, OFTEN + 1));
        assert_eq!(allocations(|| poll_often(future.as_mut(), OFTEN)), 0, "also after a drain");
    }
    let mut second = pin!(suspends().watched());
    assert_eq!(allocations(|| poll_often(second.as_mut(), 100)), 1, "another task on the same thread");
    let ready = allocations(|| {
        assert!(
            pin!(std::future::ready(()).watched()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
        );
    });
    assert_eq!(ready, 0, "a future that never waits");

    const THREADS: usize = if cfg!(miri) { 10 } else { 10_000 };
    let one_thread = || {
        let poll = || {
            let mut future = pin!(suspends().watched());
            for _ in 0..3 {
                assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }
        };
        std::thread::spawn(poll).join().expect("no panic");
    };
    for _ in 0..10 {
        one_thread();
    }
    let before = LIVE.load(Ordering::Relaxed);
    for _ in 0..THREADS {
        one_thread();
    }
    let left = LIVE.load(Ordering::Relaxed) - before;
    assert!(left < 4096, "{left} bytes stay of {THREADS} threads");
}
