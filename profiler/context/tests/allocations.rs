//! Publishing allocates nothing, not even at a thread's first use.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use spanprof_context::{Attributes, Key, Prepared, SpanContext, SpanId, TraceId, thread};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: hands every call on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn publishing_allocates_nothing() {
    let span = SpanContext::new(TraceId([1; 16]), SpanId([2; 8]), 1);
    let attributes = Attributes::new().with(Key::MessagingDestinationName, "orders");
    let prepared = Prepared::new(span, attributes.clone().into());
    let counted = std::thread::spawn(move || {
        let before = ALLOCATIONS.get();
        for _ in 0..100 {
            thread::set(&span);
            thread::set_with_attributes(&span, &attributes);
            prepared.set();
            thread::clear();
            let _outer = thread::enter(&span);
            let _inner = thread::enter_with_attributes(&span, &attributes);
            black_box(thread::current());
        }
        let publishing = ALLOCATIONS.get() - before;
        drop(black_box(Box::new(1)));
        (publishing, ALLOCATIONS.get() - before)
    });
    assert_eq!(
        counted.join().unwrap(),
        (0, 1),
        "none while publishing; and one that was meant, so that the count works"
    );
}
