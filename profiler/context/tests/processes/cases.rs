//! The cases, and a runner for them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use spanprof_context::locate::{self, Access, LocateError, RecordBuffer, ThreadSlot};
use spanprof_context::memory::ProcessMemory;
use spanprof_context::process::ReadError;
use spanprof_context::{Key, process};

use crate::library::{self, Model};
use crate::target::{self, Target};
use crate::traced;

const CASES: &[(&str, fn())] = &[
    ("our_writer_is_found_by_its_process_context", our_writer_is_found_by_its_process_context),
    (
        "a_program_without_the_symbol_is_read_by_the_offset",
        a_program_without_the_symbol_is_read_by_the_offset,
    ),
    ("another_writer_is_read", another_writer_is_read),
    (
        "two_writers_in_one_program_do_not_disturb_each_other",
        two_writers_in_one_program_do_not_disturb_each_other,
    ),
    ("a_deleted_program_is_read", a_deleted_program_is_read),
    ("a_library_is_read_in_every_access_model", a_library_is_read_in_every_access_model),
    ("a_process_that_publishes_nothing_has_no_slot", a_process_that_publishes_nothing_has_no_slot),
    ("a_process_that_is_gone_is_an_error", a_process_that_is_gone_is_an_error),
];

/// Runs the cases whose name contains the filter.
pub(crate) fn run(filter: Option<&str>) {
    let chosen: Vec<_> =
        CASES.iter().filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter))).collect();
    for (name, case) in &chosen {
        case();
        println!("test {name} ... ok");
    }
    println!("{} cases passed", chosen.len());
}

/// A directory that disappears with the value.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("spanprof-context-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary directory is writable");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn this_program() -> PathBuf {
    std::env::current_exe().expect("a program knows its path")
}

/// A copy of this program in which the symbol has another name, as if it had not been exported.
fn without_symbol(directory: &Path) -> PathBuf {
    let mut bytes = fs::read(this_program()).expect("a program can read itself");
    let name = b"\0otel_thread_ctx_v1\0";
    let places: Vec<_> =
        (0..bytes.len() - name.len()).filter(|place| bytes[*place..].starts_with(name)).collect();
    for place in places {
        bytes[place + 1] = b'x';
    }
    let path = directory.join("without-symbol");
    fs::write(&path, bytes).expect("the directory is writable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    path
}

fn slot_by_symbol(target: &Target) -> Option<ThreadSlot> {
    locate::thread_slot_with(target.id(), None).expect("the target can be read")
}

/// Reads every thread and compares with what it published; the key index of the destination is the caller's.
fn check_threads(target: &Target, slot: &ThreadSlot, destination: Option<u8>) {
    let memory = ProcessMemory::new(target.id());
    assert_eq!(target.threads.len(), usize::from(target::THREADS));
    for (number, thread) in target.threads.iter().enumerate() {
        traced::with_thread_pointer(*thread, |pointer| {
            let mut buffer: RecordBuffer = [0; 640];
            let record =
                locate::read_thread(&memory, pointer, slot, &mut buffer).expect("the slot can be read");
            let record = record.expect("the thread publishes");
            assert_eq!(record.span_context(), Some(target::span(number as u8)));
            if let Some(key) = destination {
                assert_eq!(record.attribute(key), Some("orders"));
            }
        });
    }
    // The main thread publishes nothing.
    traced::with_thread_pointer(target.id() as i32, |pointer| {
        let mut buffer: RecordBuffer = [0; 640];
        let record = locate::read_thread(&memory, pointer, slot, &mut buffer).expect("the slot can be read");
        assert_eq!(record, None);
    });
}

fn our_writer_is_found_by_its_process_context() {
    let target = Target::start(&this_program(), &["ours"]);
    let slot = locate::thread_slot(target.id()).unwrap().unwrap();
    assert!(slot.has_sequence);
    let context = process::read(target.id()).unwrap().unwrap().context;
    assert_eq!(context.service_name(), Some("target"));
    check_threads(&target, &slot, context.key_map().index(Key::MessagingDestinationName));
}

fn a_program_without_the_symbol_is_read_by_the_offset() {
    let directory = Directory::new("without-symbol");
    let target = Target::start(&without_symbol(&directory.0), &["ours"]);
    assert_eq!(slot_by_symbol(&target), None, "the symbol is to be gone");
    let slot = locate::thread_slot(target.id()).unwrap().unwrap();
    check_threads(&target, &slot, Some(1));
}

fn another_writer_is_read() {
    let target = Target::start(&this_program(), &["foreign"]);
    let slot = locate::thread_slot(target.id()).unwrap().unwrap();
    assert!(!slot.has_sequence);
    check_threads(&target, &slot, Some(1));
}

fn two_writers_in_one_program_do_not_disturb_each_other() {
    let target = Target::start(&this_program(), &["both"]);
    let ours = locate::thread_slot(target.id()).unwrap().unwrap();
    check_threads(&target, &ours, Some(1));
    let foreign = slot_by_symbol(&target).unwrap();
    assert_ne!(foreign.access, ours.access);
    traced::with_thread_pointer(target.threads[0], |pointer| {
        let mut buffer: RecordBuffer = [0; 640];
        let record = locate::read_thread(&ProcessMemory::new(target.id()), pointer, &foreign, &mut buffer);
        assert_eq!(record.unwrap().unwrap().span_context(), Some(target::span(100)));
    });
}

fn a_deleted_program_is_read() {
    let directory = Directory::new("deleted");
    let program = directory.0.join("program");
    fs::copy(this_program(), &program).unwrap();
    let target = Target::start(&program, &["foreign"]);
    drop(directory);
    assert!(!program.exists());
    let slot = slot_by_symbol(&target).unwrap();
    check_threads(&target, &slot, Some(1));
}

fn a_library_is_read_in_every_access_model() {
    let models = [
        (Model::Descriptor, true),
        (Model::LargeDescriptor, false),
        #[cfg(target_arch = "x86_64")]
        (Model::InitialExec, true),
        #[cfg(target_arch = "x86_64")]
        (Model::GeneralDynamic, false),
    ];
    for (model, is_static) in models {
        let directory = Directory::new(&format!("library-{model:?}"));
        let library = library::build(model, &directory.0);
        // The program's own symbol, never written, would be found first.
        let program = without_symbol(&directory.0);
        let target = Target::start(&program, &["library", library.to_str().unwrap()]);
        let slot =
            slot_by_symbol(&target).unwrap_or_else(|| panic!("{model:?}: the library's symbol is found"));
        assert_eq!(matches!(slot.access, Access::Static { .. }), is_static, "{model:?}: {slot:?}");
        check_threads(&target, &slot, None);
    }
}

fn a_process_that_publishes_nothing_has_no_slot() {
    let directory = Directory::new("silent");
    let target = Target::start(&without_symbol(&directory.0), &["silent"]);
    assert_eq!(locate::thread_slot(target.id()).unwrap(), None);
    assert!(process::read(target.id()).unwrap().is_none());
}

fn a_process_that_is_gone_is_an_error() {
    let target = Target::start(&this_program(), &["silent"]);
    let id = target.id();
    drop(target);
    assert!(matches!(process::read(id), Err(ReadError::NoSuchProcess)));
    assert!(matches!(locate::thread_slot(id), Err(LocateError::Process(ReadError::NoSuchProcess))));
}
