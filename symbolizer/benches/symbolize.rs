//! What names cost: time and memory for 2,000 distinct addresses of one object.
//!
//! Run `cargo bench -p spanprof-symbolizer --bench symbolize [FILE…]`; without files, this bench itself.
//! Each file runs in a process of its own, so that one's memory is not the next one's. `file` is memory
//! that the system can take back at any time: mapped pages of the object.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use spanprof_symbolizer::{ObjectFile, Symbolizer, UnwindTable};

const ADDRESSES: usize = 2_000;
/// Samples fall in a few hot regions, never evenly; but even is the worst case.
const WARM_ADDRESSES: usize = 200;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [measured, path] = &*arguments
        && measured == "--measure"
    {
        return measure(PathBuf::from(path));
    }
    let own = std::env::current_exe().expect("this program has a path");
    let files = if arguments.is_empty() { vec![own.display().to_string()] } else { arguments };
    for file in files {
        let status = Command::new(&own).args(["--measure", &file]).status();
        assert!(status.is_ok_and(|status| status.success()), "{file}");
    }
}

fn measure(path: PathBuf) {
    let object = ObjectFile::open(&path, &path.display().to_string()).expect("an object");
    println!("{}:", path.display());
    println!("  at the start                        {}", memory());
    let start = Instant::now();
    let table = UnwindTable::build(&object).expect("a table");
    println!("  unwind table              {:>7.1} ms {}", milliseconds(start), memory());
    drop(table);
    let segment = object.segments()[0];
    let pick = |count: usize, shift: u64| -> Vec<u64> {
        let step = segment.file_size / count as u64;
        (0..count as u64).map(|index| segment.vaddr + index * step + shift % step.max(1)).collect()
    };
    let mut symbolizer = Symbolizer::new();
    let mut run = |name: &str, addresses: &[u64], release: bool| {
        let start = Instant::now();
        let answers = symbolizer.symbolize(&object, addresses);
        let elapsed = milliseconds(start);
        let frames: usize = answers.iter().map(Vec::len).sum();
        let lines = answers.iter().flatten().filter(|frame| frame.line > 0).count();
        println!("  {name:<24} {elapsed:>8.1} ms {} {frames} frames, {lines} with a line", memory());
        if release {
            drop(answers);
            let start = Instant::now();
            symbolizer.release();
            println!("  released                 {:>8.1} ms {}", milliseconds(start), memory());
        }
    };
    let addresses = pick(ADDRESSES, 0);
    run("2,000 addresses, cold", &addresses, false);
    run("the same", &addresses, false);
    run("200 others", &pick(WARM_ADDRESSES, 17), true);
    run("200 others, cold", &pick(WARM_ADDRESSES, 31), false);
    let start = Instant::now();
    let kernel: Vec<u64> = (0..200).map(|index| 0xffff_ffff_8100_0000 + index * 0x4321).collect();
    symbolizer.symbolize_kernel(&kernel);
    println!("  200 of the kernel        {:>8.1} ms {}", milliseconds(start), memory());
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Resident memory by kind, in MB.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |field: &str| -> f64 {
        status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse().ok())
            .map_or(f64::NAN, |kilobytes: f64| kilobytes * 1.024e-3)
    };
    let (anon, file, peak) = (of("RssAnon:"), of("RssFile:"), of("VmHWM:"));
    format!("anon {anon:>5.1} MB, file {file:>5.1} MB, peak {peak:>5.1} MB")
}
