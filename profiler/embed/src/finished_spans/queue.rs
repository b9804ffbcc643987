//! Spans that wait to be sent: bytes in memory of a fixed size.
//!
//! Several parts, each behind a lock that nobody waits for: who finds one taken goes on to the next. Refused: one lock
//! (threads that end spans at the same time would drop them) and a part per thread (a thousand threads would need a
//! thousand).

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};

use super::write::SpanWriter;

/// As many threads may end spans at once without going on to another.
const PARTS: usize = 8;
/// All of them, with what stands around spans in a request, are less than a message may have.
const PART_BYTES: usize = 120 << 10;

/// What waits.
pub(super) struct Queue {
    parts: [Mutex<Part>; PARTS],
}

#[derive(Default)]
struct Part {
    /// Never grows.
    bytes: Vec<u8>,
    spans: u64,
}

thread_local! {
    /// Where the thread begins to look. A constant without destructor, so that it works as long as the thread does.
    static FIRST: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn first() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    FIRST.with(|first| {
        if first.get() == usize::MAX {
            first.set(NEXT.fetch_add(1, Ordering::Relaxed) % PARTS);
        }
        first.get()
    })
}

impl Part {
    fn new() -> Part {
        Part { bytes: Vec::with_capacity(PART_BYTES), spans: 0 }
    }
}

impl Queue {
    pub(super) fn new() -> Queue {
        Queue { parts: std::array::from_fn(|_| Mutex::new(Part::new())) }
    }

    /// Puts a span of at most so many bytes in; whether there was room. Neither waits nor allocates.
    pub(super) fn put(&self, most: usize, write: impl FnOnce(&mut SpanWriter<'_>)) -> bool {
        let first = first();
        for number in 0..PARTS {
            let mut part = match self.parts[(first + number) % PARTS].try_lock() {
                Ok(part) => part,
                Err(TryLockError::Poisoned(part)) => part.into_inner(),
                Err(TryLockError::WouldBlock) => continue,
            };
            if part.bytes.capacity() - part.bytes.len() >= most {
                SpanWriter::whole(&mut part.bytes, write);
                part.spans += 1;
                return true;
            }
        }
        false
    }

    /// Takes all spans out, to the end of the bytes; how many they are.
    pub(super) fn take(&self, spare: &mut Spare, into: &mut Vec<u8>) -> u64 {
        let mut spans = 0;
        for part in &self.parts {
            std::mem::swap(&mut *part.lock().unwrap_or_else(PoisonError::into_inner), &mut spare.0);
            into.extend_from_slice(&spare.0.bytes);
            spans += std::mem::take(&mut spare.0.spans);
            spare.0.bytes.clear();
        }
        spans
    }
}

/// The memory that takes the place of what is taken out, so that a part is locked for a few instructions only.
pub(super) struct Spare(Part);

impl Spare {
    pub(super) fn new() -> Spare {
        Spare(Part::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(queue: &Queue, number: u64) -> bool {
        queue.put(64, |span| span.times(number, number))
    }

    fn take(queue: &Queue) -> (u64, usize) {
        let mut bytes = Vec::new();
        let spans = queue.take(&mut Spare::new(), &mut bytes);
        (spans, bytes.len())
    }

    #[test]
    fn what_is_put_in_comes_out_once() {
        let queue = Queue::new();
        let threads = 12;
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..50).for_each(|number| assert!(put(&queue, number))));
            }
        });
        assert_eq!(take(&queue), (threads * 50, threads as usize * 50 * 22));
        assert_eq!(take(&queue), (0, 0));
    }

    #[test]
    fn a_full_queue_takes_no_more_and_grows_no_larger() {
        let queue = Queue::new();
        let taken = (0..).take_while(|number| put(&queue, *number)).count();
        assert!(!put(&queue, 0));
        let (spans, bytes) = take(&queue);
        assert_eq!(spans, taken as u64);
        assert!(bytes <= PARTS * PART_BYTES, "{bytes}");
        assert!(queue.parts.iter().all(|part| part.lock().unwrap().bytes.capacity() == PART_BYTES));
        assert!(put(&queue, 0), "there is room again");
    }

    #[test]
    fn who_finds_all_parts_taken_does_not_wait() {
        let queue = Queue::new();
        let taken: Vec<_> = queue.parts.iter().map(|part| part.lock().unwrap()).collect();
        assert!(!put(&queue, 0));
        drop(taken);
        assert!(put(&queue, 0));
    }
}
