//! What unwind tables cost: kilobytes and milliseconds per megabyte of code.
//!
//! Run `cargo bench -p spanprof-symbolizer --bench unwind_table [FILE…]`. Without files: the C library and
//! the Rust compiler's libraries, whichever this machine has. Limits: 120 KB and 2 ms per MB.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use spanprof_symbolizer::{ObjectFile, UnwindTable};

const ROUNDS: usize = 7;

fn main() {
    let arguments: Vec<PathBuf> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").map(Into::into).collect();
    let files = if arguments.is_empty() { default_files() } else { arguments };
    println!(
        "{:<40} {:>8} {:>9} {:>9} {:>8} {:>8} {:>7} {:>6} {:>7}",
        "object", "text MB", "functions", "rows", "KB", "KB/MB", "ms", "ms/MB", "no rule"
    );
    for file in files {
        measure(&file);
    }
}

fn measure(path: &Path) {
    let object = match ObjectFile::open(path, &path.display().to_string()) {
        Ok(object) => object,
        Err(error) => return println!("{}: {error}", path.display()),
    };
    let text: u64 = object.segments().iter().map(|segment| segment.file_size).sum();
    let megabytes = text as f64 / 1e6;
    let mut best = Duration::MAX;
    let mut table = None;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        table = Some(UnwindTable::build(&object));
        best = best.min(start.elapsed());
    }
    match table.expect("at least one round ran") {
        Ok(table) => {
            let kilobytes = table.size() as f64 / 1e3;
            let milliseconds = best.as_secs_f64() * 1e3;
            println!(
                "{:<40} {:>8.2} {:>9} {:>9} {:>8.0} {:>8.1} {:>7.2} {:>6.2} {:>7}",
                object.file_name(),
                megabytes,
                table.statistics().functions,
                table.segments().iter().map(|segment| segment.rows.len()).sum::<usize>(),
                kilobytes,
                kilobytes / megabytes,
                milliseconds,
                milliseconds / megabytes,
                table.statistics().unsupported_states,
            );
        }
        Err(error) => println!("{}: {error}", path.display()),
    }
}

fn default_files() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut files: Vec<PathBuf> = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .find(|path| path.contains("/libc.so"))
        .map(PathBuf::from)
        .into_iter()
        .collect();
    let sysroot = std::process::Command::new("rustc").args(["--print", "sysroot"]).output();
    if let Ok(output) = sysroot {
        let library = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).join("lib");
        for entry in std::fs::read_dir(library).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let large = entry.metadata().is_ok_and(|metadata| metadata.len() > 1 << 20);
            if large && (name.starts_with("librustc_driver") || name.starts_with("libLLVM")) {
                files.push(entry.path());
            }
        }
    }
    files
}
