//! Objects of this machine, and of nobody's: what the headers say, and what hostile files do.

use std::io::Write as _;
use std::path::PathBuf;

use object::{Object as _, ObjectSegment as _};
use proptest::prelude::*;
use spanprof_symbolizer::object::{Architecture, ObjectError, ObjectKey};
use spanprof_symbolizer::{ObjectFile, UnwindTable};

fn own_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// The C library that this test runs with.
fn libc_path() -> PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains("libc.so") || line.contains("libc-"));
    PathBuf::from(line.expect("a C library is mapped").split_whitespace().last().unwrap())
}

#[test]
fn headers_agree_with_an_independent_reader() {
    for path in [own_program(), libc_path()] {
        let ours = ObjectFile::open(&path, &path.display().to_string()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let theirs = object::File::parse(&*bytes).unwrap();
        let executable: Vec<(u64, u64, u64, u64)> = theirs
            .segments()
            .filter(|segment| {
                let object::SegmentFlags::Elf { p_flags } = segment.flags() else { panic!() };
                p_flags & object::elf::PF_X != 0
            })
            .map(|segment| {
                let (offset, size) = segment.file_range();
                (segment.address(), offset, size, segment.size())
            })
            .collect();
        let segments: Vec<_> = ours
            .segments()
            .iter()
            .map(|segment| (segment.vaddr, segment.file_offset, segment.file_size, segment.mem_size))
            .collect();
        assert!(!segments.is_empty());
        assert_eq!(segments, executable);
        let hex = theirs
            .build_id()
            .unwrap()
            .map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        assert_eq!(ours.build_id(), hex.as_deref());
        assert!(ours.is_unchanged());
        for (vaddr, offset, size, _) in segments {
            assert_eq!(ours.file_offset_to_address(offset), Some(vaddr));
            assert_eq!(ours.file_offset_to_address(offset + size - 1), Some(vaddr + size - 1));
            let page = offset & !4095;
            assert_eq!(ours.file_offset_to_address(page), Some(vaddr - (offset - page)));
        }
        assert_eq!(ours.file_offset_to_address(1 << 40), None);
    }
}

#[test]
fn names_and_keys_tell_objects_apart() {
    let program = ObjectFile::open(&own_program(), "/srv/app/orders").unwrap();
    assert_eq!(program.display_name(), "/srv/app/orders");
    assert_eq!(program.file_name(), "orders");
    let libc = ObjectFile::open(&libc_path(), "libc.so.6").unwrap();
    assert_eq!(libc.file_name(), "libc.so.6");
    assert!(matches!(libc.key(), ObjectKey::BuildId(..)));
    assert_ne!(program.key(), libc.key());
}

#[test]
fn an_object_survives_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("libgone.so");
    std::fs::copy(libc_path(), &path).unwrap();
    let object = ObjectFile::open(&path, "libgone.so").unwrap();
    let before = UnwindTable::build(&object).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(object.is_unchanged());
    assert_eq!(UnwindTable::build(&object).unwrap(), before);
}

#[test]
fn a_file_that_shrinks_is_an_error_and_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("libshrunk.so");
    std::fs::copy(libc_path(), &path).unwrap();
    let object = ObjectFile::open(&path, "libshrunk.so").unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
    assert!(!object.is_unchanged());
    assert!(UnwindTable::build(&object).is_err());
}

#[test]
fn what_is_no_object_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let open = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
        ObjectFile::open(&path, name)
    };
    assert!(matches!(open("empty", b""), Err(ObjectError::NotElf)));
    assert!(matches!(open("text", b"#!/bin/sh\necho"), Err(ObjectError::NotElf)));
    assert!(matches!(open("stub", b"\x7fELF\x02\x01"), Err(ObjectError::Malformed(_))));
    let mut header = vec![0; 64];
    header[..6].copy_from_slice(b"\x7fELF\x01\x01");
    assert!(matches!(open("32", &header), Err(ObjectError::UnsupportedFormat)));
    assert!(matches!(ObjectFile::open(directory.path(), "directory"), Err(ObjectError::NotAFile)));
    assert!(matches!(
        ObjectFile::open(&directory.path().join("missing"), "missing"),
        Err(ObjectError::Open { .. })
    ));
}

#[test]
fn a_pipe_in_an_object_s_place_does_not_block() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: the path is a terminated string that lives through the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    assert!(matches!(ObjectFile::open(&path, "pipe"), Err(ObjectError::NotAFile)));
}

#[test]
fn only_x86_64_has_tables() {
    let mut bytes = std::fs::read(libc_path()).unwrap();
    bytes[18..20].copy_from_slice(&183u16.to_le_bytes());
    let object = ObjectFile::from_bytes(bytes, "libc.so.6").unwrap();
    assert_eq!(object.architecture(), Architecture::Aarch64);
    let error = UnwindTable::build(&object).unwrap_err();
    assert_eq!(error.to_string(), "unwind tables are for x86-64 only, not Aarch64");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Damage in the headers of a real object: an error or a table, never a crash.
    #[test]
    fn damaged_headers_never_crash(
        damage in prop::collection::vec((0usize..64 + 14 * 56, any::<u8>()), 1..8),
        tail in 0usize..20,
    ) {
        let mut bytes = std::fs::read(own_small_object()).unwrap();
        for (offset, value) in damage {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte = value;
            }
        }
        bytes.truncate(bytes.len() - tail * 512);
        if let Ok(object) = ObjectFile::from_bytes(bytes, "damaged") {
            let _ = UnwindTable::build(&object);
        }
    }
}

/// The dynamic loader: small, and everywhere.
fn own_small_object() -> PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains("/ld-")).expect("a loader is mapped");
    PathBuf::from(line.split_whitespace().last().unwrap())
}
