//! Files in a directory: the report of one recording, and windows of a long attachment.
//!
//! Each file is written beside its place under a hidden name and renamed when whole, so that a reader never
//! sees half a file and a full disk leaves none behind. Writing in place was refused for that reason.
//! Windows are synchronised with the disk, as they are written on a thread that may wait, and are there to look
//! back after a crash. A report is not: it is not worth that its command stalls, and a crash of the whole machine
//! costs at most the newest one.

#[cfg(feature = "svg")]
mod report;
mod staged;
mod windows;

use std::path::{Path, PathBuf};

#[cfg(feature = "svg")]
pub use report::{ReportFile, write_report};
pub use windows::{WindowDirectory, WrittenWindow, window_files};

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The disk, or the user's share of it, is full. Nothing half-written was left.
    #[error("no space left for {}: free some space or choose another directory", path.display())]
    DiskFull {
        /// The file that did not fit.
        path: PathBuf,
    },
    /// Anything else that the system refused.
    #[error("can't write {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// One window alone is larger than the directory may grow.
    #[error("a window of {bytes} bytes does not fit a directory of at most {limit}")]
    WindowTooLarge {
        /// The window's size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A flame graph could not be drawn.
    #[cfg(feature = "svg")]
    #[error(transparent)]
    Svg(#[from] crate::svg::SvgError),
}

impl DirectoryError {
    fn new(path: &Path, source: std::io::Error) -> DirectoryError {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let path = path.to_path_buf();
        match source.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => DirectoryError::DiskFull { path },
            _ => DirectoryError::Io { path, source },
        }
    }
}
