//! The futures that services wait for: each wait is seen, at its own place.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use spanprof::await_points::WatchExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Notify, RwLock, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::seen::{self, async_functions, in_span, span};

/// Lets another task act after this one waits.
fn afterwards(act: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(async {
        // The one who asked is polled on before this task, until it waits.
        tokio::task::yield_now().await;
        act.await;
    });
}

async fn sleeping() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

async fn timing_out() {
    let _ = tokio::time::timeout(Duration::from_millis(2), std::future::pending::<()>()).await;
}

async fn ticking() {
    let mut interval = tokio::time::interval(Duration::from_millis(2));
    interval.tick().await;
    interval.tick().await;
}

async fn receiving_one() {
    let (sender, receiver) = oneshot::channel();
    afterwards(async { sender.send(()).unwrap() });
    receiver.await.unwrap();
}

async fn receiving() {
    let (sender, mut receiver) = mpsc::channel(1);
    afterwards(async move { sender.send(()).await.unwrap() });
    receiver.recv().await.unwrap();
}

async fn sending() {
    let (sender, mut receiver) = mpsc::channel(1);
    sender.send(()).await.unwrap();
    afterwards(async move {
        receiver.recv().await;
        receiver.recv().await;
    });
    sender.send(()).await.unwrap();
}

async fn being_notified() {
    let notify = Arc::new(Notify::new());
    let theirs = notify.clone();
    afterwards(async move { theirs.notify_one() });
    notify.notified().await;
}

async fn locking() {
    let mutex = Arc::new(Mutex::new(()));
    let locked = mutex.clone().lock_owned().await;
    afterwards(async { drop(locked) });
    drop(mutex.lock().await);
}

async fn writing() {
    let lock = Arc::new(RwLock::new(()));
    let read = lock.clone().read_owned().await;
    afterwards(async { drop(read) });
    drop(lock.write().await);
}

async fn acquiring() {
    let semaphore = Arc::new(Semaphore::new(0));
    let theirs = semaphore.clone();
    afterwards(async move { theirs.add_permits(1) });
    drop(semaphore.acquire().await);
}

async fn watching() {
    let (sender, mut receiver) = watch::channel(1);
    afterwards(async move { sender.send(2).unwrap() });
    receiver.changed().await.unwrap();
}

async fn hearing() {
    let (sender, mut receiver) = broadcast::channel(1);
    afterwards(async move { assert_eq!(sender.send(1).ok(), Some(1)) });
    assert_eq!(receiver.recv().await, Ok(1));
}

async fn joining() {
    tokio::task::spawn_local(tokio::task::yield_now()).await.unwrap();
}

async fn joining_any() {
    let mut set = JoinSet::new();
    set.spawn_local(tokio::task::yield_now());
    set.join_next().await.unwrap().unwrap();
}

async fn blocking() {
    let (sender, receiver) = std::sync::mpsc::channel();
    afterwards(async move { sender.send(()).unwrap() });
    tokio::task::spawn_blocking(move || receiver.recv().unwrap()).await.unwrap();
}

async fn reading(stream: &mut TcpStream, other: TcpStream) -> TcpStream {
    let (sender, receiver) = oneshot::channel();
    let mut other = other;
    afterwards(async move {
        other.write_all(b"x").await.unwrap();
        let _ = sender.send(other);
    });
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    receiver.await.unwrap()
}

/// The same object at another place: leaves keep the waker from the first.
async fn reading_elsewhere(stream: &mut TcpStream, other: TcpStream) {
    reading(stream, other).await;
}

async fn accepting(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = oneshot::channel();
    afterwards(async move {
        let _ = sender.send(TcpStream::connect(address).await.unwrap());
    });
    let (stream, _) = listener.accept().await.unwrap();
    (stream, receiver.await.unwrap())
}

async fn handles() {
    sleeping().await;
    timing_out().await;
    ticking().await;
    receiving_one().await;
    receiving().await;
    sending().await;
    being_notified().await;
    locking().await;
    writing().await;
    acquiring().await;
    watching().await;
    hearing().await;
    joining().await;
    joining_any().await;
    blocking().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut stream, other) = accepting(&listener).await;
    let other = reading(&mut stream, other).await;
    reading_elsewhere(&mut stream, other).await;
}

#[test]
fn each_wait_of_tokio_is_seen_at_its_place() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let ((), times) = local.block_on(&runtime, async {
        let handler = in_span(span(50, 1), handles()).watched().with_times();
        tokio::task::spawn_local(handler).await.unwrap()
    });
    let total = |seen: &[seen::Seen]| seen.iter().map(|seen| seen.suspended + seen.ready).sum::<u64>();
    // All of the time is accounted for, and so has been recorded.
    let seen = seen::until(50, |seen| total(seen) == times.suspended + times.ready);

    let mut waits = BTreeMap::<_, u64>::new();
    for seen in &seen {
        *waits.entry(async_functions(&seen.place)).or_default() += seen.count;
    }
    let chain = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for name in [
        "sleeping",
        "timing_out",
        "ticking",
        "receiving_one",
        "receiving",
        "sending",
        "being_notified",
        "locking",
        "writing",
        "acquiring",
        "watching",
        "hearing",
        "joining",
        "joining_any",
        "blocking",
        "accepting",
        "reading",
    ] {
        assert!(waits.contains_key(&chain(&[name, "handles"])), "{name} is not in {waits:?}");
    }
    assert!(waits.contains_key(&chain(&["reading", "reading_elsewhere", "handles"])), "{waits:?}");
    assert!(waits.keys().all(|chain| chain.last().is_some_and(|name| name == "handles")), "{waits:?}");
}
