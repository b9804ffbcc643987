//! Windows in a directory, as [`WindowDirectory`](crate::directory::WindowDirectory) writes them.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{MOST_BYTES, StoredWindow, WindowStore};

/// Reads a directory's windows; other files in it are left out.
#[derive(Debug, Clone)]
pub struct WindowFiles {
    directory: PathBuf,
}

impl WindowFiles {
    /// The windows of this directory.
    pub fn at(directory: impl Into<PathBuf>) -> WindowFiles {
        WindowFiles { directory: directory.into() }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The names of all entries.
    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            // No window has a name that is no text.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }
}

impl WindowStore for WindowFiles {
    fn list(&self) -> io::Result<Vec<StoredWindow>> {
        let mut windows = Vec::new();
        for name in self.names()? {
            let Some((seconds, number)) = StoredWindow::parse(&name) else { continue };
            // A window that somebody removes meanwhile takes no room.
            let metadata = std::fs::symlink_metadata(self.directory.join(&name));
            windows.push(StoredWindow { seconds, number, bytes: metadata.map_or(0, |found| found.len()) });
        }
        windows.sort_unstable();
        Ok(windows)
    }

    fn read(&self, window: &StoredWindow) -> io::Result<Option<Vec<u8>>> {
        let path = self.directory.join(window.file_name());
        let found = match std::fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        // To open a pipe of that name would wait for whoever writes into it.
        if !found.is_file() || found.len() > MOST_BYTES {
            let words = format!("{} is no file of at most {} MiB", path.display(), MOST_BYTES >> 20);
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        let mut bytes = Vec::with_capacity(found.len() as usize);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?.take(MOST_BYTES).read_to_end(&mut bytes)?,
        };
        Ok(Some(bytes))
    }
}
