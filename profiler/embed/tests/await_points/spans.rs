//! Whose wait it is, and whose work ended it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use spanprof::await_points::{Timed, WatchExt};
use spanprof::{Attributes, Key};
use tokio::sync::oneshot;

use crate::seen::{self, async_functions, in_span, span};

#[test]
fn a_wait_belongs_to_the_innermost_span() {
    let (outer_sender, outer_receiver) = oneshot::channel::<()>();
    let (inner_sender, inner_receiver) = oneshot::channel::<()>();
    let handler = async {
        in_span(span(20, 2), async { inner_receiver.await.unwrap() }).await;
        outer_receiver.await.unwrap();
    };
    let mut handler = pin!(in_span(span(20, 1), handler).watched());
    let mut poll = || handler.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll().is_pending());
    inner_sender.send(()).unwrap();
    assert!(poll().is_pending());
    outer_sender.send(()).unwrap();
    assert!(poll().is_ready());
    let mut spans: Vec<_> = seen::of(20, 2).iter().map(|seen| seen.span).collect();
    spans.sort_by_key(|span| span.span_id);
    assert_eq!(spans, [span(20, 1), span(20, 2)]);
}

#[test]
fn branches_of_one_poll_have_their_own_spans() {
    const SPANS: u64 = 10;
    let (mut senders, receivers): (Vec<_>, Vec<_>) = (0..SPANS).map(|_| oneshot::channel::<()>()).unzip();
    let members = receivers.into_iter().zip(1..).map(|(receiver, number)| {
        in_span(span(21, number), async move {
            receiver.await.unwrap();
        })
    });
    let mut handler = pin!(futures::future::join_all(members).watched());
    let mut poll = || handler.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let lost = spanprof::await_points::lost().spans;
    for sender in senders.drain(..8) {
        assert!(poll().is_pending());
        sender.send(()).unwrap();
    }
    assert!(poll().is_pending());
    // Each suspension under the span that was woken, the last two members' none.
    let mut spans: Vec<_> = seen::of(21, 8).iter().map(|seen| seen.span).collect();
    spans.sort_by_key(|span| span.span_id);
    assert_eq!(spans, (1..=8).map(|number| span(21, number)).collect::<Vec<_>>());
    // Two more spans than are told apart at the first poll, one at the second.
    assert!(spanprof::await_points::lost().spans >= lost + 3);
}

#[test]
fn the_messages_attributes_come_along() {
    let orders = Attributes::new()
        .with(Key::MessagingDestinationName, "orders")
        .with(Key::MessagingConsumerGroupName, "billing")
        .with(Key::MessagingOperationName, &"x".repeat(120));
    let (sender, receiver) = oneshot::channel::<()>();
    let mut receiver = pin!(receiver);
    let mut handler = pin!(
        poll_fn(|context| {
            let _span = spanprof::enter_with_attributes([22; 16], [1; 8], &orders);
            receiver.as_mut().poll(context)
        })
        .watched()
    );
    let mut poll = || handler.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll().is_pending());
    sender.send(()).unwrap();
    assert!(poll().is_ready());
    // The third entry is too long for what is kept.
    assert_eq!(seen::of(22, 1)[0].attributes, b"\x01\x06orders\x02\x07billing");
}

#[test]
fn who_woke_is_known_by_thread_and_span() {
    let (sender, receiver) = oneshot::channel::<()>();
    let mut handler = pin!(in_span(span(23, 1), receiver).watched());
    let mut poll = || handler.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll().is_pending());
    let thread = std::thread::spawn(|| {
        let _span = spanprof::enter([23; 16], [9; 8]);
        sender.send(()).unwrap();
        // SAFETY: no arguments, no failure.
        unsafe { libc::gettid() as u32 }
    });
    let thread = thread.join().unwrap();
    assert!(matches!(poll(), Poll::Ready(Ok(()))));
    let by = seen::of(23, 1)[0].woken_by.expect("known");
    assert_eq!(by.thread, thread);
    assert_eq!(by.span.expect("in a span").span_id.0, [9; 8]);
}

#[test]
fn a_cancelled_wait_is_counted_up_to_its_end() {
    async fn waits_for_nothing() {
        std::future::pending::<()>().await;
    }
    async fn waits_in_vain(receiver: oneshot::Receiver<()>) {
        receiver.await.unwrap();
    }
    let (_sender, receiver) = oneshot::channel::<()>();
    let mut handler: std::pin::Pin<Box<Timed<_>>> =
        Box::pin(in_span(span(24, 1), waits_in_vain(receiver)).watched().with_times());
    assert!(handler.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(handler);
    let seen = seen::of(24, 1);
    assert_eq!((seen[0].count, seen[0].cancelled), (1, 1));
    assert_eq!(async_functions(&seen[0].place), ["waits_in_vain"]);
    assert!(seen[0].suspended > 0 && seen[0].ready == 0 && seen[0].longest == seen[0].suspended);

    // Who keeps no waker has no place; the span is the one around the watch.
    let _span = spanprof::enter([25; 16], [1; 8]);
    let mut handler = Box::pin(waits_for_nothing().watched());
    assert!(handler.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(handler);
    let seen = seen::of(25, 1);
    assert_eq!((seen[0].count, seen[0].cancelled, seen[0].place.len()), (1, 1, 0));
}
