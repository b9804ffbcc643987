//! Where a process's code lies: a bounded parser of `/proc/PID/maps`.
//!
//! The file holds text that the process chose (paths, names of anonymous memory), so a line may be
//! anything: one that does not parse is counted and skipped, never an error for the others. The format is
//! that of proc_pid_maps(5). Only code is kept by [`CodeMappings::read`]: a broker may have 60,000 data
//! mappings and 40 executable ones.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::Pid;
use super::process::ProcessError;
use super::procfs::ProcFs;

/// Bytes read of one `maps` file: the default `vm.max_map_count` (65,530) times a generous line.
const MAX_BYTES: u64 = 32 << 20;
/// The longest line kept: `PATH_MAX` with every byte escaped as `\012`, and the fields before it.
const MAX_LINE: u64 = 4 * 4096 + 256;
/// Executable mappings kept per process. A JVM with a segmented code cache has a few hundred.
const MAX_CODE_MAPPINGS: usize = 16_384;

/// One mapping of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The first address.
    pub start: u64,
    /// The address behind the last one.
    pub end: u64,
    /// The offset in the file of the first address, in bytes.
    pub offset: u64,
    /// The device that holds the file; zero for memory without one.
    pub device: DeviceNumber,
    /// The inode of the file; zero for memory without one.
    pub inode: u64,
    /// Whether the process may run code here.
    pub executable: bool,
    /// What is mapped.
    pub path: MappingPath,
}

/// A device as the kernel numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceNumber {
    /// The driver.
    pub major: u32,
    /// The device of that driver.
    pub minor: u32,
}

/// What lies behind a mapping.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MappingPath {
    /// A file, by its path in the process's own mount namespace.
    File {
        /// The path, without the kernel's ` (deleted)`.
        path: PathBuf,
        /// Whether the kernel said that the path no longer leads to this file: removed, or replaced by
        /// an upgrade. A file that is really named so cannot be told apart; opening it checks the inode.
        deleted: bool,
    },
    /// Shared memory without a path that could be opened: a memfd, System V, or a shared anonymous map.
    SharedMemory(OsString),
    /// The kernel's shared object for fast system calls.
    Vdso,
    /// The old fixed page of system calls.
    Vsyscall,
    /// Memory with no file. The name is what `PR_SET_VMA_ANON_NAME` set, if anything.
    Anonymous(Option<OsString>),
    /// Something else of the kernel: `[heap]`, `[stack]`, `[vvar]`, `[uprobes]`.
    Special(OsString),
}

impl Mapping {
    /// Whether the address lies inside.
    pub fn contains(&self, address: u64) -> bool {
        self.start <= address && address < self.end
    }

    /// The path of the file, where there is one.
    pub fn file_path(&self) -> Option<&Path> {
        match &self.path {
            MappingPath::File { path, .. } => Some(path),
            _ => None,
        }
    }

    /// Whether code here can be unwound or at least named: a file's, the vdso's, or what a just-in-time
    /// compiler wrote.
    pub fn is_code(&self) -> bool {
        self.executable && !matches!(self.path, MappingPath::Vsyscall | MappingPath::Special(_))
    }
}

/// The executable mappings of a process, ascending by address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CodeMappings {
    /// Files' code, the vdso, and anonymous executable memory.
    pub mappings: Vec<Mapping>,
    /// Lines that did not parse.
    pub unreadable_lines: u64,
    /// Executable mappings beyond the bound that were dropped, or 1 where the text itself was too long.
    pub dropped: u64,
}

impl CodeMappings {
    /// Reads those of a running process.
    ///
    /// # Errors
    /// When the process is gone, is a kernel thread, or may not be read.
    pub fn read(procfs: &ProcFs, pid: Pid) -> Result<CodeMappings, ProcessError> {
        let file = File::open(procfs.path(pid, "maps"))
            .map_err(|error| ProcessError::from_io(pid, "maps", error))?;
        CodeMappings::parse(file).map_err(|error| ProcessError::from_io(pid, "maps", error))
    }

    /// Parses the text of a `maps` file.
    ///
    /// # Errors
    /// Only those of the reader; no content is an error.
    pub fn parse(reader: impl Read) -> std::io::Result<CodeMappings> {
        let mut reader = BufReader::with_capacity(64 << 10, reader.take(MAX_BYTES));
        let mut code = CodeMappings::default();
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let whole = line.last() == Some(&b'\n');
            if whole {
                line.pop();
            } else {
                reader.skip_until(b'\n')?;
            }
            code.take_line(&line);
        }
        if reader.get_ref().limit() == 0 {
            code.dropped += 1;
        }
        // The kernel's order is ascending; lookups rely on it, so a forged text must not break them.
        code.mappings.sort_by_key(|mapping| mapping.start);
        Ok(code)
    }

    /// The mapping that holds an address.
    pub fn find(&self, address: u64) -> Option<&Mapping> {
        let after = self.mappings.partition_point(|mapping| mapping.start <= address);
        self.mappings[..after].last().filter(|mapping| mapping.contains(address))
    }

    fn take_line(&mut self, line: &[u8]) {
        match parse_line(line) {
            None => self.unreadable_lines += 1,
            Some(mapping) if !mapping.is_code() => {}
            Some(_) if self.mappings.len() >= MAX_CODE_MAPPINGS => self.dropped += 1,
            Some(mapping) => self.mappings.push(mapping),
        }
    }
}

/// One line of a `maps` file, without its line feed; `None` where it is not one.
pub fn parse_line(line: &[u8]) -> Option<Mapping> {
    let (range, rest) = field(line)?;
    let (permissions, rest) = field(rest)?;
    let (offset, rest) = field(rest)?;
    let (device, rest) = field(rest)?;
    let (inode, rest) = field(rest).unwrap_or((rest, b""));

    let (start, end) = split(range, b'-')?;
    let (major, minor) = split(device, b':')?;
    let (start, end) = (hexadecimal(start)?, hexadecimal(end)?);
    if start >= end || permissions.len() < 4 {
        return None;
    }
    let inode: u64 = std::str::from_utf8(inode).ok()?.parse().ok()?;
    Some(Mapping {
        start,
        end,
        offset: hexadecimal(offset)?,
        device: DeviceNumber {
            major: u32::try_from(hexadecimal(major)?).ok()?,
            minor: u32::try_from(hexadecimal(minor)?).ok()?,
        },
        inode,
        executable: permissions[2] == b'x',
        path: classify(rest.trim_ascii_start(), inode),
    })
}

fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    split(bytes, b' ').filter(|(head, _)| !head.is_empty())
}

fn split(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let position = bytes.iter().position(|byte| *byte == separator)?;
    Some((&bytes[..position], &bytes[position + 1..]))
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn classify(path: &[u8], inode: u64) -> MappingPath {
    match path {
        b"" => MappingPath::Anonymous(None),
        b"[vdso]" => MappingPath::Vdso,
        b"[vsyscall]" => MappingPath::Vsyscall,
        _ if path.starts_with(b"/") && is_shared_memory(path) => MappingPath::SharedMemory(unescape(path)),
        _ if path.starts_with(b"/") && inode != 0 => {
            let (path, deleted) = match path.strip_suffix(b" (deleted)") {
                Some(path) => (path, true),
                None => (path, false),
            };
            MappingPath::File { path: PathBuf::from(unescape(path)), deleted }
        }
        _ => match anonymous_name(path) {
            Some(name) => MappingPath::Anonymous(Some(unescape(name))),
            None => MappingPath::Special(unescape(path)),
        },
    }
}

/// Names that the kernel gives to files that no path leads to.
fn is_shared_memory(path: &[u8]) -> bool {
    let unlinked = path.strip_suffix(b" (deleted)");
    path.starts_with(b"/memfd:")
        || path.starts_with(b"/SYSV") && unlinked.is_some()
        || unlinked == Some(b"/dev/zero")
        || unlinked == Some(b"/anon_hugepage")
}

fn anonymous_name(path: &[u8]) -> Option<&[u8]> {
    let inner = path.strip_prefix(b"[")?.strip_suffix(b"]")?;
    inner.strip_prefix(b"anon:").or_else(|| inner.strip_prefix(b"anon_shmem:"))
}

/// The kernel writes a line feed in a path as `\012` and nothing else escaped.
fn unescape(path: &[u8]) -> OsString {
    const LINE_FEED: &[u8] = b"\\012";
    if !path.windows(LINE_FEED.len()).any(|window| window == LINE_FEED) {
        return OsStr::from_bytes(path).to_owned();
    }
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(byte) = rest.first() {
        if let Some(after) = rest.strip_prefix(LINE_FEED) {
            plain.push(b'\n');
            rest = after;
        } else {
            plain.push(*byte);
            rest = &rest[1..];
        }
    }
    OsString::from_vec(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(path: &str, deleted: bool) -> MappingPath {
        MappingPath::File { path: path.into(), deleted }
    }

    #[test]
    fn reads_every_field_of_a_line() {
        let line =
            b"7f1c2a000000-7f1c2a1b5000 r-xp 00026000 fe:01 1835093                    /usr/lib/libc.so.6";
        assert_eq!(
            parse_line(line),
            Some(Mapping {
                start: 0x7f1c_2a00_0000,
                end: 0x7f1c_2a1b_5000,
                offset: 0x26000,
                device: DeviceNumber { major: 0xfe, minor: 1 },
                inode: 1_835_093,
                executable: true,
                path: file("/usr/lib/libc.so.6", false),
            })
        );
    }

    #[test]
    fn tells_what_lies_behind_a_mapping() {
        let path = |tail: &str| {
            let line = format!("1000-2000 r-xp 00000000 00:01 {tail}");
            parse_line(line.as_bytes()).unwrap_or_else(|| panic!("{line}")).path
        };
        assert_eq!(path("7 /opt/my service"), file("/opt/my service", false));
        assert_eq!(path("7 /opt/service (deleted)"), file("/opt/service", true));
        assert_eq!(path("7 /a\\012b"), file("/a\nb", false));
        assert_eq!(path("7 /memfd:jit (deleted)"), MappingPath::SharedMemory("/memfd:jit (deleted)".into()));
        assert_eq!(path("7 /dev/zero (deleted)"), MappingPath::SharedMemory("/dev/zero (deleted)".into()));
        assert_eq!(path("0 [vdso]"), MappingPath::Vdso);
        assert_eq!(path("0 [vsyscall]"), MappingPath::Vsyscall);
        assert_eq!(path("0 [stack]"), MappingPath::Special("[stack]".into()));
        assert_eq!(path("0 [anon:OTEL_CTX]"), MappingPath::Anonymous(Some("OTEL_CTX".into())));
        assert_eq!(path("0 "), MappingPath::Anonymous(None));
        assert_eq!(path("0"), MappingPath::Anonymous(None), "kernels differ in the trailing blank");
    }

    #[test]
    fn refuses_lines_that_are_none() {
        for line in [
            "",
            "hello",
            "2000-1000 r-xp 00000000 00:01 7 /x",
            "1000-1000 r-xp 00000000 00:01 7 /x",
            "1000-2000 r 00000000 00:01 7 /x",
            "1000-2000 r-xp 00000000 00:01 seven /x",
            "11111111111111111-2 r-xp 00000000 00:01 7 /x",
            "+1000-2000 r-xp 00000000 00:01 7 /x",
            "1000-2000 r-xp 00000000 100000000:01 7 /x",
        ] {
            assert_eq!(parse_line(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn keeps_code_only_and_counts_the_rest() {
        let text = "\
            1000-2000 r--p 00000000 00:01 7 /bin/x\n\
            2000-3000 r-xp 00001000 00:01 7 /bin/x\n\
            not a line\n\
            8000-9000 rwxp 00000000 00:00 0 \n\
            7000-8000 r-xp 00000000 00:00 0 [vdso]\n\
            ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n";
        let code = CodeMappings::parse(text.as_bytes()).unwrap();
        let starts: Vec<u64> = code.mappings.iter().map(|mapping| mapping.start).collect();
        assert_eq!(starts, [0x2000, 0x7000, 0x8000]);
        assert_eq!((code.unreadable_lines, code.dropped), (1, 0));
        assert_eq!(code.find(0x2fff).map(|mapping| mapping.start), Some(0x2000));
        assert_eq!(code.find(0x3000), None);
        assert_eq!(code.find(0), None);
    }

    #[test]
    fn an_endless_line_and_too_many_mappings_are_bounded() {
        let mut text = vec![b'a'; MAX_LINE as usize * 3];
        text.extend_from_slice(b"\n1000-2000 r-xp 00000000 00:01 7 /bin/x\n");
        let code = CodeMappings::parse(text.as_slice()).unwrap();
        assert_eq!((code.mappings.len(), code.unreadable_lines), (1, 1));

        let many: String = (1..=MAX_CODE_MAPPINGS + 5)
            .map(|page| format!("{:x}-{:x} r-xp 00000000 00:01 7 /x\n", page * 4096, (page + 1) * 4096))
            .collect();
        let code = CodeMappings::parse(many.as_bytes()).unwrap();
        assert_eq!((code.mappings.len(), code.dropped), (MAX_CODE_MAPPINGS, 5));
    }

    #[test]
    fn finds_our_own_code() {
        let code = CodeMappings::read(&ProcFs::host(), std::process::id()).unwrap();
        let here = finds_our_own_code as *const () as u64;
        let mapping = code.find(here).expect("this test's code is mapped");
        assert_eq!(mapping.file_path(), Some(std::env::current_exe().unwrap().as_path()));
        assert_eq!(code.unreadable_lines, 0);
        assert!(code.mappings.iter().any(|mapping| mapping.path == MappingPath::Vdso));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse_line(&bytes);
            let code = CodeMappings::parse(bytes.as_slice()).unwrap();
            let lines = bytes.split(|byte| *byte == b'\n').count() as u64;
            prop_assert!(code.unreadable_lines <= lines);
        }

        #[test]
        fn a_line_keeps_its_numbers_whatever_its_path(
            start in 0u64..u64::MAX - 1,
            length in 1u64..u64::MAX,
            offset: u64,
            inode in 1u64..,
            path in "/[^\n]{0,80}",
        ) {
            let end = start.saturating_add(length);
            let line = format!("{start:08x}-{end:08x} r-xp {offset:08x} 103:05 {inode} {path}");
            let mapping = parse_line(line.as_bytes()).expect("a well-formed line");
            prop_assert_eq!((mapping.start, mapping.end, mapping.offset), (start, end, offset));
            prop_assert_eq!(mapping.inode, inode);
            prop_assert_eq!(mapping.device, DeviceNumber { major: 0x103, minor: 5 });
            prop_assert!(mapping.executable);
        }
    }
}
