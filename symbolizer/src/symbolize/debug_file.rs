//! Finds the separate debug file of a stripped object.
//!
//! Distributions and build servers cut DWARF and symbols off into a file of its own, found by build id
//! (`/usr/lib/debug/.build-id/ab/cdef….debug`) or by the name in `.gnu_debuglink`. Both are looked for in
//! the target's root first, then in this machine's. A file counts only if its build id is the object's, or,
//! for objects without one, if its CRC is the one that the link names.
//!
//! `blazesym` can follow links too; it does so only from the object's path, which here is a handle, reads
//! the whole debug file for its CRC, and skips build ids where there is no link. So it is given what was
//! found here instead.

use std::path::{Path, PathBuf};

use crate::object::ObjectFile;

/// Where distributions put debug files.
pub(super) const DEFAULT_DIRECTORY: &str = "/usr/lib/debug";

const MAX_LINK: u64 = 4096;
/// How much of a file is read at once for its CRC.
const CHUNK: u64 = 1 << 20;

/// The debug file of `object`, opened; `None` where it needs none or has none.
pub(super) fn find(object: &ObjectFile, directories: &[PathBuf]) -> Option<ObjectFile> {
    if object.has_debug_information() {
        return None;
    }
    let link = Link::of(object);
    candidates(object, link.as_ref(), directories).into_iter().find_map(|path| {
        let candidate = ObjectFile::open(&path, &path.display().to_string()).ok()?;
        let fits = match (object.build_id(), candidate.build_id()) {
            (Some(ours), Some(theirs)) => ours == theirs,
            (Some(_), None) => false,
            (None, _) => link.as_ref().is_some_and(|link| crc(&candidate) == Some(link.crc)),
        };
        fits.then_some(candidate)
    })
}

fn candidates(object: &ObjectFile, link: Option<&Link>, directories: &[PathBuf]) -> Vec<PathBuf> {
    let roots: &[&Path] = match object.root() {
        root if root == Path::new("") || root == Path::new("/") => &[Path::new("/")],
        root => &[root, Path::new("/")],
    };
    let mut paths = Vec::new();
    for root in roots {
        let below = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        // Shorter ids are no hashes.
        if let Some((first, rest)) = object.build_id().and_then(|id| id.split_at_checked(2)) {
            for directory in directories {
                let name = format!("{rest}.debug");
                paths.push(below(directory).join(".build-id").join(first).join(name));
            }
        }
        let beside = Path::new(object.display_name()).parent();
        if let (Some(link), Some(beside)) = (link, beside.filter(|path| path.is_absolute())) {
            paths.push(below(beside).join(&link.name));
            paths.push(below(beside).join(".debug").join(&link.name));
            for directory in directories {
                let mirrored = directory.join(beside.strip_prefix("/").unwrap_or(beside));
                paths.push(below(&mirrored).join(&link.name));
            }
        }
    }
    paths
}

/// What `.gnu_debuglink` says: a file name and the CRC of that file.
struct Link {
    name: String,
    crc: u32,
}

impl Link {
    fn of(object: &ObjectFile) -> Option<Link> {
        let section = object.sections_named(b".gnu_debuglink").next()?;
        if section.size > MAX_LINK || !section.has_bytes {
            return None;
        }
        Link::parse(&object.read(section.file_offset, section.size).ok()?)
    }

    fn parse(bytes: &[u8]) -> Option<Link> {
        let end = bytes.iter().position(|byte| *byte == 0)?;
        let name = std::str::from_utf8(&bytes[..end]).ok()?;
        let at = (end + 1).next_multiple_of(4);
        let crc = u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?);
        // A name, not a path: the object must not choose where to look.
        if name.is_empty() || name == "." || name == ".." || name.contains('/') {
            return None;
        }
        Some(Link { name: name.to_owned(), crc })
    }
}

fn crc(object: &ObjectFile) -> Option<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut offset = 0;
    loop {
        let size = object.bytes_after(offset).min(CHUNK);
        if size == 0 {
            return Some(hasher.finalize());
        }
        hasher.update(&object.read(offset, size).ok()?);
        offset += size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_name_files_and_never_places() {
        let link = Link::parse(b"app.debug\0\0\0\x01\x02\x03\x04").unwrap();
        assert_eq!((link.name.as_str(), link.crc), ("app.debug", 0x0403_0201));
        assert!(Link::parse(b"../../etc/x\0\x01\x02\x03\x04").is_none());
        assert!(Link::parse(b"..\0\0\x01\x02\x03\x04").is_none());
        assert!(Link::parse(b"\0\0\0\0\x01\x02\x03\x04").is_none());
        assert!(Link::parse(b"app.debug\0\0\0\x01\x02").is_none());
        assert!(Link::parse(b"app.debug").is_none());
    }
}
