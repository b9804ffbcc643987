//! Opens a library, spins in it, closes it and opens it again, so that its mappings come and go.
//!
//! The chain is `open_and_spin`, then `plugin_outer`, `plugin_middle`, `plugin_leaf` in the library. Whether a
//! close really unmapped the library is read from the process's own maps. `--cycle-milliseconds` (default
//! 500) sets how long each opening lasts; `--plugin PATH` names another library.

use std::ffi::{CStr, CString};
use std::hint::black_box;

use serde_json::json;
use spanprof_tests::clock;
use spanprof_tests::plugin::Plugin;
use spanprof_tests::truth_program::{TruthProgram, is_stopped};

/// What a cycle of opening, spinning and closing did.
#[derive(Clone, Copy, Debug)]
struct Cycle {
    cpu_ns: u64,
    unmapped: bool,
}

#[inline(never)]
fn open_and_spin(library: &CStr, wall_ns: u64) -> Result<Cycle, String> {
    let plugin = Plugin::open(library)?;
    let start = clock::thread_cpu_ns();
    let end = clock::monotonic_ns() + wall_ns;
    while clock::monotonic_ns() < end && !is_stopped() {
        black_box(plugin.outer(200_000));
    }
    let cpu_ns = clock::thread_cpu_ns() - start;
    if !plugin.close() {
        return Err("it can't be closed".to_owned());
    }
    Ok(Cycle { cpu_ns, unmapped: !Plugin::is_mapped() })
}

fn main() {
    let program = TruthProgram::begin();
    let wall_ns = program.arguments().number("cycle-milliseconds", 500) * 1_000_000;
    let named =
        program.arguments().text("plugin").map(|path| CString::new(path).expect("a path without NUL"));
    let Some(path) = named.or_else(Plugin::find) else {
        eprintln!("the plug-in isn't beside this program; build the workspace or name it with --plugin");
        std::process::exit(1);
    };

    program.ready();
    let stop = program.stop_in_background();
    let (mut cycles, mut unmapped, mut cpu_ns) = (0u64, 0u64, 0u64);
    while !is_stopped() {
        let cycle = open_and_spin(&path, wall_ns).unwrap_or_else(|error| {
            eprintln!("{}: {error}", path.to_string_lossy());
            std::process::exit(1);
        });
        cycles += 1;
        unmapped += u64::from(cycle.unmapped);
        cpu_ns += cycle.cpu_ns;
    }
    stop.tell(&json!({
        "program": "truth_dlopen",
        "pid": std::process::id(),
        "library": path.to_string_lossy(),
        "root": "open_and_spin",
        "chain": ["plugin_outer", "plugin_middle", "plugin_leaf"],
        "cycles": cycles,
        "unmapped_after_close": unmapped,
        "plugin_cpu_ns": cpu_ns,
    }));
}
