//! How many files may stay open for looking at threads: the service must never run out of descriptors for being looked at.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most, however many a process may open.
const MOST: u64 = 2048;

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Some descriptors that are kept open; given back when dropped.
#[derive(Debug)]
pub(super) struct KeptOpen(usize);

impl KeptOpen {
    /// Leave to keep so many open; `None` where that would be more than an eighth of what the process may have.
    pub(super) fn ask(count: usize) -> Option<KeptOpen> {
        static LIMIT: OnceLock<usize> = OnceLock::new();
        let limit = *LIMIT.get_or_init(limit);
        let kept = KeptOpen(count);
        (OPEN.fetch_add(count, Ordering::Relaxed) + count <= limit).then_some(kept)
    }
}

impl Drop for KeptOpen {
    fn drop(&mut self) {
        OPEN.fetch_sub(self.0, Ordering::Relaxed);
    }
}

fn limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one structure, which says 0 where the call fails.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    share_of(limit.rlim_cur)
}

fn share_of(descriptors: u64) -> usize {
    (descriptors / 8).min(MOST) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eighth_is_kept_open_at_most() {
        assert_eq!([0, 20, 1024, u64::MAX].map(share_of), [0, 2, 128, 2048]);
        let kept = KeptOpen::ask(1).expect("tests may open some files");
        assert!(OPEN.load(Ordering::Relaxed) >= 1);
        assert!(KeptOpen::ask(usize::MAX / 2).is_none(), "what is refused is not counted either");
        assert!(OPEN.load(Ordering::Relaxed) < usize::MAX / 2);
        drop(kept);
    }
}
