//! Wakers in all the places that the contract allows; also run by the interpreter that finds undefined behaviour:
//!
//!     cargo +nightly miri test -p spanprof --no-default-features --features await-points --test await_points_sound
//!
//! No runtime here: wakers are kept, cloned, woken and dropped by hand, on any thread.
#![cfg(feature = "await-points")]

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use spanprof::await_points::{Times, WatchExt, drain, lost, watch};

/// Wakes by unparking a thread, and counts.
struct Unpark {
    thread: Thread,
    wakes: AtomicUsize,
}

impl Unpark {
    fn new() -> Arc<Self> {
        Arc::new(Self { thread: thread::current(), wakes: AtomicUsize::new(0) })
    }

    fn wakes(&self) -> usize {
        self.wakes.load(Ordering::SeqCst)
    }
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// Polls only when woken, so that a lost wake-up hangs.
fn block_on<F: Future>(future: F) -> F::Output {
    let unpark = Unpark::new();
    let waker = Waker::from(unpark.clone());
    let mut future = pin!(future);
    let mut seen = 0;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        while unpark.wakes() == seen {
            thread::park();
        }
        seen = unpark.wakes();
    }
}

fn poll_once<F: Future>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

/// Pending a number of times, each time leaving a waker to somebody.
fn pending(times: usize, mut leave: impl FnMut(&Waker)) -> impl Future<Output = ()> {
    let mut left = times;
    poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        leave(context.waker());
        Poll::Pending
    })
}

fn assert_closed(times: Times) {
    assert_eq!(times.wall, times.polled + times.suspended + times.ready);
}

#[test]
fn other_threads_wake_by_value_by_reference_and_through_clones() {
    let mut round = 0;
    let future = pending(6, |waker| {
        let waker = waker.clone();
        round += 1;
        let kind = round % 3;
        thread::spawn(move || match kind {
            0 => waker.wake(),
            1 => waker.wake_by_ref(),
            _ => {
                let second = waker.clone();
                drop(waker);
                second.wake();
            }
        });
    });
    let ((), times) = block_on(future.watched().with_times());
    assert_closed(times);
    assert!(times.suspended + times.ready > 0);
}

#[test]
fn wakers_outlive_a_cancelled_future() {
    let kept = Mutex::new(Vec::new());
    let unpark = Unpark::new();
    let waker = Waker::from(unpark.clone());
    {
        let future = pending(3, |waker| kept.lock().unwrap().push(waker.clone())).watched();
        let mut future = pin!(future);
        assert!(poll_once(future.as_mut(), &waker).is_pending());
        assert!(poll_once(future.as_mut(), &waker).is_pending());
    }
    let mut kept = kept.into_inner().unwrap();
    let (first, second) = (kept.pop().unwrap(), kept.pop().unwrap());
    thread::scope(|scope| {
        scope.spawn(move || first.wake());
        scope.spawn(|| second.wake_by_ref());
    });
    assert_eq!(unpark.wakes(), 2);
    thread::spawn(move || drop(second)).join().unwrap();
    drop(waker);
    assert_eq!(Arc::strong_count(&unpark), 1, "the runtime's waker is let go with the last kept one");
}

#[test]
fn a_poll_that_panics_after_a_clone_harms_nobody() {
    let kept = Mutex::new(None);
    let unpark = Unpark::new();
    let waker = Waker::from(unpark.clone());
    let mut polls = 0;
    let mut future = Box::pin(watch(poll_fn(|context| -> Poll<()> {
        *kept.lock().unwrap() = Some(context.waker().clone());
        polls += 1;
        if polls == 2 {
            panic!("as asked");
        }
        Poll::Pending
    })));
    assert!(poll_once(future.as_mut(), &waker).is_pending());
    assert!(catch_unwind(AssertUnwindSafe(|| poll_once(future.as_mut(), &waker))).is_err());
    assert_closed(future.times());
    drop(future);
    kept.into_inner().unwrap().unwrap().wake();
    assert_eq!(unpark.wakes(), 1);
}

#[test]
fn the_runtimes_waker_may_change_at_every_poll() {
    let kept = Mutex::new(Vec::new());
    let future = pending(4, |waker| kept.lock().unwrap().push(waker.clone())).watched();
    let mut future = pin!(future);
    let unparks: Vec<_> = (0..4).map(|_| Unpark::new()).collect();
    for unpark in &unparks {
        assert!(poll_once(future.as_mut(), &Waker::from(unpark.clone())).is_pending());
    }
    for waker in kept.lock().unwrap().drain(..) {
        waker.wake();
    }
    assert!(unparks.iter().all(|unpark| unpark.wakes() == 1), "each one wakes the waker of its poll");
    assert!(poll_once(future.as_mut(), Waker::noop()).is_ready());
    assert_closed(future.times());
}

#[test]
fn a_poll_may_lend_its_waker_to_other_threads() {
    let unpark = Unpark::new();
    let waker = Waker::from(unpark.clone());
    let future = poll_fn(|context| {
        let own = context.waker().clone();
        let theirs = thread::scope(|scope| {
            let waker = context.waker();
            let clones: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(move || {
                        waker.wake_by_ref();
                        waker.clone()
                    })
                })
                .collect();
            clones.into_iter().map(|clone| clone.join().unwrap()).collect::<Vec<_>>()
        });
        context.waker().wake_by_ref();
        own.wake();
        theirs.into_iter().for_each(Waker::wake);
        Poll::<()>::Pending
    });
    let mut future = Box::pin(future.watched());
    assert!(poll_once(future.as_mut(), &waker).is_pending());
    assert_eq!(unpark.wakes(), 3 + 1 + 1 + 3);
}

#[test]
fn a_future_that_wakes_itself_by_reference_goes_on() {
    let ((), times) = block_on(pending(10, Waker::wake_by_ref).watched().with_times());
    assert_closed(times);
    // The clock may step by some nanoseconds, once, when it changes over.
    assert!(times.suspended < 1_000, "woken before it was Pending: {times:?}");
}

#[test]
fn a_watch_within_a_watch_hands_on() {
    let unpark = Unpark::new();
    let waker = Waker::from(unpark.clone());
    let kept = Mutex::new(None);
    let inner = pending(2, |waker| *kept.lock().unwrap() = Some(waker.clone())).watched().with_times();
    let outer = async { watch(inner).await.1 }.watched().with_times();
    let mut outer = pin!(outer);
    for wakes in 1..=2 {
        assert!(poll_once(outer.as_mut(), &waker).is_pending());
        kept.lock().unwrap().take().unwrap().wake();
        assert_eq!(unpark.wakes(), wakes);
    }
    let Poll::Ready((inner, outer)) = poll_once(outer.as_mut(), &waker) else { panic!("not ready") };
    assert_closed(outer);
    assert_eq!(inner, Times::default());
}

#[test]
fn a_future_may_move_under_another_watch_and_out_again() {
    let kept = Mutex::new(Vec::new());
    let mut future = Box::pin(pending(3, |waker| kept.lock().unwrap().push(waker.clone())).watched());
    assert!(poll_once(future.as_mut(), Waker::noop()).is_pending());
    {
        let mut outer = pin!(watch(poll_fn(|context| future.as_mut().poll(context))));
        assert!(poll_once(outer.as_mut(), Waker::noop()).is_pending());
    }
    assert!(poll_once(future.as_mut(), Waker::noop()).is_pending());
    kept.lock().unwrap().drain(..).for_each(Waker::wake);
    assert!(poll_once(future.as_mut(), Waker::noop()).is_ready());
    assert_closed(future.times());
}

#[test]
fn members_with_wakers_of_their_own_are_woken() {
    block_on(
        async {
            let member = |number: usize| {
                let leaf = pending(number % 4, |waker| {
                    let waker = waker.clone();
                    thread::spawn(move || waker.wake());
                });
                async move {
                    leaf.watched().await;
                    number
                }
            };
            let members: FuturesUnordered<_> = (0..8).map(member).collect();
            let mut numbers: Vec<_> = members.collect().await;
            numbers.sort_unstable();
            assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7]);
        }
        .watched(),
    );
}

#[test]
fn more_branches_than_there_are_numbers_all_wake() {
    let unpark = Unpark::new();
    let waker = Waker::from(unpark.clone());
    let kept = Mutex::new(Vec::new());
    let future = pending(2, |waker| {
        let mut kept = kept.lock().unwrap();
        kept.extend((0..100).map(|_| waker.clone()));
    });
    let mut future = pin!(future.watched());
    for _ in 0..2 {
        assert!(poll_once(future.as_mut(), &waker).is_pending());
    }
    kept.lock().unwrap().drain(..).for_each(Waker::wake);
    assert_eq!(unpark.wakes(), 200);
    assert!(poll_once(future.as_mut(), &waker).is_ready());
    assert_closed(future.times());
}

/// Its clone comes back to the waker that is just being cloned, which safe code can bring about by a scoped
/// thread-local.
#[test]
fn a_runtimes_waker_may_come_back_while_it_is_cloned() {
    use std::task::{RawWaker, RawWakerVTable};
    thread_local! {
        static BACK: Cell<Option<Waker>> = const { Cell::new(None) };
        static DEPTH: Cell<usize> = const { Cell::new(0) };
    }
    unsafe fn clone(data: *const ()) -> RawWaker {
        if DEPTH.get() < 3 {
            DEPTH.set(DEPTH.get() + 1);
            if let Some(waker) = BACK.take() {
                let again = waker.clone();
                BACK.set(Some(waker));
                drop(again);
            }
        }
        RawWaker::new(data, &TABLE)
    }
    static TABLE: RawWakerVTable = RawWakerVTable::new(clone, |_| {}, |_| {}, |_| {});
    // SAFETY: no function of the table uses its data.
    let outer = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &TABLE)) };
    let future = poll_fn(|context| {
        // What lies in `BACK` is a bitwise copy of a waker that is never dropped: the poll's own has no destructor.
        // SAFETY: taken out and forgotten before the poll ends.
        let copy =
            unsafe { Waker::from_raw(RawWaker::new(context.waker().data(), context.waker().vtable())) };
        BACK.set(Some(copy));
        let kept = context.waker().clone();
        std::mem::forget(BACK.take());
        drop(kept);
        Poll::<()>::Pending
    });
    let mut future = Box::pin(future.watched());
    assert!(poll_once(future.as_mut(), &outer).is_pending());
    assert!(DEPTH.get() > 0);
}

/// By far more than a thread that lost its processor while it wrote needs to get it back.
const LONGEST_WRITE: Duration = Duration::from_secs(60);

#[test]
fn threads_come_and_go_while_somebody_drains() {
    const THREADS: usize = if cfg!(miri) { 6 } else { 2_000 };
    let over = AtomicUsize::new(0);
    let count = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while over.load(Ordering::SeqCst) < THREADS {
                drain(&mut |suspension| {
                    count.fetch_add(suspension.count as usize, Ordering::SeqCst);
                });
                thread::yield_now();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..THREADS / 2 {
                    let one = || block_on(pending(3, Waker::wake_by_ref).watched());
                    thread::spawn(one).join().unwrap();
                    over.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    // Tests beside this one record too, and what they record is drained here. One of their threads may hold a table in
    // which something of ours is left, also while it has no processor: then the next drain shows it.
    let start = Instant::now();
    while count.load(Ordering::SeqCst) < 3 * THREADS {
        let count = &count;
        drain(&mut |suspension| {
            count.fetch_add(suspension.count as usize, Ordering::SeqCst);
        });
        let so_far = count.load(Ordering::SeqCst);
        assert!(
            so_far >= 3 * THREADS || start.elapsed() < LONGEST_WRITE,
            "{so_far} were handed over; {:?}",
            lost()
        );
        thread::yield_now();
    }
}

#[test]
fn a_watch_is_what_its_future_is() {
    fn is_all<T: Send + Sync + Unpin + std::panic::UnwindSafe + std::panic::RefUnwindSafe>(_: &T) {}
    is_all(&std::future::ready(()).watched());
    is_all(&std::future::ready(()).watched().with_times());
}
