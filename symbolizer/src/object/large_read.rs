//! Bytes of a file in memory of their own, which goes back to the system when they are done with.
//!
//! A section of megabytes is looked at once. From the heap, it would stay there: C libraries' allocators take a large block
//! that was freed as a sign that more of them will come, and keep twice as much from then on, which is seen inside a
//! service that profiles itself.

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

/// A private mapping, zero at first.
#[derive(Debug)]
pub(crate) struct LargeRead {
    start: NonNull<u8>,
    length: usize,
}

impl LargeRead {
    /// Room for `length` bytes.
    pub(super) fn new(length: usize) -> io::Result<LargeRead> {
        if length == 0 {
            return Ok(LargeRead { start: NonNull::dangling(), length });
        }
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(LargeRead { start, length })
    }
}

impl Deref for LargeRead {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping is this long, readable, and nobody else's.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for LargeRead {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is this long, writable, and nobody else's.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for LargeRead {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: the mapping was made by `new`, and the borrows of it have ended.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = LargeRead::new(10_000).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
        bytes[9_999] = 7;
        assert_eq!((bytes.len(), bytes[9_999]), (10_000, 7));
        assert!(LargeRead::new(0).unwrap().is_empty());
    }
}
