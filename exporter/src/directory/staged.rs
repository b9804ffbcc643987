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
    /// Locked while it is hidden, so that whoever finds it can tell a writer's file from a dead one's.
    file: File,
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
        let file = OpenOptions::new().write(true).create_new(true).open(&hidden).map_err(error)?;
        let mut staged = StagedFile { file, hidden, place: place.clone() };
        // A file system without locks costs that a killed writer's file stays.
        let _ = staged.file.try_lock();
        staged.file.write_all(bytes).map_err(error)?;
        Ok(staged)
    }

    /// Puts the file into its place, over an older one of the same name.
    pub(super) fn publish(self) -> Result<PathBuf, DirectoryError> {
        std::fs::rename(&self.hidden, &self.place)
            .map_err(|source| DirectoryError::new(&self.place, source))?;
        Ok(self.place.clone())
    }

    /// The same, and waits until the disk has it: what is in its place survives the machine's death.
    pub(super) fn publish_to_last(self) -> Result<PathBuf, DirectoryError> {
        self.file.sync_all().map_err(|source| DirectoryError::new(&self.place, source))?;
        let place = self.publish()?;
        let directory = place.parent().unwrap_or(Path::new("."));
        let synchronised = File::open(directory).and_then(|directory| directory.sync_all());
        match synchronised {
            // Some file systems have no such call for a directory; they keep names by other means.
            Err(source) if source.kind() != std::io::ErrorKind::InvalidInput => {
                Err(DirectoryError::new(directory, source))
            }
            _ => Ok(place),
        }
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        // After a rename there is nothing to remove; before one, a failure to remove changes nothing.
        let _ = std::fs::remove_file(&self.hidden);
    }
}

/// Whether a name is one of ours that is hidden.
pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(SUFFIX)
}

/// Whether nobody writes a hidden file any more. Asked of the lock, which ends with its process: a process id may be
/// another's by now, or be meant in another container.
pub(super) fn is_left_behind(hidden: &Path) -> bool {
    File::open(hidden).is_ok_and(|file| file.try_lock().is_ok())
}

/// Makes the directory with its parents.
pub(super) fn make(directory: &Path) -> Result<(), DirectoryError> {
    std::fs::create_dir_all(directory).map_err(|source| DirectoryError::new(directory, source))
}
