//! The newest windows in memory, for an agent that has no directory to write them into.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Limits, StoredWindow, WindowStore};
use crate::pprof::encode;
use crate::profile::Profile;

/// Keeps windows as pprof files would hold them, compressed: a tenth of what they take as a [`Profile`].
#[derive(Debug)]
pub struct WindowMemory {
    limits: Limits,
    windows: Mutex<VecDeque<(StoredWindow, Arc<[u8]>)>>,
}

impl WindowMemory {
    /// Takes so many bytes of windows at most; the oldest go first.
    pub fn new(bytes: u64) -> WindowMemory {
        WindowMemory { limits: Limits { bytes, age: None }, windows: Mutex::default() }
    }

    /// Keeps a window; none where it alone is larger than all may be.
    pub fn write(&self, profile: &Profile) -> Option<StoredWindow> {
        self.write_encoded(profile.start_unix_nanoseconds, encode(profile))
    }

    /// The same with a pprof file of a window that began at that time, in nanoseconds since the Unix epoch.
    pub fn write_encoded(&self, start_unix_nanoseconds: u64, encoded: Vec<u8>) -> Option<StoredWindow> {
        let bytes = encoded.len() as u64;
        if bytes > self.limits.bytes {
            return None;
        }
        let seconds = start_unix_nanoseconds / 1_000_000_000;
        let mut windows = self.locked();
        let kept: Vec<StoredWindow> = windows.iter().map(|(window, _)| *window).collect();
        windows.drain(..self.limits.outlived(&kept, seconds, bytes));
        let window = StoredWindow::beside(&kept, seconds, bytes);
        let place = windows.partition_point(|(kept, _)| *kept < window);
        windows.insert(place, (window, encoded.into()));
        Some(window)
    }

    fn locked(&self) -> MutexGuard<'_, VecDeque<(StoredWindow, Arc<[u8]>)>> {
        // Nothing is ever left half done under this lock.
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WindowStore for WindowMemory {
    fn list(&self) -> io::Result<Vec<StoredWindow>> {
        Ok(self.locked().iter().map(|(window, _)| *window).collect())
    }

    fn read(&self, window: &StoredWindow) -> io::Result<Option<Vec<u8>>> {
        let bytes = self.locked().iter().find(|(kept, _)| kept == window).map(|(_, bytes)| Arc::clone(bytes));
        Ok(bytes.map(|bytes| bytes.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_in_order_and_read_as_they_were() {
        let memory = WindowMemory::new(25);
        let write = |seconds: u64, byte| memory.write_encoded(seconds * 1_000_000_000 + 7, vec![byte; 10]);
        let first = write(10, 1).unwrap();
        let third = write(30, 3).unwrap();
        assert_eq!(memory.read(&third).unwrap(), Some(vec![3; 10]));
        let second = write(20, 2).unwrap();
        assert_eq!(memory.list().unwrap(), [second, third]);
        assert_eq!(memory.read(&first).unwrap(), None);
        assert_eq!(write(30, 4).unwrap().number, 2);
        assert_eq!(memory.write_encoded(0, vec![0; 26]), None);
        assert_eq!(memory.list().unwrap().len(), 2);
    }
}
