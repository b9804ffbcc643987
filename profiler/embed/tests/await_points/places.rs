//! Exact chains: many of them, of all depths, over and over, and none mistaken for another.

use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Waker};

use spanprof::await_points::WatchExt;

use crate::seen::{self, async_functions, in_span, span};

/// Pending once, woken at once, by a kept waker.
fn turn() -> impl Future<Output = ()> {
    let mut pending = true;
    std::future::poll_fn(move |context| {
        if !std::mem::take(&mut pending) {
            return std::task::Poll::Ready(());
        }
        let kept = context.waker().clone();
        kept.wake();
        std::task::Poll::Pending
    })
}

async fn even(path: &[bool]) {
    let padding = [path.len() as u64; 3];
    turn().await;
    below(path).await;
    std::hint::black_box(padding);
}

async fn odd(path: &[bool]) {
    let padding = [path.len() as u64; 40];
    turn().await;
    below(path).await;
    std::hint::black_box(padding);
}

/// A frame with the alignment of a cache line, whose size depends on where the stack is.
async fn aligned(path: &[bool]) {
    #[repr(align(64))]
    struct Line([u8; 64]);
    fn poll_below(
        path: &[bool],
        context: &mut Context<'_>,
        future: Pin<&mut (dyn Future<Output = ()> + '_)>,
    ) -> std::task::Poll<()> {
        let mut line = Line([path.len() as u8; 64]);
        std::hint::black_box(&mut line);
        let result = future.poll(context);
        std::hint::black_box(&mut line);
        std::hint::black_box(line.0[0]);
        result
    }
    let mut future = pin!(even(path));
    std::future::poll_fn(|context| poll_below(path, context, future.as_mut())).await;
}

fn below(path: &[bool]) -> Pin<Box<dyn Future<Output = ()> + '_>> {
    match path.split_first() {
        None => Box::pin(async {}),
        Some((true, rest)) => Box::pin(even(rest)),
        Some((false, rest)) if rest.len() % 3 == 2 => Box::pin(aligned(rest)),
        Some((false, rest)) => Box::pin(odd(rest)),
    }
}

/// The chain that a path's last turn must have, innermost first.
fn expected(path: &[bool]) -> Vec<String> {
    let mut chain = Vec::new();
    for (at, is_even) in path.iter().enumerate() {
        let rest = path.len() - at - 1;
        match is_even {
            true => chain.push("even".to_owned()),
            false if rest % 3 == 2 => chain.extend(["aligned".to_owned(), "even".to_owned()]),
            false => chain.push("odd".to_owned()),
        }
    }
    chain.reverse();
    chain
}

#[test]
fn chains_of_all_kinds_are_told_apart_again_and_again() {
    const DEPTH: usize = 5;
    const ROUNDS: usize = 3;
    let paths: Vec<Vec<bool>> =
        (0..1 << DEPTH).map(|bits| (0..DEPTH).map(|bit| bits >> bit & 1 == 1).collect()).collect();
    let run = |number: usize| {
        let path = &paths[number];
        let mut future = pin!(in_span(span(30, number as u64 + 1), below(path)).watched());
        while future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {}
    };
    // Threads start at different depths, and one path's chains are another's beginnings.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    (0..paths.len()).for_each(run);
                }
            });
        }
    });
    let seen = seen::of(30, (2 * ROUNDS * paths.len() * DEPTH) as u64);
    let mut chains = HashMap::<_, u64>::new();
    for seen in &seen {
        let path = &paths[u64::from_be_bytes(seen.span.span_id.0) as usize - 1];
        let chain = async_functions(&seen.place);
        let full = expected(path);
        assert!(full.ends_with(&chain) && !chain.is_empty(), "{chain:?} isn't on {full:?}");
        *chains.entry((seen.span.span_id, chain)).or_default() += seen.count;
    }
    assert_eq!(chains.len(), paths.len() * DEPTH, "every step of every path");
    assert!(chains.values().all(|count| *count == 2 * ROUNDS as u64), "every round alike: {chains:?}");
}

#[test]
fn a_place_names_the_watched_future_and_nothing_outside() {
    async fn waits_here() {
        turn().await;
    }
    #[inline(never)]
    fn not_watched(future: Pin<&mut impl Future<Output = ()>>) -> bool {
        let pending = future.poll(&mut Context::from_waker(Waker::noop())).is_pending();
        std::hint::black_box(pending)
    }
    let mut future = pin!(in_span(span(31, 1), waits_here()).watched());
    while not_watched(future.as_mut()) {}
    let seen = seen::of(31, 1);
    let functions = seen::functions(&seen[0].place);
    assert!(functions.iter().any(|name| name.contains("waits_here")), "{functions:?}");
    assert!(functions.last().is_some_and(|name| name.contains("InSpan")), "{functions:?}");
    assert!(functions.iter().all(|name| !name.contains("not_watched")), "{functions:?}");
}

#[test]
fn a_chain_that_is_too_deep_is_unknown_and_counted() {
    fn nested(depth: usize) -> Pin<Box<dyn Future<Output = ()>>> {
        async fn one_more(depth: usize) {
            nested(depth - 1).await;
        }
        if depth == 0 { Box::pin(turn()) } else { Box::pin(one_more(depth)) }
    }
    let lost = spanprof::await_points::lost().places;
    for (number, depth) in [(1, 40), (2, 300)] {
        let mut future = pin!(in_span(span(32, number), nested(depth)).watched());
        while future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {}
    }
    let mut seen = seen::of(32, 2);
    seen.sort_by_key(|seen| seen.span.span_id);
    assert_eq!(async_functions(&seen[0].place), ["one_more"; 40]);
    assert!(seen[1].place.is_empty());
    assert!(spanprof::await_points::lost().places > lost);
}
