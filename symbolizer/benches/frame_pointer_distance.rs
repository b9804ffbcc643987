//! How many places that count from rbp are told where rbp lies, by the function's instructions, and what that takes.
//!
//! Run `cargo bench -p spanprof-symbolizer --features prologue --bench frame_pointer_distance [FILE…]`. Without files: this
//! program, which holds Rust's standard library, and the C library. Places are calls; up to six of a function are asked for,
//! of up to 20,000 functions spread over the file.

use std::path::Path;
use std::time::{Duration, Instant};

use iced_x86::{Decoder, DecoderOptions, FlowControl};
use spanprof_symbolizer::ObjectFile;
use spanprof_symbolizer::unwind::{FunctionIndex, NoDistance, RuleKind, UnwindTable, distance_in};

const MAX_FUNCTIONS: u64 = 20_000;
const PLACES_PER_FUNCTION: usize = 6;
const MAX_CODE: u64 = 64 << 10;

#[derive(Default)]
struct Counts {
    functions: usize,
    whole_functions: usize,
    places: usize,
    told: usize,
    moved: usize,
    not_reached: usize,
    time: Duration,
}

fn main() {
    let mut files: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if files.is_empty() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let mut mapped = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
        files.extend(std::env::current_exe().map(|path| path.display().to_string()));
        files.extend(mapped.find(|path| path.contains("/libc.so")).map(str::to_owned));
    }
    println!(
        "{:<36} {:>9} {:>6} {:>8} {:>6} {:>9} {:>9} {:>8}",
        "object", "functions", "whole", "places", "told", "moves rsp", "unreached", "us/place"
    );
    for file in files {
        if let Err(error) = measure(&file) {
            println!("{file}: {error}");
        }
    }
}

fn measure(path: &str) -> Result<(), Box<dyn std::error::Error>> {
    let object = ObjectFile::open(Path::new(path), path)?;
    let table = UnwindTable::build(&object)?;
    let index = FunctionIndex::of(&object).ok_or("no index of functions")?;
    let mut counts = Counts::default();
    for number in (0..index.len()).step_by((index.len() / MAX_FUNCTIONS).max(1) as usize) {
        let Some(function) = index.get(number) else { continue };
        if let Some(code) = index.code(&function, MAX_CODE) {
            ask(&code, function.start, &table, &mut counts);
        }
    }
    let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
    println!(
        "{:<36} {:>9} {:>5.1}% {:>8} {:>5.1}% {:>9} {:>9} {:>8.1}",
        object.file_name(),
        counts.functions,
        percent(counts.whole_functions, counts.functions),
        counts.places,
        percent(counts.told, counts.places),
        counts.moved,
        counts.not_reached,
        counts.time.as_secs_f64() * 1e6 / counts.places.max(1) as f64
    );
    Ok(())
}

/// Asks for some of a function's calls whose rule counts from rbp.
fn ask(code: &[u8], start: u64, table: &UnwindTable, counts: &mut Counts) {
    let calls: Vec<u64> = Decoder::with_ip(64, code, start, DecoderOptions::NONE)
        .into_iter()
        .filter(|instruction| {
            matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall)
        })
        .filter(|call| matches!(table.rule_at(call.ip()).kind(), RuleKind::Rbp | RuleKind::Deref))
        .map(|call| call.ip())
        .collect();
    if calls.is_empty() {
        return;
    }
    let mut is_whole = true;
    for call in calls.iter().step_by(calls.len().div_ceil(PLACES_PER_FUNCTION)) {
        let begin = Instant::now();
        let told = distance_in(code, start, *call, |address| table.rule_at(address));
        counts.time += begin.elapsed();
        counts.places += 1;
        counts.told += usize::from(told.is_ok());
        counts.moved += usize::from(told == Err(NoDistance::Moves));
        counts.not_reached += usize::from(told == Err(NoDistance::NotReached));
        is_whole &= told.is_ok();
    }
    counts.functions += 1;
    counts.whole_functions += usize::from(is_whole);
}
