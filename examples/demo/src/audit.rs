//! The audit journal, which must be on disk before the message is done.
//!
//! The file has no name from its first moment on, so that nothing is left behind however the process ends.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::FromRawFd;
use std::path::Path;
use std::time::Instant;

use crate::orders::Order;
use crate::story::Cause;

const BLOCK_BYTES: usize = 32 * 1024;
/// The journal starts again at its beginning here, so that the demo never fills a disk.
const MAXIMUM_BYTES: u64 = 1024 * 1024;

/// Writes the order's journal below `folder`; the slow kind writes and synchronises in here for its whole time.
///
/// Errors when the folder takes no file or the disk refuses the data.
#[inline(never)]
pub fn write_journal(folder: &Path, order: &Order) -> std::io::Result<u64> {
    let lasting = order.trouble_for(Cause::FileIo);
    if lasting.is_zero() {
        return Ok(0);
    }
    let end = Instant::now() + lasting;
    let mut file = open_nameless(folder)?;
    let block = [b'.'; BLOCK_BYTES];
    let mut written = 0;
    while Instant::now() < end {
        file.write_all(&block)?;
        file.sync_data()?;
        written += BLOCK_BYTES as u64;
        if written.is_multiple_of(MAXIMUM_BYTES) {
            file.seek(SeekFrom::Start(0))?;
        }
    }
    Ok(written)
}

fn open_nameless(folder: &Path) -> std::io::Result<File> {
    use std::os::unix::ffi::OsStrExt;
    let template = folder.join("spanprof-demo-XXXXXX");
    let mut template = [template.as_os_str().as_bytes(), b"\0"].concat();
    // SAFETY: `template` is a NUL-terminated buffer of our own, which the call overwrites in place with the name
    // it chose; the descriptor is new and owned by nobody else.
    unsafe {
        let descriptor = libc::mkostemp(template.as_mut_ptr().cast(), libc::O_CLOEXEC);
        if descriptor < 0 {
            return Err(std::io::Error::last_os_error());
        }
        libc::unlink(template.as_ptr().cast());
        Ok(File::from_raw_fd(descriptor))
    }
}
