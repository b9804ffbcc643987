//! A BPF array that both sides see: the agent's view by mmap, without a system call per element.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::layout::Shared;

/// The elements of a `BPF_F_MMAPABLE` array map. The kernel side may write any of them at any time, so
/// elements are copied in and out and never borrowed.
pub(super) struct SharedArray<T> {
    start: NonNull<u8>,
    bytes: usize,
    length: usize,
    element: PhantomData<T>,
}

// SAFETY: the mapping is plain memory without thread affinity; all access goes through raw copies.
unsafe impl<T: Send> Send for SharedArray<T> {}

impl<T: Shared> SharedArray<T> {
    /// Maps `length` elements of the map behind `descriptor`.
    pub(super) fn map(descriptor: BorrowedFd<'_>, length: usize) -> io::Result<SharedArray<T>> {
        let stride = Self::stride();
        let bytes = (stride * length).next_multiple_of(4096);
        // SAFETY: a fresh shared mapping of a descriptor that we hold; the kernel checks its size.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                descriptor.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap gave address 0"))?;
        Ok(SharedArray { start, bytes, length, element: PhantomData })
    }

    /// The kernel rounds each element up to 8 bytes.
    const fn stride() -> usize {
        size_of::<T>().next_multiple_of(8)
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    fn element(&self, index: usize) -> *mut T {
        assert!(index < self.length, "element {index} of {}", self.length);
        // SAFETY: within the mapping, by the assertion.
        unsafe { self.start.as_ptr().add(index * Self::stride()).cast() }
    }

    /// A copy of an element; torn if the kernel side writes it meanwhile.
    pub(super) fn read(&self, index: usize) -> T {
        // SAFETY: in bounds, aligned to 8, and any bit pattern is a `T`.
        unsafe { self.element(index).read_volatile() }
    }

    /// Replaces an element.
    pub(super) fn write(&self, index: usize, value: T) {
        // SAFETY: in bounds and aligned to 8.
        unsafe { self.element(index).write_volatile(value) }
    }

    /// The 32-bit word at `offset` bytes within an element.
    pub(super) fn word(&self, index: usize, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= size_of::<T>());
        // SAFETY: in bounds, aligned, and only ever accessed atomically or by volatile copies.
        unsafe { AtomicU32::from_ptr(self.element(index).cast::<u8>().add(offset).cast()) }
    }

    /// The 64-bit word at `offset` bytes within an element.
    pub(super) fn long(&self, index: usize, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= size_of::<T>());
        // SAFETY: in bounds, aligned, and only ever accessed atomically or by volatile copies.
        unsafe { AtomicU64::from_ptr(self.element(index).cast::<u8>().add(offset).cast()) }
    }

    /// Sets every byte to zero.
    pub(super) fn clear(&self) {
        for index in 0..self.length {
            // SAFETY: in bounds; zero is a value of every shared type.
            unsafe { self.element(index).write_volatile(std::mem::zeroed()) }
        }
    }

    /// Makes all earlier writes visible before any later one.
    pub(super) fn publish() {
        std::sync::atomic::fence(Ordering::SeqCst);
    }
}

impl<T> Drop for SharedArray<T> {
    fn drop(&mut self) {
        // SAFETY: our own mapping, unmapped once.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
