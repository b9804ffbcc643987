//! Another process's memory, read without stopping it.
//!
//! `process_vm_readv` needs the right to trace the process, as everything a profiler does, and neither an open file
//! nor the process's cooperation.

use std::ffi::c_void;
use std::io;

/// Something whose memory can be read by address.
///
/// A trait so that what parses memory can be tested, and fuzzed, without a process.
pub trait Memory {
    /// Fills the buffer from an address. Errors if not all of it is readable; the buffer's contents are then
    /// unspecified.
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// A pointer-sized value.
    fn read_u64(&self, address: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }
}

/// The memory of a process.
#[derive(Clone, Copy, Debug)]
pub struct ProcessMemory {
    process: u32,
}

impl ProcessMemory {
    /// The memory of the process with this id, as seen in our own process id namespace.
    pub fn new(process: u32) -> Self {
        Self { process }
    }
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        let process =
            libc::pid_t::try_from(self.process).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
        let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let remote = libc::iovec { iov_base: address as usize as *mut c_void, iov_len: buffer.len() };
        // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`; the remote address is checked by it.
        let count = unsafe { libc::process_vm_readv(process, &local, 1, &remote, 1, 0) };
        match usize::try_from(count) {
            Ok(count) if count == buffer.len() => Ok(()),
            // A part was readable.
            Ok(_) => Err(io::Error::from_raw_os_error(libc::EFAULT)),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}
