//! Opens a library, spins in it, closes it and opens it again, so that its mappings come and go.
//!
//! The chain is `open_and_spin`, then `plugin_outer`, `plugin_middle`, `plugin_leaf` in the library. Whether a
//! close really unmapped the library is read from the process's own maps. `--cycle-milliseconds` (default
//! 500) sets how long each opening lasts; `--plugin PATH` names another library.

use std::ffi::{CStr, CString};
use std::hint::black_box;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use spanprof_tests::clock;
use spanprof_tests::truth_program::{TruthProgram, is_stopped};

const LIBRARY: &str = "libspanprof_tests_plugin.so";

type PluginOuter = unsafe extern "C" fn(u64) -> u64;

/// What a cycle of opening, spinning and closing did.
#[derive(Clone, Copy, Debug)]
struct Cycle {
    cpu_ns: u64,
    unmapped: bool,
}

#[inline(never)]
fn open_and_spin(library: &CStr, wall_ns: u64) -> Result<Cycle, String> {
    // SAFETY: the library is this workspace's own; loading it runs no code of its own.
    let handle = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        return Err(last_error());
    }
    // SAFETY: `handle` is open.
    let symbol = unsafe { libc::dlsym(handle, c"plugin_outer".as_ptr()) };
    if symbol.is_null() {
        return Err(last_error());
    }
    // SAFETY: the symbol is the library's function of exactly this type.
    let plugin_outer = unsafe { std::mem::transmute::<*mut libc::c_void, PluginOuter>(symbol) };
    let start = clock::thread_cpu_ns();
    let end = clock::monotonic_ns() + wall_ns;
    while clock::monotonic_ns() < end && !is_stopped() {
        // SAFETY: the library stays open until below; the function only computes.
        black_box(unsafe { plugin_outer(200_000) });
    }
    let cpu_ns = clock::thread_cpu_ns() - start;
    // SAFETY: the handle is closed once, and nothing of the library is used afterwards.
    if unsafe { libc::dlclose(handle) } != 0 {
        return Err(last_error());
    }
    Ok(Cycle { cpu_ns, unmapped: !is_mapped() })
}

fn is_mapped() -> bool {
    std::fs::read_to_string("/proc/self/maps").is_ok_and(|maps| maps.contains(LIBRARY))
}

fn last_error() -> String {
    // SAFETY: dlerror returns null or a C string that lives until the next call of it.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "unknown error of the dynamic linker".to_owned();
    }
    // SAFETY: as above, and not null.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// The library beside this program, where cargo puts it for a workspace's build and for a dependency's.
fn find_library() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?;
    [folder.join(LIBRARY), folder.join("deps").join(LIBRARY)].into_iter().find(|path| path.exists())
}

fn main() {
    let program = TruthProgram::begin();
    let wall_ns = program.arguments().number("cycle-milliseconds", 500) * 1_000_000;
    let library =
        program.arguments().text("plugin").map(|path| Path::new(path).to_owned()).or_else(find_library);
    let Some(library) = library else {
        eprintln!("{LIBRARY} isn't beside this program; build the workspace or name it with --plugin");
        std::process::exit(1);
    };
    let path = CString::new(library.as_os_str().as_bytes()).expect("a path without NUL");

    program.ready();
    let stop = program.stop_in_background();
    let (mut cycles, mut unmapped, mut cpu_ns) = (0u64, 0u64, 0u64);
    while !is_stopped() {
        let cycle = open_and_spin(&path, wall_ns).unwrap_or_else(|error| {
            eprintln!("{}: {error}", library.display());
            std::process::exit(1);
        });
        cycles += 1;
        unmapped += u64::from(cycle.unmapped);
        cpu_ns += cycle.cpu_ns;
    }
    stop.tell(&json!({
        "program": "truth_dlopen",
        "pid": std::process::id(),
        "library": library,
        "root": "open_and_spin",
        "chain": ["plugin_outer", "plugin_middle", "plugin_leaf"],
        "cycles": cycles,
        "unmapped_after_close": unmapped,
        "plugin_cpu_ns": cpu_ns,
    }));
}
