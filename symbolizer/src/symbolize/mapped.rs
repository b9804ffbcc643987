//! Gives back the pages of files that were read through a mapping.
//!
//! `blazesym` maps whole files and keeps them mapped. Every page that it touched, and those around it that
//! the kernel mapped along, count as this process's memory until somebody needs the room: 75 MB for one
//! debug build of a small service. They are in the page cache in any case, so giving them back costs the
//! next reader some page faults and no disk access.
//!
//! Where a file system gives files another device number than their mappings (overlays do), nothing is
//! found and nothing given back.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;

/// Gives back the pages of every shared, read-only mapping of `file` in this process.
///
/// Such a mapping has no pages of its own, so nothing can be lost; the program loader's are private and are
/// left alone.
pub(super) fn give_back(file: &File) {
    let (Ok(metadata), Ok(maps)) = (file.metadata(), std::fs::read_to_string("/proc/self/maps")) else {
        return;
    };
    let device = (libc::major(metadata.dev()), libc::minor(metadata.dev()));
    for (start, length) in maps.lines().filter_map(|line| shared(line, device, metadata.ino())) {
        // SAFETY: on a shared mapping of a file that nobody can write through, this only drops pages, which
        // come back from the file when they are touched again; a mapping that has gone meanwhile is an
        // error that changes nothing. Nothing else in this process maps at addresses of its own choice.
        unsafe {
            libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED);
        }
    }
}

/// Start and length, if the line is a shared and read-only mapping of that inode.
fn shared(line: &str, device: (u32, u32), inode: u64) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    if fields.next()? != "r--s" {
        return None;
    }
    let (major, minor) = fields.nth(1)?.split_once(':')?;
    let hex = |text: &str| u32::from_str_radix(text, 16).ok();
    if (hex(major)?, hex(minor)?) != device || fields.next()?.parse() != Ok(inode) {
        return None;
    }
    let start = usize::from_str_radix(start, 16).ok()?;
    let length = usize::from_str_radix(end, 16).ok()?.checked_sub(start)?;
    Some((start, length))
}

#[cfg(test)]
mod tests {
    use super::shared;

    #[test]
    fn only_shared_read_only_mappings_of_the_file_count() {
        let line = "7f0000000000-7f0000004000 r--s 00000000 fe:0a 77                 /srv/app";
        assert_eq!(shared(line, (0xfe, 0x0a), 77), Some((0x7f00_0000_0000, 0x4000)));
        assert_eq!(shared(line, (0xfe, 0x0a), 78), None);
        assert_eq!(shared(line, (0xfe, 0x0b), 77), None);
        assert_eq!(shared(&line.replace("r--s", "r--p"), (0xfe, 0x0a), 77), None);
        assert_eq!(shared(&line.replace("r--s", "rw-s"), (0xfe, 0x0a), 77), None);
        assert_eq!(shared("", (0, 0), 0), None);
    }
}
