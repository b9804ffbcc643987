//! `join!` and `select!`: the branch that woke has the time.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use spanprof::await_points::WatchExt;
use tokio::sync::oneshot::{self, Receiver, Sender};

use crate::seen::{self, async_functions, in_span, span};

async fn left(receiver: Receiver<()>) {
    receiver.await.unwrap();
}

async fn right(receiver: Receiver<()>) {
    receiver.await.unwrap();
}

type Ends<T, const N: usize> = [Option<T>; N];

fn channels<const N: usize>() -> (Ends<Sender<()>, N>, Ends<Receiver<()>, N>) {
    let mut receivers = [const { None }; N];
    let senders = std::array::from_fn(|number| {
        let (sender, receiver) = oneshot::channel();
        receivers[number] = Some(receiver);
        Some(sender)
    });
    (senders, receivers)
}

/// Polls by hand, so that order is the test's.
fn poll<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Per suspension of a trace: the innermost async function, and how often.
fn leaves(trace: u8, count: u64) -> Vec<(String, u64)> {
    let mut leaves = BTreeMap::<_, u64>::new();
    for seen in seen::of(trace, count) {
        *leaves.entry(async_functions(&seen.place).first().cloned().unwrap_or_default()).or_default() +=
            seen.count;
    }
    leaves.into_iter().collect()
}

fn named(names: &[(&str, u64)]) -> Vec<(String, u64)> {
    names.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[test]
fn a_join_charges_who_woke_first_then_who_is_left() {
    let ([mut first, mut second], [one, two]) = channels();
    let handler = async move { tokio::join!(left(one.unwrap()), right(two.unwrap())) };
    let mut handler = Box::pin(in_span(span(10, 1), handler).watched());
    assert!(poll(&mut handler).is_pending());
    second.take().unwrap().send(()).unwrap();
    assert!(poll(&mut handler).is_pending());
    first.take().unwrap().send(()).unwrap();
    assert!(poll(&mut handler).is_ready());
    assert_eq!(leaves(10, 2), named(&[("left", 1), ("right", 1)]));
}

#[test]
fn a_select_charges_the_winner() {
    let ([_first, mut second], [one, two]) = channels();
    let handler = async move {
        tokio::select! {
            biased;
            () = left(one.unwrap()) => panic!("nobody sends"),
            () = right(two.unwrap()) => {}
        }
    };
    let mut handler = Box::pin(in_span(span(11, 1), handler).watched());
    assert!(poll(&mut handler).is_pending());
    second.take().unwrap().send(()).unwrap();
    assert!(poll(&mut handler).is_ready());
    assert_eq!(leaves(11, 1), named(&[("right", 1)]));
}

#[test]
fn polls_that_nobody_asked_for_go_to_one_of_the_branches() {
    let ([_first, _second], [one, two]) = channels();
    let handler = async move { tokio::join!(left(one.unwrap()), right(two.unwrap())) };
    let mut handler = Box::pin(in_span(span(12, 1), handler).watched());
    // tokio's join! begins with another branch at each poll.
    for _ in 0..4 {
        assert!(poll(&mut handler).is_pending());
    }
    drop(handler);
    let seen = seen::of(12, 4);
    assert!(seen.iter().all(|seen| seen.woken_by.is_none() && seen.ready == 0));
    assert_eq!(seen.iter().map(|seen| seen.cancelled).sum::<u64>(), 1);
    assert!(seen.iter().all(|seen| ["left", "right"].contains(&async_functions(&seen.place)[0].as_str())));
}

#[test]
fn a_waker_left_over_from_an_earlier_poll_does_not_name_its_branch() {
    use std::sync::{Arc, Mutex};
    let kept = Arc::new(Mutex::new(Vec::new()));
    async fn waits_once(kept: Arc<Mutex<Vec<Waker>>>) {
        let mut started = false;
        std::future::poll_fn(|context| {
            kept.lock().unwrap().push(context.waker().clone());
            if std::mem::replace(&mut started, true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
    let ([_sender], [receiver]) = channels();
    let theirs = kept.clone();
    let handler = async move {
        waits_once(theirs).await;
        right(receiver.unwrap()).await;
    };
    let mut handler = Box::pin(in_span(span(13, 1), handler).watched());
    assert!(poll(&mut handler).is_pending());
    assert!(poll(&mut handler).is_pending());
    // The first poll's, while the task waits elsewhere.
    kept.lock().unwrap()[0].wake_by_ref();
    assert!(poll(&mut handler).is_pending());
    drop(handler);
    assert_eq!(leaves(13, 3), named(&[("right", 2), ("waits_once", 1)]));
}

#[test]
fn many_branches_are_told_apart() {
    const BRANCHES: usize = 25;
    let (mut senders, receivers) = channels::<BRANCHES>();
    let handler = async move {
        let odd = receivers.into_iter().enumerate().map(|(number, receiver)| async move {
            match number % 2 {
                0 => left(receiver.unwrap()).await,
                _ => right(receiver.unwrap()).await,
            }
        });
        join_all(odd).await;
    };
    let mut handler = Box::pin(in_span(span(14, 1), handler).watched());
    for sender in senders.iter_mut().rev() {
        assert!(poll(&mut handler).is_pending());
        sender.take().unwrap().send(()).unwrap();
    }
    assert!(poll(&mut handler).is_ready());
    let sums = leaves(14, BRANCHES as u64).into_iter().fold((0, 0), |sums, (name, count)| match &*name {
        "left" => (sums.0 + count, sums.1),
        "right" => (sums.0, sums.1 + count),
        other => panic!("{other}"),
    });
    assert_eq!(sums, (13, 12));
}

#[test]
fn an_unordered_set_is_one_place_unless_its_members_are_watched() {
    let ([mut first, mut second], [one, two]) = channels();
    let handler = async move {
        let member = in_span(span(16, 1), left(two.unwrap())).watched();
        let members: FuturesUnordered<Pin<Box<dyn Future<Output = ()>>>> = FuturesUnordered::new();
        members.push(Box::pin(left(one.unwrap())));
        members.push(Box::pin(member));
        members.collect::<Vec<()>>().await;
    };
    let mut handler = Box::pin(in_span(span(15, 1), handler).watched());
    assert!(poll(&mut handler).is_pending());
    second.take().unwrap().send(()).unwrap();
    assert!(poll(&mut handler).is_pending());
    first.take().unwrap().send(()).unwrap();
    assert!(poll(&mut handler).is_ready());
    // The set's own place, in no member.
    assert!(leaves(15, 2).iter().all(|(name, _)| !["left", "right"].contains(&name.as_str())));
    assert_eq!(leaves(16, 1), named(&[("left", 1)]));
}
