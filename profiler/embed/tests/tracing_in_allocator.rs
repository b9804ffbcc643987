//! An allocator that has spans of its own: what the layer allocates and frees in the middle of an enter, an exit or a record
//! enters and leaves them, and the layer must bear that.
#![cfg(feature = "tracing")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use spanprof::context::thread::current;
use tracing::{Dispatch, Span, dispatcher, field, info_span};
use tracing_subscriber::layer::SubscriberExt;

struct Traced;

/// The allocator's span.
static SPAN: OnceLock<Span> = OnceLock::new();
static ENTERED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static IS_TRACED: Cell<bool> = const { Cell::new(false) };
}

fn trace() {
    // An allocation within the span has none.
    if IS_TRACED.replace(false) {
        let span = SPAN.get().unwrap();
        span.in_scope(|| ENTERED.fetch_add(1, Ordering::Relaxed));
        IS_TRACED.set(true);
    }
}

// SAFETY: hands every call on to the system's allocator.
unsafe impl GlobalAlloc for Traced {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        trace();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) };
        trace();
    }
}

#[global_allocator]
static ALLOCATOR: Traced = Traced;

fn subscriber() -> Dispatch {
    Dispatch::new(tracing_subscriber::registry().with(spanprof::layer()))
}

/// Runs with the allocator's spans, and tells how many there were.
fn traced<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ENTERED.load(Ordering::Relaxed);
    IS_TRACED.set(true);
    let result = work();
    IS_TRACED.set(false);
    (result, ENTERED.load(Ordering::Relaxed) - before)
}

/// Makes the calling thread ready for the allocator's span. The registry doesn't bear spans in the middle of its own work, so
/// this one is in another than the tests', whose room on the thread is made here.
fn prepare() {
    let span = SPAN.get_or_init(|| dispatcher::with_default(&subscriber(), || info_span!("allocator")));
    span.in_scope(|| {});
}

#[test]
fn spans_of_the_allocator_disturb_none() {
    prepare();
    dispatcher::with_default(&subscriber(), || {
        let spans: Vec<_> = (1..=100u64).map(|number| info_span!("span", span_id = number)).collect();
        let number = || current().map(|span| u64::from_be_bytes(span.span_id.0));
        let mut seen = 0;
        for _ in 0..2 {
            let mut entered = Vec::with_capacity(spans.len());
            for (span, expected) in spans.iter().zip(1..) {
                let (guard, times) = traced(|| span.enter());
                entered.push(guard);
                seen += times;
                assert_eq!(number(), Some(expected));
            }
            while let Some(guard) = entered.pop() {
                let ((), times) = traced(|| drop(guard));
                seen += times;
                assert_eq!(number().unwrap_or(0), entered.len() as u64);
            }
        }
        assert!(seen > 2, "{seen} spans of the allocator, so hardly anything was tested");

        let by_hand = spanprof::enter([1; 16], [99; 8]);
        let recorded = info_span!("recorded", messaging.destination.name = field::Empty);
        let ((), times) = traced(|| {
            let _entered = recorded.enter();
            recorded.record("messaging.destination.name", "orders");
        });
        assert!(times > 0);
        drop(by_hand);
        assert_eq!(current(), None);
    });
}

/// What a thread has entered is freed at its end, when it can't be made anew.
#[test]
fn nor_do_they_at_a_thread_s_end() {
    /// Destroyed in the reverse order of their first use: these two just before and just after the layer's storage.
    struct Switch(bool);
    impl Drop for Switch {
        fn drop(&mut self) {
            IS_TRACED.set(self.0);
            if !self.0 {
                assert_eq!(current(), None);
            }
        }
    }
    thread_local! {
        static ON: Switch = const { Switch(true) };
        static OFF: Switch = const { Switch(false) };
    }
    std::thread::spawn(|| {
        let bare = Dispatch::new(tracing_subscriber::registry());
        dispatcher::with_default(&bare, || info_span!("first").in_scope(|| {}));
        OFF.with(|_| {});
        prepare();
        ON.with(|_| {});
    })
    .join()
    .unwrap();
    assert!(ENTERED.load(Ordering::Relaxed) > 0);
}
