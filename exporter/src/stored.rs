//! Windows that are kept to be looked at again: on disk as plain pprof files, or in memory.
//!
//! A window is known by the second in which it began and by its number within that second, which is also its file's name.
//! How long it was is said inside: nothing beside the files has to be kept right, and a window that somebody copies into the
//! directory belongs to it.

mod files;
mod memory;

use std::io;
use std::time::Duration;

pub use files::WindowFiles;
pub use memory::WindowMemory;

/// The largest window that is read again, in bytes as stored.
const MOST_BYTES: u64 = 256 << 20;

/// One window that is kept; the order is the order of age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoredWindow {
    /// The second in which it began, since the Unix epoch.
    pub seconds: u64,
    /// Which of those that began in it, from 1.
    pub number: u32,
    /// Its size as stored.
    pub bytes: u64,
}

/// A place in which windows are kept.
pub trait WindowStore: Send + Sync {
    /// What there is, the oldest first.
    ///
    /// Errors: where the place can't be read.
    fn list(&self) -> io::Result<Vec<StoredWindow>>;

    /// One window as a pprof file; none where it has made room for newer ones meanwhile.
    ///
    /// Errors: where it is there and can't be read.
    fn read(&self, window: &StoredWindow) -> io::Result<Option<Vec<u8>>>;
}

impl StoredWindow {
    /// The name of its file, such as `spanprof-1795505400.pb.gz`.
    pub fn file_name(&self) -> String {
        match self.number {
            1 => format!("spanprof-{}.pb.gz", self.seconds),
            number => format!("spanprof-{}-{number}.pb.gz", self.seconds),
        }
    }

    /// The second and the number within it that a file's name says; none where the name is not one of ours.
    pub(crate) fn parse(name: &str) -> Option<(u64, u32)> {
        let stem = name.strip_prefix("spanprof-")?.strip_suffix(".pb.gz")?;
        match stem.split_once('-') {
            None => Some((stem.parse().ok()?, 1)),
            Some((seconds, number)) => Some((seconds.parse().ok()?, number.parse().ok()?)),
        }
    }

    /// A new one that begins in a second, beside those that are kept.
    pub(crate) fn beside(kept: &[StoredWindow], seconds: u64, bytes: u64) -> StoredWindow {
        let same_second = kept.iter().filter(|window| window.seconds == seconds);
        let number = same_second.map(|window| window.number.saturating_add(1)).max().unwrap_or(1);
        StoredWindow { seconds, number, bytes }
    }
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// All windows together, in bytes as stored.
    pub(crate) bytes: u64,
    /// From a window's begin to the newest one's.
    pub(crate) age: Option<Duration>,
}

impl Limits {
    /// How many of the oldest windows have to go before one of so many bytes is kept that began at `seconds`.
    ///
    /// Age is measured from window to window and not by the clock: what is kept of a machine that slept is as much as of one
    /// that did not.
    pub(crate) fn outlived(&self, kept: &[StoredWindow], seconds: u64, bytes: u64) -> usize {
        let newest = kept.last().map_or(seconds, |window| window.seconds.max(seconds));
        let too_old = |window: &StoredWindow| {
            self.age.is_some_and(|age| newest.saturating_sub(window.seconds) > age.as_secs())
        };
        let mut total: u64 = kept.iter().map(|window| window.bytes).sum();
        let goes = |window: &&StoredWindow| {
            let goes = too_old(window) || total.saturating_add(bytes) > self.bytes;
            total -= if goes { window.bytes } else { 0 };
            goes
        };
        kept.iter().take_while(goes).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(seconds: u64) -> StoredWindow {
        StoredWindow { seconds, number: 1, bytes: 10 }
    }

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
            assert_eq!(StoredWindow::parse(name), expected, "{name}");
        }
        for number in [1, 3] {
            let window = StoredWindow { number, ..window(7) };
            assert_eq!(StoredWindow::parse(&window.file_name()), Some((7, number)));
        }
    }

    #[test]
    fn of_one_second_each_has_its_number() {
        let kept = [window(1), StoredWindow { number: 7, ..window(2) }, window(3)];
        let number = |seconds| StoredWindow::beside(&kept, seconds, 1).number;
        assert_eq!([number(0), number(1), number(2)], [1, 2, 8]);
    }

    #[test]
    fn the_oldest_go_by_size_and_by_age() {
        let kept = [window(100), window(110), window(120)];
        let outlived = |bytes, age, seconds| {
            let limits = Limits { bytes, age: Some(Duration::from_secs(age)) };
            limits.outlived(&kept, seconds, 10)
        };
        assert_eq!(outlived(40, 1_000, 130), 0);
        assert_eq!(outlived(39, 1_000, 130), 1);
        assert_eq!(outlived(5, 1_000, 130), 3);
        assert_eq!(outlived(1_000, 30, 130), 0);
        assert_eq!(outlived(1_000, 19, 130), 2);
        // One that comes late makes nothing older.
        assert_eq!(outlived(1_000, 19, 90), 1);
        assert_eq!(Limits { bytes: 40, age: None }.outlived(&kept, u64::MAX, 10), 0);
    }
}
