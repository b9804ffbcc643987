//! A directory of windows that grows neither beyond a size nor beyond an age.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::DirectoryError;
use super::staged::{StagedFile, is_hidden, is_left_behind, make};
use crate::pprof::{encode, encode_of_service};
use crate::profile::Profile;
use crate::stored::{Limits, StoredWindow, WindowFiles, WindowStore};

/// Keeps the newest windows of an attachment as `spanprof-<unix seconds>.pb.gz`.
///
/// What [`write`](WindowDirectory::write) has given back survives the death of the process and of the machine: a window is
/// written beside its place, synchronised with the disk, renamed, and then the directory is synchronised.
#[derive(Debug)]
pub struct WindowDirectory {
    files: WindowFiles,
    limits: Limits,
}

/// What writing one window did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenWindow {
    /// The new file.
    pub path: PathBuf,
    /// The window as it is listed.
    pub window: StoredWindow,
    /// The older windows that made room, oldest first.
    pub removed: Vec<PathBuf>,
}

impl WindowDirectory {
    /// Takes a directory, making it where it is missing, whose windows may take `limit` bytes together.
    /// Other files in it are neither counted nor touched; what a killed process left half-written goes.
    ///
    /// Errors: [`DirectoryError`], where it can't be made or read.
    pub fn new(directory: impl Into<PathBuf>, limit: u64) -> Result<WindowDirectory, DirectoryError> {
        let files = WindowFiles::at(directory);
        make(files.directory())?;
        let windows = WindowDirectory { files, limits: Limits { bytes: limit, age: None } };
        let names = windows.files.names().map_err(|source| windows.error(source))?;
        for name in names.iter().filter(|name| name.starts_with(".spanprof-") && is_hidden(name)) {
            let path = windows.directory().join(name);
            if is_left_behind(&path) {
                let _ = std::fs::remove_file(path);
            }
        }
        Ok(windows)
    }

    /// With each new window those go that began longer than this before it.
    #[must_use]
    pub fn keeping_for(mut self, age: Duration) -> WindowDirectory {
        self.limits.age = Some(age);
        self
    }

    /// To read the windows again.
    pub fn files(&self) -> &WindowFiles {
        &self.files
    }

    /// Writes one window and removes the oldest ones that it has no room beside.
    ///
    /// Errors: [`DirectoryError`]; then the window is lost and the older ones stay, except those already
    /// removed to make room.
    pub fn write(&self, profile: &Profile) -> Result<WrittenWindow, DirectoryError> {
        self.write_encoded(profile, &encode(profile))
    }

    /// The same, with a service's name on all samples that name none.
    ///
    /// Errors: as [`WindowDirectory::write`].
    pub fn write_of_service(
        &self,
        profile: &Profile,
        service: &str,
    ) -> Result<WrittenWindow, DirectoryError> {
        self.write_encoded(profile, &encode_of_service(profile, service))
    }

    fn write_encoded(&self, profile: &Profile, encoded: &[u8]) -> Result<WrittenWindow, DirectoryError> {
        let bytes = encoded.len() as u64;
        if bytes > self.limits.bytes {
            return Err(DirectoryError::WindowTooLarge { bytes, limit: self.limits.bytes });
        }
        let seconds = profile.start_unix_nanoseconds / 1_000_000_000;
        let kept = self.files.list().map_err(|source| self.error(source))?;
        // Before writing: near a full disk the other order would fail for no reason.
        let removed = self.remove(&kept[..self.limits.outlived(&kept, seconds, bytes)])?;
        let window = StoredWindow::beside(&kept, seconds, bytes);
        let place = self.directory().join(window.file_name());
        let path = StagedFile::write(place, encoded)?.publish_to_last()?;
        Ok(WrittenWindow { path, window, removed })
    }

    fn remove(&self, outlived: &[StoredWindow]) -> Result<Vec<PathBuf>, DirectoryError> {
        let mut removed = Vec::new();
        for window in outlived {
            let path = self.directory().join(window.file_name());
            match std::fs::remove_file(&path) {
                Ok(()) => removed.push(path),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(DirectoryError::new(&path, error)),
            }
        }
        Ok(removed)
    }

    fn directory(&self) -> &Path {
        self.files.directory()
    }

    fn error(&self, source: std::io::Error) -> DirectoryError {
        DirectoryError::new(self.directory(), source)
    }
}

/// The windows that a directory holds, the oldest first; other files in it are left out.
///
/// Errors: where the directory can't be read.
pub fn window_files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let windows = WindowFiles::at(directory).list()?;
    Ok(windows.into_iter().map(|window| directory.join(window.file_name())).collect())
}
