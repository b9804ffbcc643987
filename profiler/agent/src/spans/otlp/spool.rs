//! Requests on their way to a collector: compressed, in order, and no more bytes than there is room for.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use axum::body::Bytes;
use tokio::sync::Notify;

/// A queue between who takes requests and who hands them on.
#[derive(Debug)]
pub struct Spool {
    waiting: Mutex<Waiting>,
    changed: Notify,
    emptied: Notify,
    room: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Bytes>,
    bytes: usize,
    has_refused: bool,
}

impl Spool {
    /// A queue with room for so many bytes.
    pub fn new(room: usize) -> Spool {
        Spool { waiting: Mutex::default(), changed: Notify::new(), emptied: Notify::new(), room }
    }

    /// Puts a request at the end, unless there is no room for it; an empty spool has room for any.
    pub fn push(&self, request: Bytes) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.requests.is_empty() && waiting.bytes + request.len() > self.room {
            waiting.has_refused = true;
            return false;
        }
        waiting.bytes += request.len();
        waiting.requests.push_back(request);
        drop(waiting);
        self.changed.notify_one();
        true
    }

    /// Whether there was no room for a request, and none has left since: who asks first need not compress in vain.
    pub fn is_full(&self) -> bool {
        self.lock().has_refused
    }

    /// The first request, as soon as there is one. It keeps its place, and its room, until it is [`done`](Spool::done).
    pub async fn first(&self) -> Bytes {
        loop {
            let first = self.lock().requests.front().cloned();
            match first {
                Some(request) => return request,
                None => self.changed.notified().await,
            }
        }
    }

    /// The first request was handed on, or was given up.
    pub fn done(&self) {
        let mut waiting = self.lock();
        waiting.has_refused = false;
        if let Some(request) = waiting.requests.pop_front() {
            waiting.bytes -= request.len();
        }
        if waiting.requests.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    /// When nothing waits any more.
    pub async fn emptied(&self) {
        loop {
            // Begins to listen before it looks, so that what happens in between is heard.
            let mut emptied = std::pin::pin!(self.emptied.notified());
            emptied.as_mut().enable();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.lock().requests.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_leave_in_the_order_in_which_they_came() {
        let spool = Spool::new(100);
        for text in ["a", "b"] {
            assert!(spool.push(Bytes::from(text)));
        }
        assert_eq!(spool.first().await, "a");
        assert_eq!((spool.first().await, spool.len()), (Bytes::from("a"), 2), "until it is done");
        spool.done();
        assert_eq!(spool.first().await, "b");
        spool.done();
        assert!(spool.is_empty());
    }

    #[test]
    fn there_is_no_more_room_than_there_is() {
        let spool = Spool::new(10);
        assert!(spool.push(Bytes::from_static(&[0; 6])) && !spool.is_full());
        assert!(!spool.push(Bytes::from_static(&[0; 6])) && spool.is_full());
        assert!(spool.push(Bytes::from_static(&[0; 4])));
        spool.done();
        assert!(!spool.is_full());
        assert!(spool.push(Bytes::from_static(&[0; 6])));
    }

    #[test]
    fn an_empty_spool_takes_what_is_larger_than_itself() {
        let spool = Spool::new(10);
        assert!(spool.push(Bytes::from_static(&[0; 60])));
        assert!(!spool.push(Bytes::from_static(&[0; 1])));
    }
}
