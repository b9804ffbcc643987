//! Names of code that a running program compiled: `/tmp/perf-PID.map`, as a JVM writes it.
//!
//! One line per function: address and size in hex, then the name. JDK 17 writes both with `0x` in front,
//! others without. The format is Linux's `perf`'s.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::{Frame, FrameKind};

/// A large application server's map has some megabytes.
const MAX_BYTES: u64 = 64 << 20;
const MAX_FUNCTIONS: usize = 1 << 20;
const MAX_NAME: usize = 1024;

/// The functions of one perf map.
#[derive(Debug, Clone, Default)]
pub struct PerfMap {
    functions: BTreeMap<u64, Function>,
    skipped: usize,
}

#[derive(Debug, Clone)]
struct Function {
    end: u64,
    name: Arc<str>,
}

impl PerfMap {
    /// Reads the map at `path`: `/proc/PID/root/tmp/perf-N.map`, N being the process's id in its own
    /// namespace. At most 64 MiB are read.
    ///
    /// Errors: it can't be read, or is no regular file (links are not followed: `/tmp` is everybody's).
    pub fn read(path: &Path) -> io::Result<PerfMap> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(PerfMap::parse(&bytes))
    }

    /// Takes the lines that make sense and counts the others. A function replaces those before it that it
    /// overlaps, since compiled code is thrown away and its memory used again.
    pub fn parse(bytes: &[u8]) -> PerfMap {
        let mut map = PerfMap::default();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match parse_line(line) {
                Some((start, function)) if map.functions.len() < MAX_FUNCTIONS => {
                    map.insert(start, function);
                }
                _ => map.skipped += 1,
            }
        }
        map
    }

    fn insert(&mut self, start: u64, function: Function) {
        while let Some((&other, old)) = self.functions.range(..function.end).next_back() {
            if old.end <= start {
                break;
            }
            self.functions.remove(&other);
        }
        self.functions.insert(start, function);
    }

    /// The function at `address`, an address of the process.
    pub fn frame_at(&self, address: u64) -> Option<Frame> {
        let (_, function) = self.functions.range(..=address).next_back()?;
        (address < function.end).then(|| Frame {
            function: Arc::clone(&function.name),
            system_name: Arc::clone(&function.name),
            file: None,
            line: 0,
            kind: FrameKind::Jvm,
        })
    }

    /// How many functions there are.
    pub fn len(&self) -> usize {
        self.functions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// How many lines made no sense or were too many.
    pub fn skipped(&self) -> usize {
        self.skipped
    }
}

fn parse_line(line: &[u8]) -> Option<(u64, Function)> {
    let text = String::from_utf8_lossy(line);
    let (start, rest) = text.trim_start().split_once(' ')?;
    let (size, name) = rest.trim_start().split_once(' ')?;
    let (start, size) = (hex(start)?, hex(size)?);
    let name: String = name
        .trim()
        .chars()
        .take(MAX_NAME)
        .map(|character| if character.is_control() { '?' } else { character })
        .collect();
    let end = start.checked_add(size).filter(|end| *end > start)?;
    (!name.is_empty()).then(|| (start, Function { end, name: name.into() }))
}

fn hex(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    // `from_str_radix` takes a sign.
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name_at(map: &PerfMap, address: u64) -> Option<String> {
        map.frame_at(address).map(|frame| frame.function.to_string())
    }

    #[test]
    fn both_ways_to_write_numbers_are_read() {
        let map = PerfMap::parse(
            b"0x00007f0000001000 0x40 java.lang.String::hashCode\n\
              7f0000002000 20 void Orders.parse(int)\n",
        );
        assert_eq!((map.len(), map.skipped()), (2, 0));
        assert_eq!(name_at(&map, 0x7f00_0000_1000).unwrap(), "java.lang.String::hashCode");
        assert_eq!(name_at(&map, 0x7f00_0000_103f).unwrap(), "java.lang.String::hashCode");
        assert_eq!(name_at(&map, 0x7f00_0000_1040), None);
        assert_eq!(name_at(&map, 0x7f00_0000_2001).unwrap(), "void Orders.parse(int)");
        assert_eq!(map.frame_at(0x7f00_0000_2001).unwrap().kind, FrameKind::Jvm);
        assert_eq!(name_at(&map, 0), None);
    }

    #[test]
    fn later_code_replaces_what_lay_in_its_place() {
        let map = PerfMap::parse(b"100 80 old\n180 80 next\n160 40 new\n300 10 far\n");
        assert_eq!(name_at(&map, 0x110), None);
        assert_eq!(name_at(&map, 0x170).unwrap(), "new");
        assert_eq!(name_at(&map, 0x19f).unwrap(), "new");
        assert_eq!(name_at(&map, 0x1b0), None);
        assert_eq!(name_at(&map, 0x300).unwrap(), "far");
    }

    #[test]
    fn lines_that_make_no_sense_are_counted() {
        let map = PerfMap::parse(
            b"zz 10 name\n100\n100 10\n100 0 empty\n+100 10 sign\nffffffffffffffff 10 wraps\n\
              200 10  \n300 8 good\x07name\n",
        );
        assert_eq!((map.len(), map.skipped()), (1, 7));
        assert_eq!(name_at(&map, 0x300).unwrap(), "good?name");
    }

    proptest! {
        #[test]
        fn no_bytes_crash_it(bytes in prop::collection::vec(any::<u8>(), 0..300), at: u64) {
            PerfMap::parse(&bytes).frame_at(at);
        }

        #[test]
        fn functions_never_overlap(
            lines in prop::collection::vec((0u64..500, 1u64..60), 0..60),
        ) {
            let text: String = lines
                .iter()
                .enumerate()
                .map(|(index, (start, size))| format!("{start:x} {size:x} f{index}\n"))
                .collect();
            let map = PerfMap::parse(text.as_bytes());
            let functions: Vec<_> = map.functions.iter().collect();
            prop_assert!(functions.windows(2).all(|pair| pair[0].1.end <= *pair[1].0));
            // The last to claim an address has it.
            if let Some((start, size)) = lines.last() {
                let name = name_at(&map, start + size - 1).unwrap();
                prop_assert_eq!(name, format!("f{}", lines.len() - 1));
            }
        }
    }
}
