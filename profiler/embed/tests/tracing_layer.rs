//! Our own layer for `tracing`: what a thread publishes against the spans that it has entered.
#![cfg(feature = "tracing")]

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use spanprof::context::thread::{capture, current};
use spanprof::{Attributes, Key, SpanContext, SpanId, TraceId};
use tracing::{Instrument, Span, field, info_span};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Layered, SubscriberExt};

fn subscriber() -> Layered<spanprof::SpanLayer, Registry> {
    tracing_subscriber::registry().with(spanprof::layer())
}

fn with_layer<T>(test: impl FnOnce() -> T) -> T {
    let result = tracing::subscriber::with_default(subscriber(), test);
    assert_eq!(current(), None, "nothing is left behind");
    result
}

/// What is published inside a span.
fn inside(span: &Span) -> (SpanContext, Attributes) {
    span.in_scope(|| capture().expect("a span is published"))
}

fn attribute(key: Key) -> Option<String> {
    capture()?.1.get(key).map(str::to_owned)
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

#[test]
fn generated_ids_make_a_tree() {
    with_layer(|| {
        let root = info_span!("root");
        let (root_ids, attributes) = inside(&root);
        assert!(root_ids.is_valid());
        assert_eq!(attributes.get(Key::LocalRootSpanId), Some(root_ids.span_id.to_string().as_str()));
        let (child_ids, attributes) = root.in_scope(|| inside(&info_span!("child")));
        assert_eq!(child_ids.trace_id, root_ids.trace_id);
        assert_ne!(child_ids.span_id, root_ids.span_id);
        assert_eq!(attributes.get(Key::LocalRootSpanId), Some(root_ids.span_id.to_string().as_str()));
        let (other, _) = root.in_scope(|| inside(&info_span!(parent: None, "another root")));
        assert_ne!(other.trace_id, root_ids.trace_id);
        assert_eq!(inside(&root).0, root_ids, "a span keeps its ids");
    });
}

#[test]
fn ids_are_taken_from_fields() {
    let (trace, span) = (TRACE.parse::<TraceId>().unwrap(), SPAN.parse::<SpanId>().unwrap());
    let header = format!("00-{TRACE}-00f067aa0ba902b7-01");
    with_layer(|| {
        let by_text = inside(&info_span!("root", trace_id = TRACE, span_id = SPAN));
        let by_display = inside(&info_span!("root", trace_id = %trace, span_id = ?SPAN));
        let number = (u128::from_be_bytes(trace.0), u64::from_be_bytes(span.0));
        let by_number = inside(&info_span!("root", trace_id = number.0, span_id = number.1));
        for (found, attributes) in [by_text, by_display, by_number] {
            assert_eq!(found, SpanContext::new(trace, span, 0));
            assert_eq!(attributes.get(Key::LocalRootSpanId), Some(SPAN));
        }
        let (by_header, _) = inside(&info_span!("root", traceparent = header.as_str()));
        assert_eq!((by_header.trace_id, by_header.flags), (trace, 1));
        assert_ne!(by_header.span_id.to_string(), "00f067aa0ba902b7", "that is the sender's span");
        let (nonsense, _) =
            inside(&info_span!("root", trace_id = "nonsense", span_id = 0u64, traceparent = ""));
        assert!(nonsense.is_valid());
    });
}

#[test]
fn messaging_attributes_hold_within_the_span() {
    with_layer(|| {
        let consumer = info_span!(
            "process",
            messaging.destination.name = "orders",
            messaging.consumer.group.name = %"billing",
            order = 7
        );
        consumer.in_scope(|| {
            assert_eq!(attribute(Key::MessagingDestinationName).as_deref(), Some("orders"));
            let inner = info_span!("parse", messaging.operation.name = "process").entered();
            assert_eq!(attribute(Key::MessagingDestinationName).as_deref(), Some("orders"));
            assert_eq!(attribute(Key::MessagingConsumerGroupName).as_deref(), Some("billing"));
            assert_eq!(attribute(Key::MessagingOperationName).as_deref(), Some("process"));
            drop(inner);
            assert_eq!(attribute(Key::MessagingOperationName), None);
            let _send = info_span!("send", messaging.destination.name = "invoices").entered();
            assert_eq!(attribute(Key::MessagingDestinationName).as_deref(), Some("invoices"));
            assert_eq!(attribute(Key::MessagingConsumerGroupName), None, "that group reads another topic");
        });
    });
}

#[test]
fn what_is_recorded_later_is_published_at_once() {
    with_layer(|| {
        let span = info_span!("root", trace_id = field::Empty, messaging.destination.name = field::Empty);
        let (before, _) = inside(&span);
        let other_thread = span.clone();
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        let (go, gone) = mpsc::channel::<()>();
        let (entered, has_entered) = mpsc::channel();
        let other = std::thread::spawn(move || {
            tracing::dispatcher::with_default(&dispatch, || {
                let first = inside(&other_thread).0;
                entered.send(first).unwrap();
                gone.recv().unwrap();
                inside(&other_thread)
            })
        });
        assert_eq!(has_entered.recv().unwrap(), before);
        span.in_scope(|| {
            span.record("trace_id", TRACE);
            span.record("messaging.destination.name", "orders");
            let (after, attributes) = capture().unwrap();
            assert_eq!(after.trace_id.to_string(), TRACE);
            assert_eq!(after.span_id, before.span_id);
            assert_eq!(attributes.get(Key::MessagingDestinationName), Some("orders"));
            assert_eq!(attributes.get(Key::LocalRootSpanId), Some(before.span_id.to_string().as_str()));
        });
        go.send(()).unwrap();
        let (elsewhere, attributes) = other.join().unwrap();
        assert_eq!(elsewhere.trace_id.to_string(), TRACE, "the other thread's cache is not believed");
        assert_eq!(attributes.get(Key::MessagingDestinationName), Some("orders"));
    });
}

#[test]
fn exits_come_in_any_order() {
    with_layer(|| {
        let (first, second, third) = (info_span!("1"), info_span!("2"), info_span!("3"));
        let ids: Vec<_> = [&first, &second, &third].map(|span| inside(span).0).into();
        let one = first.clone().entered();
        let two = second.clone().entered();
        let again = first.clone().entered();
        let three = third.clone().entered();
        assert_eq!(current(), Some(ids[2]));
        drop(two);
        assert_eq!(current(), Some(ids[2]), "an inner one is still entered");
        drop(three);
        assert_eq!(current(), Some(ids[0]));
        drop(one);
        assert_eq!(current(), Some(ids[0]), "entered twice, left once");
        drop(again);
        assert_eq!(current(), None);
    });
}

#[test]
fn a_panic_leaves_nothing() {
    with_layer(|| {
        let panicked = std::panic::catch_unwind(|| {
            let _outer = info_span!("outer").entered();
            let _inner = info_span!("inner").entered();
            assert!(current().is_some());
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(panicked.is_err());
        assert_eq!(current(), None);
    });
}

#[test]
fn spans_marked_by_hand_come_back() {
    with_layer(|| {
        let orders = Attributes::new().with(Key::MessagingDestinationName, "orders");
        let by_hand = spanprof::enter_with_attributes([1; 16], [2; 8], &orders);
        let published = capture();
        let outer = info_span!("outer", messaging.destination.name = "another");
        let inner = outer.in_scope(|| info_span!("inner"));
        // The first time the thread doesn't know them.
        for _ in 0..2 {
            let _outer = outer.enter();
            let _inner = inner.enter();
            assert_eq!(attribute(Key::MessagingDestinationName).as_deref(), Some("another"));
            let _again_by_hand = spanprof::enter([3; 16], [4; 8]);
            assert_eq!(current().unwrap().span_id, SpanId([4; 8]));
        }
        assert_eq!(capture(), published);
        let entered = info_span!("outlives the guard").entered();
        drop(by_hand);
        assert!(current().is_some());
        drop(entered);
    });
}

/// Where a thread's end has taken the layer's storage, spans in the destructors of other storage find none.
#[test]
fn spans_at_a_thread_s_end_leave_nothing() {
    struct Last(Span, Option<tracing::span::EnteredSpan>, mpsc::Sender<Option<SpanContext>>);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.in_scope(|| self.2.send(current()).unwrap());
            self.2.send(current()).unwrap();
            self.1 = None;
            self.2.send(current()).unwrap();
        }
    }
    thread_local! {
        static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) };
    }
    let dispatch = tracing::Dispatch::new(subscriber());
    let (found, finds) = mpsc::channel();
    std::thread::spawn(move || {
        // Destroyed in the reverse order of their first use: the layer's storage, then this, then the registry's.
        tracing::subscriber::with_default(tracing_subscriber::registry(), || info_span!("").in_scope(|| {}));
        LAST.with(|_| {});
        tracing::dispatcher::with_default(&dispatch, || {
            let span = info_span!("span");
            let entered = span.clone().entered();
            LAST.set(Some(Last(span, Some(entered), found)));
            assert!(current().is_some());
        });
    })
    .join()
    .unwrap();
    let finds: Vec<_> = finds.iter().collect();
    assert_eq!(finds[1..], [None, None], "{finds:?}");
}

#[test]
fn two_subscribers_have_spans_of_the_same_id() {
    let (first, second) = (tracing::Dispatch::new(subscriber()), tracing::Dispatch::new(subscriber()));
    let outer = tracing::dispatcher::with_default(&first, || info_span!("first"));
    let inner = tracing::dispatcher::with_default(&second, || info_span!("second"));
    assert_eq!(
        outer.id().map(|id| id.into_u64()),
        inner.id().map(|id| id.into_u64()),
        "else nothing is tested"
    );
    let (outer_ids, inner_ids) = (inside(&outer).0, inside(&inner).0);
    assert_ne!(outer_ids, inner_ids);
    outer.in_scope(|| {
        assert_eq!(current(), Some(outer_ids));
        inner.in_scope(|| assert_eq!(current(), Some(inner_ids)));
        assert_ne!(current(), Some(inner_ids));
    });
    assert_eq!(current(), None);
}

/// A place in the registry serves many spans, one after another, until its ids come again: the cache of a thread that saw
/// an early one must not take a late one for it.
#[test]
fn ids_that_come_again_are_not_mistaken() {
    const SPANS: usize = 20_000;
    let dispatch = tracing::Dispatch::new(subscriber());
    let (spans, received) = mpsc::channel::<(Span, SpanId)>();
    let (answers, answered) = mpsc::channel();
    let watcher = dispatch.clone();
    let other = std::thread::spawn(move || {
        tracing::dispatcher::with_default(&watcher, || {
            for (span, truth) in received {
                answers.send((inside(&span).0.span_id, truth)).unwrap();
                // The span ends where it began, as its place would else go to this thread.
                drop(span);
                answers.send((truth, truth)).unwrap();
            }
        });
    });
    let mut first = HashSet::new();
    let mut repeated = 0;
    tracing::dispatcher::with_default(&dispatch, || {
        for number in 0..SPANS {
            let span = info_span!("span", span_id = number as u64 + 1);
            let id = span.id().unwrap().into_u64();
            let is_repeated = first.contains(&id);
            repeated += usize::from(is_repeated);
            if number == 0 || is_repeated {
                first.insert(id);
                let truth = SpanId((number as u64 + 1).to_be_bytes());
                spans.send((span.clone(), truth)).unwrap();
                for _ in 0..2 {
                    let (found, truth) = answered.recv().unwrap();
                    assert_eq!(found, truth);
                }
            }
        }
    });
    drop(spans);
    other.join().unwrap();
    assert!(repeated > 0, "no id came again, so nothing was tested");
}

#[test]
fn tasks_that_hop_threads_are_never_published_wrong() {
    const TASKS: u64 = 64;
    const STEPS: u64 = 300;
    static GLOBAL: std::sync::Once = std::sync::Once::new();
    GLOBAL.call_once(|| tracing::subscriber::set_global_default(subscriber()).unwrap());
    let (checks, wrong, hops) =
        (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (1..=TASKS)
            .map(|number| {
                let (checks, wrong, hops) = (checks.clone(), wrong.clone(), hops.clone());
                let check = move |expected: Option<u64>| {
                    checks.fetch_add(1, Ordering::Relaxed);
                    let found = current().map(|span| u64::from_be_bytes(span.span_id.0));
                    if found != expected {
                        wrong.fetch_add(1, Ordering::Relaxed);
                    }
                };
                tokio::spawn(async move {
                    check(None);
                    let inner_check = check.clone();
                    let body = async move {
                        for step in 0..STEPS {
                            let thread = std::thread::current().id();
                            inner_check(Some(number));
                            tokio::task::yield_now().await;
                            inner_check(Some(number));
                            if std::thread::current().id() != thread {
                                hops.fetch_add(1, Ordering::Relaxed);
                            }
                            let inner_id = number << 32 | (step + 1);
                            let inner_check = inner_check.clone();
                            async move {
                                inner_check(Some(inner_id));
                                tokio::task::yield_now().await;
                                inner_check(Some(inner_id));
                            }
                            .instrument(info_span!("parse", span_id = inner_id))
                            .await;
                        }
                    };
                    body.instrument(info_span!(parent: None, "process", span_id = number)).await;
                    check(None);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!(wrong.load(Ordering::Relaxed), 0);
    assert!(checks.load(Ordering::Relaxed) >= TASKS * STEPS * 4);
    assert!(hops.load(Ordering::Relaxed) > 0, "no task hopped, so nothing was tested");
}
