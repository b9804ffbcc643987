//! A process's list of mappings, `/proc/PID/maps`, as far as context needs it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

/// The most that is read of one process's list: some 400,000 mappings, six times the kernel's default limit.
const MAXIMUM_BYTES: u64 = 64 << 20;

/// One mapping.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Whether it may be executed.
    pub executable: bool,
    /// Offset of the first byte in the file.
    pub file_offset: u64,
    /// The file's device, major and minor.
    pub device: (u32, u32),
    /// The file's inode; 0 if there is no file.
    pub inode: u64,
    /// Path or name as the kernel prints it, perhaps with ` (deleted)`; empty if there is none.
    pub name: String,
}

/// Reads a process's mappings in address order. Lines that cannot be understood are skipped.
///
/// Errors: the process is gone, or may not be inspected by us.
pub fn read(process: u32) -> io::Result<Vec<Mapping>> {
    let file = File::open(format!("/proc/{process}/maps"))?;
    let mut lines = BufReader::with_capacity(64 << 10, file.take(MAXIMUM_BYTES));
    let mut mappings = Vec::new();
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        mappings.extend(parse_line(&String::from_utf8_lossy(&line)));
        line.clear();
    }
    Ok(mappings)
}

/// Parses one line of the list.
pub fn parse_line(line: &str) -> Option<Mapping> {
    let line = line.strip_suffix('\n').unwrap_or(line);
    let mut rest = line;
    let mut field = || {
        let (field, after) = rest.split_once(' ')?;
        rest = after;
        Some(field)
    };
    let (start, end) = field()?.split_once('-')?;
    let permissions = field()?;
    let file_offset = field()?;
    let (major, minor) = field()?.split_once(':')?;
    // An anonymous mapping's line ends after the inode, in older kernels without a space.
    let (inode, name) = rest.split_once(' ').unwrap_or((rest, ""));
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        executable: permissions.as_bytes().get(2) == Some(&b'x'),
        file_offset: u64::from_str_radix(file_offset, 16).ok()?,
        device: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
        inode: inode.parse().ok()?,
        name: name.trim_start().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_spaces_in_its_name() {
        let mapping = parse_line(
            "7f00-7f10 r-xp 0001a000 fe:01 4711                       /opt/my app/lib.so (deleted)\n",
        )
        .unwrap();
        assert_eq!((mapping.start, mapping.end, mapping.file_offset), (0x7f00, 0x7f10, 0x1a000));
        assert_eq!((mapping.device, mapping.inode, mapping.executable), ((0xfe, 1), 4711, true));
        assert_eq!(mapping.name, "/opt/my app/lib.so (deleted)");
    }

    #[test]
    fn an_anonymous_mapping() {
        for line in ["10-20 rw-p 00000000 00:00 0", "10-20 rw-p 00000000 00:00 0 \n"] {
            let mapping = parse_line(line).unwrap();
            assert_eq!((mapping.name.as_str(), mapping.inode, mapping.executable), ("", 0, false));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["", "\n", "10 rw-p", "x-y rw-p 0 0:0 0 a", "10-20 rw-p 0 0 0 a"] {
            assert_eq!(parse_line(line), None, "{line}");
        }
    }
}
