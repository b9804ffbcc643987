//! Opens the plug-in as a program would, and reads its threads as a profiler would.

use std::ffi::CString;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use spanprof_context::locate::{self, Access, RecordBuffer};
use spanprof_context::memory::ProcessMemory;
use spanprof_context::{SpanContext, SpanId, TraceId, process, reading};

type Start = extern "C" fn() -> i32;
type Handle = unsafe extern "C" fn(*const [u8; 16], *const [u8; 8], extern "C" fn(*mut u8), *mut u8);
type Stop = extern "C" fn();

#[derive(Clone, Copy)]
struct Plugin {
    start: Start,
    handle: Handle,
    stop: Stop,
}

fn open() -> Plugin {
    let program = std::env::current_exe().expect("a program knows its path");
    let path = program.parent().expect("it is in a folder").join("libplugin_publishing.so");
    let path = CString::new(path.into_os_string().into_encoded_bytes()).expect("a path");
    // SAFETY: opens the library that was built with this test, and takes its three functions for what they are.
    unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        assert!(!library.is_null(), "{:?}", std::ffi::CStr::from_ptr(libc::dlerror()));
        let function = |name: &std::ffi::CStr| {
            let function = libc::dlsym(library, name.as_ptr());
            assert!(!function.is_null(), "{name:?}");
            function
        };
        Plugin {
            start: std::mem::transmute::<*mut libc::c_void, Start>(function(c"plugin_start")),
            handle: std::mem::transmute::<*mut libc::c_void, Handle>(function(c"plugin_handle")),
            stop: std::mem::transmute::<*mut libc::c_void, Stop>(function(c"plugin_stop")),
        }
    }
}

/// What a reader finds of the calling thread.
fn found() -> Option<SpanContext> {
    let process = std::process::id();
    let slot = locate::thread_slot(process).expect("the process can be read").expect("the plug-in publishes");
    let mut buffer: RecordBuffer = [0; 640];
    let pointer = reading::thread_pointer() as u64;
    let record = locate::read_thread(&ProcessMemory::new(process), pointer, &slot, &mut buffer);
    record.expect("the slot can be read")?.span_context()
}

/// What the test of another process is to find, "static" or "dynamic".
const EXPECTED: &str = "PLUGIN_EXPECTED_STORAGE";

extern "C" fn look(result: *mut u8) {
    // SAFETY: `handle_on_this_thread` passes its own variable.
    unsafe { *result.cast::<Option<SpanContext>>() = found() };
}

fn handle_on_this_thread(plugin: Plugin, number: u8) {
    let (trace_id, span_id) = ([number; 16], [number; 8]);
    let mut seen: Option<SpanContext> = None;
    // SAFETY: the ids are as long as said, and `look` takes a pointer to such a variable.
    unsafe { (plugin.handle)(&trace_id, &span_id, look, (&raw mut seen).cast()) };
    assert_eq!(seen, Some(SpanContext::new(TraceId(trace_id), SpanId(span_id), 0)));
    assert_eq!(found(), None, "nothing is left behind");
}

#[test]
fn threads_older_and_newer_than_the_plug_in_are_read() {
    let (give, given) = mpsc::channel::<Plugin>();
    let older = thread::spawn(move || handle_on_this_thread(given.recv().expect("the plug-in"), 1));
    let plugin = open();
    assert_eq!((plugin.start)(), 0);
    let context =
        process::read(std::process::id()).expect("it can be read").expect("it is published").context;
    assert_eq!(context.service_name(), Some("plugin"));
    give.send(plugin).expect("the thread waits");
    older.join().expect("its span was found");
    handle_on_this_thread(plugin, 2);
    thread::spawn(move || handle_on_this_thread(plugin, 3)).join().expect("its span was found");
    if let Ok(expected) = std::env::var(EXPECTED) {
        let access =
            locate::thread_slot(std::process::id()).expect("it can be read").expect("published").access;
        let is_static = matches!(access, Access::Static { .. });
        assert_eq!(is_static, expected == "static", "{access:?}");
    }
    (plugin.stop)();
    assert!(process::read(std::process::id()).expect("it can be read").is_none());
}

/// glibc keeps some static thread-local storage for libraries that are opened late. The offset is published where the
/// plug-in got of it, and only there.
#[cfg(target_env = "gnu")]
#[test]
fn the_offset_is_published_where_it_holds() {
    for (bytes, expected) in [("16384", "static"), ("0", "dynamic")] {
        let output = Command::new(std::env::current_exe().expect("a program knows its path"))
            .args(["--exact", "threads_older_and_newer_than_the_plug_in_are_read"])
            .env("GLIBC_TUNABLES", format!("glibc.rtld.optional_static_tls={bytes}"))
            .env(EXPECTED, expected)
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{expected}: {text}");
    }
}
