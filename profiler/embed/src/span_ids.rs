//! Ids for spans that have none, random as the W3C's recommendation asks for.
//!
//! Seeded by the kernel, per thread, and anew in a child of `fork`, which would otherwise give out its parent's next ids.

use std::cell::Cell;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use spanprof_context::{SpanId, TraceId};

/// Grows in every child of `fork`.
static GENERATION: AtomicU32 = AtomicU32::new(1);

#[derive(Clone, Copy)]
struct State {
    words: [u64; 2],
    /// 0 before the thread's first id.
    generation: u32,
}

thread_local! {
    static STATE: Cell<State> = const { Cell::new(State { words: [0; 2], generation: 0 }) };
}

/// To be called before the first id is given out.
pub(crate) fn prepare() {
    unsafe extern "C" fn in_child() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the function lives as long as the code does, and only stores to memory. It fails for want of memory
        // alone; then children give out ids of their parent, as without it.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

/// A random trace id; never the invalid one.
pub(crate) fn trace_id() -> TraceId {
    let (high, low) = (next().to_ne_bytes(), next().to_ne_bytes());
    let mut id = [0; 16];
    id[..8].copy_from_slice(&high);
    id[8..].copy_from_slice(&low);
    TraceId(id)
}

/// A random span id; never the invalid one.
pub(crate) fn span_id() -> SpanId {
    SpanId(next().to_ne_bytes())
}

/// A random number other than 0, by xoroshiro128+ (Blackman and Vigna, 2018).
fn next() -> u64 {
    STATE.with(|cell| {
        let mut state = cell.get();
        let generation = GENERATION.load(Ordering::Relaxed);
        if state.generation != generation {
            state = State { words: seed(), generation };
        }
        loop {
            let [first, mut second] = state.words;
            let result = first.wrapping_add(second);
            second ^= first;
            state.words = [first.rotate_left(24) ^ second ^ (second << 16), second.rotate_left(37)];
            if result != 0 {
                cell.set(state);
                return result;
            }
        }
    })
}

#[cold]
fn seed() -> [u64; 2] {
    let mut words = [0u64; 2];
    // SAFETY: writes at most 16 bytes.
    let got = unsafe { libc::getrandom(words.as_mut_ptr().cast(), size_of_val(&words), libc::GRND_NONBLOCK) };
    if got != size_of_val(&words) as isize || words == [0; 2] {
        // Without entropy in early boot: distinct by thread and time, which is what ids are for.
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: writes one timespec; the other call has no arguments.
        let thread = unsafe {
            libc::clock_gettime(libc::CLOCK_REALTIME, &mut now);
            libc::gettid()
        };
        words = [now.tv_nsec as u64 ^ (now.tv_sec as u64) << 30, 0x9e37_79b9_7f4a_7c15 ^ thread as u64];
    }
    words
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_differ_within_and_between_threads() {
        prepare();
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..10_000).map(|_| span_id()).collect::<Vec<_>>()))
            .collect();
        let all: HashSet<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(all.len(), 40_000);
        assert!(all.iter().all(SpanId::is_valid) && trace_id().is_valid());
    }

    #[test]
    fn a_child_of_fork_has_ids_of_its_own() {
        prepare();
        let _ = span_id();
        let mut ends = [0; 2];
        // SAFETY: writes two descriptors; the child calls only what is safe after a fork, and ends at once.
        let from_child = unsafe {
            assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
            let child = libc::fork();
            if child == 0 {
                let id = span_id().0;
                libc::write(ends[1], id.as_ptr().cast(), 8);
                libc::_exit(0);
            }
            let mut id = [0; 8];
            assert_eq!(libc::read(ends[0], id.as_mut_ptr().cast(), 8), 8);
            libc::waitpid(child, std::ptr::null_mut(), 0);
            SpanId(id)
        };
        assert_ne!(span_id(), from_child);
    }
}
