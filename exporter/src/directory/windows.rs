//! A directory of windows that never grows beyond a limit.

use std::path::{Path, PathBuf};

use super::DirectoryError;
use super::staged::{StagedFile, make, owner_of_hidden};
use crate::pprof::{encode, encode_of_service};
use crate::profile::Profile;

/// Keeps the newest windows of an attachment as `spanprof-<unix seconds>.pb.gz`.
#[derive(Debug)]
pub struct WindowDirectory {
    directory: PathBuf,
    limit: u64,
}

/// What writing one window did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenWindow {
    /// The new file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// The older windows that made room, oldest first.
    pub removed: Vec<PathBuf>,
}

/// One window on disk; the order is the order of age.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Window {
    seconds: u64,
    number: u32,
    path: PathBuf,
    bytes: u64,
}

impl WindowDirectory {
    /// Takes a directory, making it where it is missing, whose windows may take `limit` bytes together.
    /// Other files in it are neither counted nor touched; what a killed process left half-written goes.
    ///
    /// Errors: [`DirectoryError`], where it can't be made or read.
    pub fn new(directory: impl Into<PathBuf>, limit: u64) -> Result<WindowDirectory, DirectoryError> {
        let directory = directory.into();
        make(&directory)?;
        let windows = WindowDirectory { directory, limit };
        for (name, path) in windows.entries()? {
            let left_behind = name.starts_with(".spanprof-")
                && owner_of_hidden(&name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists());
            if left_behind {
                let _ = std::fs::remove_file(path);
            }
        }
        Ok(windows)
    }

    /// Writes one window and removes the oldest ones that it has no room beside.
    ///
    /// Errors: [`DirectoryError`]; then the window is lost and the older ones stay, except those already
    /// removed to make room.
    pub fn write(&self, profile: &Profile) -> Result<WrittenWindow, DirectoryError> {
        self.write_encoded(profile, encode(profile))
    }

    /// The same, with a service's name on all samples that name none.
    ///
    /// Errors: as [`WindowDirectory::write`].
    pub fn write_of_service(
        &self,
        profile: &Profile,
        service: &str,
    ) -> Result<WrittenWindow, DirectoryError> {
        self.write_encoded(profile, encode_of_service(profile, service))
    }

    fn write_encoded(&self, profile: &Profile, encoded: Vec<u8>) -> Result<WrittenWindow, DirectoryError> {
        let bytes = encoded.len() as u64;
        if bytes > self.limit {
            return Err(DirectoryError::WindowTooLarge { bytes, limit: self.limit });
        }
        let mut windows = self.windows()?;
        let removed = self.make_room(&mut windows, bytes)?;
        let seconds = profile.start_unix_nanoseconds / 1_000_000_000;
        let same_second = windows.iter().filter(|window| window.seconds == seconds);
        let name = match same_second.map(|window| window.number).max() {
            None => format!("spanprof-{seconds}.pb.gz"),
            Some(number) => format!("spanprof-{seconds}-{}.pb.gz", number.saturating_add(1)),
        };
        let path = StagedFile::write(self.directory.join(name), &encoded)?.publish()?;
        Ok(WrittenWindow { path, bytes, removed })
    }

    /// Removes before writing: near a full disk the other order would fail for no reason.
    fn make_room(&self, windows: &mut Vec<Window>, bytes: u64) -> Result<Vec<PathBuf>, DirectoryError> {
        let mut total: u64 = windows.iter().map(|window| window.bytes).sum();
        let mut removed = Vec::new();
        while total.saturating_add(bytes) > self.limit && !windows.is_empty() {
            let oldest = windows.remove(0);
            match std::fs::remove_file(&oldest.path) {
                Ok(()) => removed.push(oldest.path),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(DirectoryError::new(&oldest.path, error)),
            }
            total -= oldest.bytes;
        }
        Ok(removed)
    }

    fn windows(&self) -> Result<Vec<Window>, DirectoryError> {
        Ok(windows(self.entries()?))
    }

    fn entries(&self) -> Result<Vec<(String, PathBuf)>, DirectoryError> {
        entries(&self.directory).map_err(|source| DirectoryError::new(&self.directory, source))
    }
}

/// The windows that a directory holds, the oldest first; other files in it are left out.
///
/// Errors: where the directory can't be read.
pub fn window_files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    Ok(windows(entries(directory)?).into_iter().map(|window| window.path).collect())
}

/// The windows among a directory's entries, the oldest first.
fn windows(entries: Vec<(String, PathBuf)>) -> Vec<Window> {
    let mut windows = Vec::new();
    for (name, path) in entries {
        let Some((seconds, number)) = window_name(&name) else { continue };
        // A window that somebody removes meanwhile takes no room.
        let bytes = std::fs::symlink_metadata(&path).map_or(0, |metadata| metadata.len());
        windows.push(Window { seconds, number, path, bytes });
    }
    windows.sort();
    windows
}

fn entries(directory: &Path) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            entries.push((name, entry.path()));
        }
    }
    Ok(entries)
}

/// The second and the number within it of a window's file name.
fn window_name(name: &str) -> Option<(u64, u32)> {
    let stem = name.strip_prefix("spanprof-")?.strip_suffix(".pb.gz")?;
    match stem.split_once('-') {
        None => Some((stem.parse().ok()?, 1)),
        Some((seconds, number)) => Some((seconds.parse().ok()?, number.parse().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_windows() {
        for (name, expected) in [
            ("spanprof-1795505400.pb.gz", Some((1_795_505_400, 1))),
            ("spanprof-1795505400-3.pb.gz", Some((1_795_505_400, 3))),
            ("spanprof-.pb.gz", None),
            ("spanprof-notes.pb.gz", None),
            ("profile.pb.gz", None),
            (".spanprof-1.pb.gz.7-0.partial", None),
        ] {
            assert_eq!(window_name(name), expected, "{name}");
        }
        assert_eq!(owner_of_hidden(".spanprof-1.pb.gz.7-0.partial"), Some(7));
        assert_eq!(owner_of_hidden("spanprof-1.pb.gz"), None);
    }
}
