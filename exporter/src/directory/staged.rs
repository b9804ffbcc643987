//! A file that does not exist until it is whole.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::DirectoryError;

/// What every hidden name ends with.
const SUFFIX: &str = ".partial";

/// A written file that waits to be renamed; it is removed where that never happens.
pub(super) struct StagedFile {
    hidden: PathBuf,
    place: PathBuf,
}

impl StagedFile {
    /// Writes the bytes beside their place. The hidden name is new, so that no link is followed.
    pub(super) fn write(place: PathBuf, bytes: &[u8]) -> Result<StagedFile, DirectoryError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let hidden = place.with_file_name(format!(".{name}.{}-{number}{SUFFIX}", std::process::id()));
        let error = |source| DirectoryError::new(&place, source);
        let mut file: File = OpenOptions::new().write(true).create_new(true).open(&hidden).map_err(error)?;
        let staged = StagedFile { hidden, place: place.clone() };
        file.write_all(bytes).map_err(error)?;
        Ok(staged)
    }

    /// Puts the file into its place, over an older one of the same name.
    pub(super) fn publish(self) -> Result<PathBuf, DirectoryError> {
        std::fs::rename(&self.hidden, &self.place)
            .map_err(|source| DirectoryError::new(&self.place, source))?;
        Ok(self.place.clone())
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        // After a rename there is nothing to remove; before one, a failure to remove changes nothing.
        let _ = std::fs::remove_file(&self.hidden);
    }
}

/// The process that left a hidden file behind, where the name is one of ours.
pub(super) fn owner_of_hidden(name: &str) -> Option<u32> {
    let stem = name.strip_prefix('.')?.strip_suffix(SUFFIX)?;
    stem.rsplit('.').next()?.split('-').next()?.parse().ok()
}

/// Makes the directory with its parents.
pub(super) fn make(directory: &Path) -> Result<(), DirectoryError> {
    std::fs::create_dir_all(directory).map_err(|source| DirectoryError::new(directory, source))
}
