//! Reading and writing a context allocates nothing, whatever it is read from.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashMap;
use std::hint::black_box;

use spanprof_context::{SpanId, TraceId};
use spanprof_messaging::carrier::{LastWins, reading, writing};
use spanprof_messaging::mqtt::{envelope, json};
use spanprof_messaging::rocketmq::Properties;
use spanprof_messaging::{TraceContext, nats};

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

fn allocations(operation: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    operation();
    ALLOCATIONS.get() - before
}

const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn the_count_works() {
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 1);
}

#[test]
fn codecs_allocate_nothing() {
    let counted = allocations(|| {
        let context = TraceContext::new(TraceId([1; 16]), SpanId([2; 8]), 1).unwrap();
        black_box(context.to_traceparent().as_str());
        black_box(TraceContext::from_binary(&context.to_binary()));
        black_box(TraceContext::parse(TEXT).unwrap().with_tracestate("a=1,b=2").tracestate());
        black_box(TraceContext::parse("junk"));
        black_box(context.to_opentelemetry());
    });
    assert_eq!(counted, 0);
}

#[test]
fn carriers_allocate_nothing_to_be_read() {
    let map = HashMap::from([("traceparent", TEXT), ("tracestate", "a=1")]);
    let pairs = [("traceparent".to_owned(), TEXT.as_bytes().to_vec())];
    let raw = format!("TAGS\u{1}placed\u{2}traceparent\u{1}{TEXT}\u{2}");
    let lists = HashMap::from([("Traceparent".to_owned(), vec![TEXT.to_owned()])]);
    let context = TraceContext::parse(TEXT);
    let payload = json::insert(b"{\"a\":[1,{}]}", context.as_ref());
    let wrapped = envelope::wrap(b"payload", context.as_ref());
    let counted = allocations(|| {
        assert!(TraceContext::extract(&map).unwrap().tracestate().is_some());
        assert!(TraceContext::extract(&pairs[..]).is_some());
        assert!(TraceContext::extract(&LastWins(&pairs[..])).is_some());
        assert!(TraceContext::extract(&Properties::new(&raw)).is_some());
        assert!(TraceContext::extract(&nats::Headers(&lists)).is_some());
        assert!(TraceContext::extract(&json::Payload(&payload)).is_some());
        assert!(TraceContext::extract(&reading(|_| Some(TEXT.as_bytes()))).is_some());
        assert!(json::read(&payload).is_some());
        assert!(envelope::unwrap(&wrapped).0.is_some());
        assert!(TraceContext::extract(&()).is_none());
    });
    assert_eq!(counted, 0);
}

#[test]
fn writing_allocates_what_the_carrier_does() {
    let context = TraceContext::parse(TEXT).unwrap().with_tracestate("a=1");
    let mut written = [0u8; 64];
    let counted = allocations(|| {
        context.inject(&mut writing(|key: &str, value: Option<&str>| {
            if let ("traceparent", Some(value)) = (key, value) {
                written[..value.len()].copy_from_slice(value.as_bytes());
            }
        }));
    });
    assert_eq!((counted, &written[..55]), (0, TEXT.as_bytes()));
}
