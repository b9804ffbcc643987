//! The place of the published context, and what becomes of it in a child of `fork`.
//!
//! The child has one thread, a copy of the one that forked, and may not wait for locks that other threads held. So the lock
//! here is our own, and the child breaks it: what it guarded may then be half changed, and is forgotten.
//!
//! A context that is to be published in children too is published by the hook that `fork` calls in the child, before
//! anything else of the program runs there. It makes system calls only: the encoded context is there already, and the
//! process's own id is written over the parent's, in its place. Refused: to notice the new process id at the next use, which
//! costs a system call per use; and to leave it to the program, which mostly doesn't know that it was forked.

use std::cell::UnsafeCell;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use super::publish::{Published, map};

/// Length of a UUID as text.
pub(super) const ID_LENGTH: usize = 36;

struct Place {
    locked: AtomicBool,
    published: UnsafeCell<Option<Published>>,
}

// SAFETY: the lock admits one thread at a time to what is in the cell, which may be sent between threads.
unsafe impl Sync for Place {}

static PLACE: Place = Place { locked: AtomicBool::new(false), published: UnsafeCell::new(None) };

struct Unlock;

impl Drop for Unlock {
    fn drop(&mut self) {
        PLACE.locked.store(false, Ordering::Release);
    }
}

/// Looks at what is published, or changes it, alone.
pub(super) fn with_published<T>(change: impl FnOnce(&mut Option<Published>) -> T) -> T {
    register();
    while PLACE.locked.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
        // Some system calls long at most, and rarely anybody else is here.
        std::thread::yield_now();
    }
    let _unlock = Unlock;
    // SAFETY: the lock is held, by this thread.
    change(unsafe { &mut *PLACE.published.get() })
}

fn register() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the function may be called after a fork; it lives as long as the code does, as the C library takes the
        // hooks of a library out when that is closed. It fails for want of memory alone; then children publish nothing.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

/// Runs in each child of `fork`, on its only thread. Makes system calls and changes memory, no more.
unsafe extern "C" fn in_child() {
    let was_locked = PLACE.locked.swap(false, Ordering::Relaxed);
    // SAFETY: the child has no other thread.
    let published = unsafe { &mut *PLACE.published.get() };
    if was_locked {
        // Not dropped: nothing of it can be relied upon.
        std::mem::forget(published.take());
        return;
    }
    let Some(context) = published.as_mut() else { return };
    let Some(own_id) = context.own_id else { return };
    if let Some(place) = own_id.and_then(|at| context.payload.get_mut(at..at + ID_LENGTH)) {
        place.copy_from_slice(&random_uuid());
    }
    match map(&context.payload) {
        Ok(header) => {
            context.header = header;
            context.process = std::process::id();
        }
        // The parent's mapping is not there in the child, so nothing is published.
        Err(_) => std::mem::forget(published.take()),
    }
}

/// A random UUID (version 4) as text. Safe after a fork.
pub(super) fn random_uuid() -> [u8; ID_LENGTH] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = [0u8; 16];
    // SAFETY: writes at most 16 bytes. Without entropy in early boot the zeros stay, and the id is still well-formed.
    unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_NONBLOCK) };
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = [b'-'; ID_LENGTH];
    let mut at = 0;
    for (position, byte) in bytes.iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 15)];
        at += 2;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_random_uuids() {
        let (one, other) = (random_uuid(), random_uuid());
        assert_ne!(one, other);
        let text = std::str::from_utf8(&one).unwrap();
        let parts: Vec<_> = text.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(text.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&text.as_bytes()[19]));
    }
}
