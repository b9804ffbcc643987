//! Names of this test's own functions, in every state a program's file can be in.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;

use spanprof_symbolizer::{Frame, FrameKind, ObjectFile, Symbolizer};

/// An address to find: `outer` with `middle` and `inner` inlined at the address that `inner` returns.
#[inline(always)]
fn inner() -> u64 {
    let ip: u64;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads the instruction pointer.
    unsafe {
        std::arch::asm!("lea {ip}, [rip]", ip = out(reg) ip, options(nostack, nomem));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reads the instruction pointer.
    unsafe {
        std::arch::asm!("adr {ip}, .", ip = out(reg) ip, options(nostack, nomem));
    }
    ip
}

#[inline(always)]
fn middle() -> u64 {
    black_box(inner())
}

#[inline(never)]
fn outer() -> u64 {
    black_box(middle())
}

struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
    path: String,
}

fn mapping_at(address: u64) -> Mapping {
    std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (start, end) = fields[0].split_once('-').unwrap();
            let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
            let mapping = Mapping {
                start: hex(start),
                end: hex(end),
                offset: hex(fields[2]),
                path: fields.get(5).unwrap_or(&"").to_string(),
            };
            (mapping.start..mapping.end).contains(&address).then_some(mapping)
        })
        .expect("the address is mapped")
}

/// The object at an address of this process, and the address in its terms.
fn locate(address: u64) -> (ObjectFile, u64) {
    let mapping = mapping_at(address);
    let object = ObjectFile::open(Path::new(&mapping.path), &mapping.path).unwrap();
    let vaddr = object.file_offset_to_address(address - mapping.start + mapping.offset).unwrap();
    (object, vaddr)
}

fn own_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn functions(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(|frame| &*frame.function).collect()
}

/// Runs a tool of binutils; says so where it is missing, and fails where that must not be.
fn tool(name: &str, arguments: &[&std::ffi::OsStr]) -> bool {
    match Command::new(name).args(arguments).status() {
        Ok(status) => {
            assert!(status.success(), "{name} {arguments:?}");
            true
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{name}: {error}");
            eprintln!("skipped: needs {name} ({error})");
            false
        }
    }
}

macro_rules! run_tool {
    ($name:expr, $($argument:expr),* $(,)?) => {
        if !tool($name, &[$(AsRef::<std::ffi::OsStr>::as_ref(&$argument)),*]) {
            return;
        }
    };
}

/// Without DWARF inlined functions are gone, and lines with them.
fn assert_outer(frames: &[Frame], with_dwarf: bool) {
    let last = frames.last().unwrap();
    assert_eq!(&*last.function, "symbolize::outer");
    assert!(last.system_name.starts_with("_R") || last.system_name.starts_with("_ZN"));
    assert_eq!(last.kind, FrameKind::Rust);
    if with_dwarf {
        assert_eq!(functions(frames), ["symbolize::inner", "symbolize::middle", "symbolize::outer"]);
        for frame in frames {
            assert!(frame.file.as_deref().unwrap().ends_with("tests/symbolize.rs"));
        }
        // Each frame has the line of its own call, in the order of this file.
        assert!(frames[0].line < frames[1].line && frames[1].line < frames[2].line);
        assert!(frames[0].line > 0);
    } else {
        assert_eq!((frames.len(), last.line, &last.file), (1, 0, &None));
    }
}

#[test]
fn inlined_functions_come_first_with_file_and_line() {
    let (object, vaddr) = locate(outer());
    let mut symbolizer = Symbolizer::new();
    let answers = symbolizer.symbolize(&object, &[vaddr, vaddr]);
    assert_eq!(answers[0], answers[1]);
    assert_outer(&answers[0], true);
    assert_eq!(symbolizer.statistics().named, 1);
    assert_eq!(symbolizer.symbolize(&object, &[vaddr]), [answers[0].clone()]);
    assert_eq!((symbolizer.statistics().named, symbolizer.statistics().asked), (1, 3));
    symbolizer.release();
    assert_eq!(symbolizer.symbolize(&object, &[vaddr]), [answers[0].clone()]);
}

#[test]
fn a_deleted_program_keeps_its_names() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gone");
    std::fs::copy(own_program(), &path).unwrap();
    let (_, vaddr) = locate(outer());
    let object = ObjectFile::open(&path, "/srv/gone").unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_outer(&Symbolizer::new().symbolize(&object, &[vaddr])[0], true);
}

#[test]
fn a_handle_s_number_that_is_used_again_does_not_confuse() {
    let (_, vaddr) = locate(outer());
    let directory = tempfile::tempdir().unwrap();
    let stripped = directory.path().join("stripped");
    std::fs::copy(own_program(), &stripped).unwrap();
    run_tool!("strip", stripped);
    let mut symbolizer = Symbolizer::with_debug_directories(Vec::new());
    for _ in 0..3 {
        let first = ObjectFile::open(&own_program(), "whole").unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&**first.file().unwrap());
        assert_outer(&symbolizer.symbolize(&first, &[vaddr])[0], true);
        drop(first);
        // The other tests' threads open files too, so the number is forced.
        let second = std::fs::File::open(&stripped).unwrap();
        // SAFETY: the number is either free or, by a race, another test's file, which this test must not
        // close; `F_DUPFD` takes the first free number from there on.
        let duplicate = unsafe {
            let duplicate =
                libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&second), libc::F_DUPFD_CLOEXEC, number);
            <std::fs::File as std::os::fd::FromRawFd>::from_raw_fd(duplicate)
        };
        let second = ObjectFile::from_file(duplicate, "stripped").unwrap();
        let answers = symbolizer.symbolize(&second, &[vaddr]);
        assert_eq!(functions(&answers[0]), [format!("stripped+{vaddr:#x}")]);
    }
}

#[test]
fn a_stripped_program_has_places_instead_of_names() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stripped");
    std::fs::copy(own_program(), &path).unwrap();
    run_tool!("strip", path);
    let (_, vaddr) = locate(outer());
    let object = ObjectFile::open(&path, "/srv/app\n/orders").unwrap();
    let answers = Symbolizer::new().symbolize(&object, &[vaddr, 0x3]);
    assert_eq!(functions(&answers[0]), [format!("orders+{vaddr:#x}")]);
    assert_eq!(functions(&answers[1]), ["orders+0x3"]);
    assert_eq!(answers[0][0].kind, FrameKind::Native);
}

#[test]
fn symbols_without_dwarf_still_name_functions() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("symbols");
    std::fs::copy(own_program(), &path).unwrap();
    run_tool!("strip", "--strip-debug", path);
    let (_, vaddr) = locate(outer());
    let object = ObjectFile::open(&path, "symbols").unwrap();
    assert_outer(&Symbolizer::new().symbolize(&object, &[vaddr])[0], false);
}

#[test]
fn a_debug_file_is_found_by_its_link() {
    let directory = tempfile::tempdir().unwrap();
    let (path, debug) = (directory.path().join("app"), directory.path().join("app.debug"));
    run_tool!("objcopy", "--only-keep-debug", own_program(), debug);
    run_tool!("objcopy", "--strip-all", own_program(), path);
    let mut link = std::ffi::OsString::from("--add-gnu-debuglink=");
    link.push(&debug);
    run_tool!("objcopy", link, path);
    let (_, vaddr) = locate(outer());
    let object = ObjectFile::open(&path, path.to_str().unwrap()).unwrap();
    let mut symbolizer = Symbolizer::with_debug_directories(Vec::new());
    assert_outer(&symbolizer.symbolize(&object, &[vaddr])[0], true);

    // Another program's debug file under the same name is not believed.
    std::fs::copy("/bin/sh", &debug).unwrap();
    let object = ObjectFile::open(&path, path.to_str().unwrap()).unwrap();
    let mut symbolizer = Symbolizer::with_debug_directories(Vec::new());
    let answers = symbolizer.symbolize(&object, &[vaddr]);
    assert_eq!(functions(&answers[0]), [format!("app+{vaddr:#x}")]);
}

#[test]
fn a_debug_file_is_found_by_build_id_in_the_target_s_root() {
    // A program with a build id, whatever the linker of this test does.
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("srv/app");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let note = root.path().join("note");
    let mut bytes = Vec::new();
    for word in [4u32, 20, 3] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(b"GNU\0");
    bytes.extend([0xab; 20]);
    std::fs::write(&note, bytes).unwrap();
    let whole = root.path().join("whole");
    let mut add = std::ffi::OsString::from(".note.gnu.build-id=");
    add.push(&note);
    run_tool!("objcopy", "--remove-section", ".note.gnu.build-id", own_program(), whole);
    run_tool!(
        "objcopy",
        "--add-section",
        add,
        "--set-section-flags",
        ".note.gnu.build-id=alloc,readonly",
        whole
    );
    let id = ObjectFile::open(&whole, "whole").unwrap().build_id().map(str::to_owned);
    assert_eq!(id.as_deref(), Some(&*"ab".repeat(20)));
    let debug = root.path().join(format!("usr/lib/debug/.build-id/ab/{}.debug", "ab".repeat(19)));
    std::fs::create_dir_all(debug.parent().unwrap()).unwrap();
    run_tool!("objcopy", "--only-keep-debug", whole, debug);
    run_tool!("objcopy", "--strip-all", whole, path);
    let (_, vaddr) = locate(outer());
    let object = ObjectFile::open(&path, "/srv/app").unwrap();
    assert_outer(&Symbolizer::new().symbolize(&object, &[vaddr])[0], true);
}

#[test]
fn broken_dwarf_costs_lines_and_not_names_nor_others() {
    use object::{Object as _, ObjectSection as _};
    let (program, vaddr) = locate(outer());
    let bytes = std::fs::read(own_program()).unwrap();
    let ranges: Vec<(u64, u64)> = {
        let file = object::File::parse(&*bytes).unwrap();
        [".debug_info", ".debug_abbrev", ".debug_line", ".debug_aranges"]
            .iter()
            .filter_map(|name| file.section_by_name(name)?.file_range())
            .collect()
    };
    let mut symbolizer = Symbolizer::new();
    for fill in [0u8, 0xff, 0x7b] {
        let mut broken = bytes.clone();
        for (offset, size) in &ranges {
            broken[*offset as usize..(offset + size) as usize].fill(fill);
        }
        // Another length makes it another object, in spite of the build id.
        broken.resize(broken.len() + 1 + usize::from(fill), 0);
        let object = ObjectFile::from_bytes(broken, "broken").unwrap();
        assert_outer(&symbolizer.symbolize(&object, &[vaddr])[0], false);
    }
    assert_outer(&symbolizer.symbolize(&program, &[vaddr])[0], true);
}

#[test]
fn a_file_overwritten_in_place_says_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rebuilt");
    std::fs::copy(own_program(), &path).unwrap();
    let (_, vaddr) = locate(outer());
    let object = ObjectFile::open(&path, "rebuilt").unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
    let mut symbolizer = Symbolizer::new();
    let answers = symbolizer.symbolize(&object, &[vaddr]);
    assert_eq!(functions(&answers[0]), [format!("rebuilt+{vaddr:#x}")]);
    assert_eq!(symbolizer.statistics().changed_objects, 1);
}

#[test]
fn a_file_s_pages_are_given_back_after_reading() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("read-and-given-back");
    std::fs::copy(own_program(), &path).unwrap();
    let (_, vaddr) = locate(outer());
    let object = ObjectFile::open(&path, "app").unwrap();
    let mut symbolizer = Symbolizer::new();
    assert_outer(&symbolizer.symbolize(&object, &[vaddr])[0], true);
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (_, mapping) = smaps.split_once("read-and-given-back").expect("blazesym maps the file");
    let resident = mapping.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    assert_eq!(resident.trim(), "0 kB");
}

#[test]
fn the_c_library_s_functions_are_native() {
    let address = libc::qsort as *const () as u64;
    let (object, vaddr) = locate(address);
    let answers = Symbolizer::new().symbolize(&object, &[vaddr]);
    let frame = answers[0].last().unwrap();
    assert!(frame.function.contains("qsort"), "{frame:?}");
    assert_eq!(frame.kind, FrameKind::Native);
}

#[test]
fn the_vdso_s_image_has_names() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.ends_with("[vdso]")).unwrap();
    let start = u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
    let mapping = mapping_at(start);
    let length = (mapping.end - mapping.start) as usize;
    // SAFETY: the kernel maps the vdso readable for the life of the process.
    let image = unsafe { std::slice::from_raw_parts(start as *const u8, length) }.to_vec();
    let symbol = {
        use object::{Object as _, ObjectSymbol as _};
        let file = object::File::parse(&*image).unwrap();
        let found = file.dynamic_symbols().find(|symbol| {
            symbol.name().is_ok_and(|name| name.contains("clock_gettime")) && symbol.size() > 0
        });
        found.map(|symbol| symbol.address()).unwrap()
    };
    let object = ObjectFile::from_bytes(image, "[vdso]").unwrap();
    let answers = Symbolizer::new().symbolize(&object, &[symbol, symbol + 1]);
    for answer in answers {
        assert!(answer[0].function.contains("clock_gettime"), "{answer:?}");
    }
}

#[test]
fn kernel_addresses_always_have_a_name() {
    let kallsyms = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let known = kallsyms.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let address = u64::from_str_radix(fields.next()?, 16).ok().filter(|it| *it != 0)?;
        let kind = fields.next()?;
        matches!(kind, "T" | "t").then(|| (address, fields.next().unwrap_or("").to_owned()))
    });
    let mut symbolizer = Symbolizer::new();
    let answers = symbolizer.symbolize_kernel(&[0xffff_ffff_ffff_f000, 0x10]);
    for answer in &answers {
        assert_eq!(answer.len(), 1);
        assert_eq!(answer[0].kind, FrameKind::Kernel);
        assert!(!answer[0].function.is_empty());
    }
    assert_eq!(functions(&answers[1]), ["[kernel]+0x10"]);
    match known {
        Some((address, _)) => {
            let answers = symbolizer.symbolize_kernel(&[address, address]);
            assert!(!answers[0][0].function.starts_with("[kernel]"), "{answers:?}");
            assert_eq!(answers[0], answers[1]);
            assert_eq!(answers[0][0].kind, FrameKind::Kernel);
        }
        None => {
            assert!(std::env::var_os("CI").is_none(), "kernel symbols are hidden");
            eprintln!("skipped: kernel symbols are hidden (kernel.kptr_restrict)");
        }
    }
}
