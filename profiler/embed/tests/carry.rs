//! Spans carried to other threads: plain ones, tokio's blocking ones and a pool's; with OpenTelemetry and without.

use std::collections::HashSet;
use std::sync::Mutex;
use std::thread;

use rayon::prelude::*;
use spanprof::context::thread::{capture, current};
use spanprof::{Attributes, Key, carry};

fn orders() -> Attributes {
    Attributes::new().with(Key::MessagingDestinationName, "orders")
}

#[test]
fn a_span_marked_by_hand_is_carried_to_a_thread() {
    let (carried, published) = {
        let _span = spanprof::enter_with_attributes([1; 16], [2; 8], &orders());
        (carry(), capture())
    };
    assert_eq!(current(), None);
    assert_eq!(carried.span(), published.as_ref().map(|(span, _)| *span));
    let seen = thread::spawn(carried.clone().wrap(move || {
        let inside = capture();
        {
            let _inner = spanprof::enter([1; 16], [3; 8]);
            assert_ne!(current(), inside.as_ref().map(|(span, _)| *span));
        }
        assert_eq!(capture(), inside);
        inside
    }));
    assert_eq!(seen.join().unwrap(), published);
    // It may be used again, also where something else is published.
    let _other = spanprof::enter([7; 16], [8; 8]);
    let other = capture();
    carried.run(|| assert_eq!(current(), carried.span()));
    assert_eq!(capture(), other);
}

#[test]
fn nothing_is_carried_as_nothing() {
    let nothing = carry();
    let _span = spanprof::enter([1; 16], [2; 8]);
    let outside = current();
    nothing.run(|| assert_eq!(current(), None));
    assert_eq!(current(), outside);
}

#[test]
fn a_panic_leaves_nothing() {
    let carried = {
        let _span = spanprof::enter([1; 16], [2; 8]);
        carry()
    };
    let panicking = carried.wrap(|| {
        assert!(current().is_some());
        std::panic::resume_unwind(Box::new(()))
    });
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panicking)).is_err());
    assert_eq!(current(), None);
}

#[test]
fn blocking_tasks_publish_what_they_were_given() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (1..=100u8)
            .map(|number| {
                let _span = spanprof::enter([number; 16], [number; 8]);
                let expected = current();
                let work = carry().wrap(move || assert_eq!(current(), expected));
                tokio::task::spawn_blocking(work)
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        // The threads that did it are free of it.
        tokio::task::spawn_blocking(|| assert_eq!(current(), None)).await.unwrap();
    });
}

#[test]
fn a_pool_publishes_what_each_piece_was_given() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    let threads = Mutex::new(HashSet::new());
    (1..=20u8).for_each(|message| {
        let _span = spanprof::enter([message; 16], [message; 8]);
        let (carried, expected) = (carry(), current());
        pool.install(|| {
            (0..100).into_par_iter().for_each(|_| {
                carried.run(|| {
                    assert_eq!(current(), expected);
                    threads.lock().unwrap().insert(thread::current().id());
                });
                assert_eq!(current(), None);
            });
        });
    });
    assert!(threads.lock().unwrap().len() > 1, "one thread did all, so nothing was tested");
}

#[cfg(feature = "opentelemetry")]
mod with_opentelemetry {
    use std::sync::{Arc, Once};

    use opentelemetry::Context;
    use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};

    use super::*;

    fn install() {
        static INSTALL: Once = Once::new();
        INSTALL.call_once(|| {
            let agent =
                spanprof::Agent::builder().service_name("test").start().expect("nothing wrong was set");
            assert!(agent.notes().is_empty());
        });
    }

    #[derive(PartialEq, Debug)]
    struct Baggage(u32);

    fn attach(number: u8) -> opentelemetry::ContextGuard {
        let span = SpanContext::new(
            TraceId::from_bytes([number; 16]),
            SpanId::from_bytes([number; 8]),
            TraceFlags::SAMPLED,
            true,
            TraceState::NONE,
        );
        let attributes = Arc::new(orders());
        let context = Context::new().with_value(Baggage(7)).with_remote_span_context(span);
        spanprof::with_attributes(&context, &attributes).attach()
    }

    #[test]
    fn the_context_is_carried_with_the_span() {
        install();
        let attached = attach(5);
        let published = capture();
        assert!(published.is_some());
        let work = carry().wrap(|| {
            let baggage = Context::map_current(|context| context.get::<Baggage>().map(|baggage| baggage.0));
            (capture(), baggage)
        });
        drop(attached);
        thread::spawn(|| {
            assert_eq!(work(), (published, Some(7)));
            assert_eq!(current(), None);
            assert!(!Context::map_current(TraceContextExt::has_active_span));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_span_marked_by_hand_within_a_context_is_carried_with_it() {
        install();
        let attached = attach(6);
        let by_hand = spanprof::enter([9; 16], [9; 8]);
        let published = capture();
        let work = carry().wrap(|| (capture(), Context::map_current(TraceContextExt::has_active_span)));
        drop(by_hand);
        drop(attached);
        let seen = thread::spawn(|| {
            let seen = work();
            assert_eq!(current(), None);
            seen
        });
        let (found, has_context) = seen.join().unwrap();
        assert_eq!(found.as_ref().map(|(span, _)| *span), published.map(|(span, _)| span));
        assert_eq!(found.unwrap().1.get(Key::MessagingDestinationName), Some("orders"));
        assert!(has_context);
    }

    #[test]
    fn contexts_without_a_span_leave_spans_marked_by_hand_alone() {
        install();
        let carried = carry();
        let _by_hand = spanprof::enter([1; 16], [2; 8]);
        let published = current();
        {
            let _attached = Context::new().with_value(Baggage(1)).attach();
            assert_eq!(current(), published);
        }
        assert_eq!(current(), published);
        carried.run(|| assert_eq!(current(), None));
        assert_eq!(current(), published);
    }
}
