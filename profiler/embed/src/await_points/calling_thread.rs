//! Who the calling thread is, and which span it works on.

use std::cell::Cell;
use std::ptr;

use super::packed_span::PackedSpan;

thread_local! {
    /// The kernel's thread id, 0 until asked for. A constant without destructor: reachable until the thread is gone.
    static ID: Cell<u32> = const { Cell::new(0) };
}

/// Tells live threads apart; the cheapest that does.
#[inline]
pub(super) fn identity() -> usize {
    ID.with(|id| ptr::from_ref(id).addr())
}

/// The kernel's thread id.
#[inline]
pub(super) fn id() -> u32 {
    ID.with(|id| {
        if id.get() == 0 {
            id.set(ask());
        }
        id.get()
    })
}

#[cfg(not(miri))]
#[cold]
fn ask() -> u32 {
    static FORKS: std::sync::Once = std::sync::Once::new();
    extern "C" fn forget() {
        ID.with(|id| id.set(0));
    }
    // The thread that forks is the child's only one, and has another id there. Without room for the handler, the
    // child says the parent's.
    // SAFETY: the handler touches its thread's own storage only, as one after a fork must.
    FORKS.call_once(|| unsafe {
        libc::pthread_atfork(None, None, Some(forget));
    });
    // SAFETY: no arguments, no failure.
    unsafe { libc::gettid() as u32 }
}

/// The interpreter's threads are numbered by us.
#[cfg(miri)]
fn ask() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// The span that the calling thread publishes.
#[cfg(not(miri))]
#[inline]
pub(super) fn span() -> PackedSpan {
    PackedSpan::new(spanprof_context::thread::current())
}

/// The span that the calling thread publishes, with its attributes as encoded; see
/// [`current_with_attributes`](spanprof_context::thread::current_with_attributes).
#[cfg(not(miri))]
#[inline]
pub(super) fn span_with_attributes(attributes: &mut [u8]) -> (PackedSpan, usize) {
    let current = spanprof_context::thread::current_with_attributes(attributes);
    let length = current.map_or(0, |(_, length)| length);
    (PackedSpan::new(current.map(|(span, _)| span)), length)
}

/// The interpreter doesn't know the instructions that reach the slot.
#[cfg(miri)]
pub(super) fn span() -> PackedSpan {
    PackedSpan::NONE
}

#[cfg(miri)]
pub(super) fn span_with_attributes(_: &mut [u8]) -> (PackedSpan, usize) {
    (PackedSpan::NONE, 0)
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_child_process_has_an_id_of_its_own() {
        let parents = id();
        // SAFETY: the child asks for its id and ends at once, without running anything else of this program.
        unsafe {
            let child = libc::fork();
            assert!(child >= 0, "fork");
            if child == 0 {
                libc::_exit(i32::from(id() != libc::gettid() as u32));
            }
            let mut status = -1;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            assert_eq!(status, 0, "the child took its parent's id for its own");
        }
        assert_eq!(id(), parents);
    }
}
