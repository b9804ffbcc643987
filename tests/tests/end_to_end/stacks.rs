//! Whole chains from the leaf to the thread's start, without frame pointers, through every kind of code.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use spanprof_agent::recorder::Recorder;
use spanprof_exporter::SampleKind;

use crate::capturing::{capture, in_full, poll_until_told, skip, turn};
use crate::samples::{Sample, Share, is, samples};
use crate::truth::{Truth, number};

/// The share of observations whose whole chain must be there.
const WHOLE: f64 = 0.995;
const HZ: u32 = 499;
const SECONDS: u64 = 4;

#[test]
fn deep_chains_are_whole_on_and_off_the_cpu() {
    let Some(_turn) = turn("deep_chains_are_whole_on_and_off_the_cpu") else { return };
    for depth in [17, 117, 317, 1000] {
        let depth_text = depth.to_string();
        let truth =
            Truth::start(env!("CARGO_BIN_EXE_truth_depth"), SECONDS, &["--depth", &depth_text, "--blocks"]);
        let (told, window) = capture(&in_full(HZ), truth);
        assert_eq!(number(&told["frames"]), depth);
        let levels = number(&told["levels"]);
        let main = number(&told["pid"]);
        let all = samples(&window.profile);
        let of = |kind| all.iter().filter(move |sample| sample.kind == kind && sample.thread() == main);
        let whole =
            |sample: &Sample<'_>| sample.is_complete() && is_chain(&sample.functions(), depth, levels);
        Share::of(of(SampleKind::Cpu), whole).require(&format!("depth {depth}, on CPU"), 500, WHOLE);
        Share::of(of(SampleKind::OffCpu), whole).require(&format!("depth {depth}, blocked"), 1_000, WHOLE);
        let blocks = Share::of(of(SampleKind::OffCpu), |_| true).all;
        // A sleep whose timer rings before the thread has left the CPU is none.
        assert!(blocks >= number(&told["blocks"]) * 99 / 100, "{blocks} blocks of {told}");
    }
}

/// Whether these functions (leaf first) are, from the spinning leaf on, exactly `depth` frames in the right order.
fn is_chain(functions: &[&str], depth: u64, levels: u64) -> bool {
    let Some(leaf) = functions.iter().position(|name| is(name, "spin_leaf")) else { return false };
    let chain = &functions[leaf..];
    let expected = (0..levels).rev().map(|level| format!("level_{}", level % 8));
    chain.len() as u64 == depth
        && chain[1..].iter().zip(expected).all(|(name, level)| is(name, &level))
        && is(chain[1 + levels as usize], "depth_root")
}

#[test]
fn a_stripped_program_has_the_same_addresses() {
    const TEST: &str = "a_stripped_program_has_the_same_addresses";
    let Some(_turn) = turn(TEST) else { return };
    let whole = Path::new(env!("CARGO_BIN_EXE_truth_depth"));
    let directory = tempfile::tempdir().unwrap();
    let stripped = directory.path().join("stripped");
    let names = match (run("strip", &["-o".as_ref(), stripped.as_ref(), whole.as_ref()]), symbols(whole)) {
        (Ok(_), Ok(names)) => names,
        (Err(why), _) | (_, Err(why)) => return skip(TEST, &why).unwrap_or(()),
    };
    let depth = 40;
    let truth = Truth::start(&stripped, SECONDS, &["--depth", "40"]);
    let (told, window) = capture(&in_full(HZ), truth);
    let levels = number(&told["levels"]);
    let main = number(&told["pid"]);
    let all = samples(&window.profile);
    let on_cpu = all.iter().filter(|sample| sample.kind == SampleKind::Cpu && sample.thread() == main);
    let right = |sample: &Sample<'_>| {
        let found = sample.functions();
        // The program's own code has no name but its file's, and the address is the one that `nm` gives.
        let named: Vec<&str> = found.iter().map(|function| name_of(function, &names)).collect();
        sample.is_complete() && is_chain(&named, depth, levels)
    };
    Share::of(on_cpu, right).require("stripped", 500, WHOLE);
}

/// Of `stripped+0xADDRESS` the function that the unstripped program has there; of any other name itself.
fn name_of<'a>(function: &'a str, names: &'a [(u64, String)]) -> &'a str {
    let Some(address) = function.rsplit_once("stripped+0x").map(|(_, digits)| digits) else {
        return function;
    };
    let address = u64::from_str_radix(address, 16).expect("an address in hexadecimal");
    let behind = names.partition_point(|(start, _)| *start <= address);
    behind.checked_sub(1).map_or("", |position| &names[position].1)
}

/// The functions of a program by address, as binutils tell.
fn symbols(program: &Path) -> Result<Vec<(u64, String)>, String> {
    let listing = run("nm", &["-C".as_ref(), program.as_ref()])?;
    let mut names: Vec<(u64, String)> = listing
        .lines()
        .filter_map(|line| {
            let (address, rest) = line.split_once(' ')?;
            let name = rest.strip_prefix("t ").or_else(|| rest.strip_prefix("T "))?;
            // Without the hash of the legacy mangling.
            let name =
                name.rsplit_once("::h").filter(|(_, hash)| hash.len() == 16).map_or(name, |(name, _)| name);
            Some((u64::from_str_radix(address, 16).ok()?, name.to_owned()))
        })
        .collect();
    names.sort();
    Ok(names)
}

fn run(program: &str, arguments: &[&std::ffi::OsStr]) -> Result<String, String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

#[test]
fn chains_lead_through_glibc_and_back() {
    let Some(_turn) = turn("chains_lead_through_glibc_and_back") else { return };
    let truth = Truth::start(env!("CARGO_BIN_EXE_truth_malloc"), SECONDS, &[]);
    let (told, window) = capture(&in_full(HZ), truth);
    let main = number(&told["pid"]);
    let all = samples(&window.profile);
    let on_cpu = || all.iter().filter(|sample| sample.kind == SampleKind::Cpu && sample.thread() == main);
    let whole = |sample: &Sample<'_>| sample.is_complete() && sample.passes("malloc_root");
    Share::of(on_cpu(), whole).require("glibc", 1_000, WHOLE);
    let in_glibc =
        |sample: &Sample<'_>| sample.places().first().is_some_and(|(path, _)| path.contains("libc.so"));
    Share::of(on_cpu(), in_glibc).require("the leaf in glibc", 1_000, 0.2);
    let called_back = || on_cpu().filter(|sample| sample.passes("compare_numbers"));
    let in_order = |sample: &Sample<'_>| {
        let functions = sample.functions();
        let at = |name| functions.iter().position(|function| is(function, name));
        // The library's sort lies between.
        match (at("compare_numbers"), at("sort_numbers"), at("malloc_root")) {
            (Some(compare), Some(sort), Some(root)) => compare + 1 < sort && sort < root,
            _ => false,
        }
    };
    Share::of(called_back(), in_order).require("called back from glibc", 50, WHOLE);
}

#[test]
fn chains_lead_through_signal_frames() {
    let Some(_turn) = turn("chains_lead_through_signal_frames") else { return };
    let truth = Truth::start(env!("CARGO_BIN_EXE_truth_signal"), SECONDS, &[]);
    let (told, window) = capture(&in_full(HZ), truth);
    let main = number(&told["pid"]);
    let all = samples(&window.profile);
    let on_cpu = || all.iter().filter(|sample| sample.kind == SampleKind::Cpu && sample.thread() == main);
    Share::of(on_cpu(), |sample| sample.is_complete()).require("with signals", 1_000, WHOLE);
    let in_handler = || on_cpu().filter(|sample| sample.passes("handle_alarm"));
    let interrupted = |sample: &Sample<'_>| {
        let functions = sample.functions();
        let at = |name| functions.iter().position(|function| is(function, name));
        match (at("handle_alarm"), at("interrupted_root")) {
            // Between the two the kernel's own frame and mostly one function more, unless that was inlined.
            (Some(handler), Some(root)) => sample.is_complete() && handler + 1 < root,
            _ => false,
        }
    };
    Share::of(in_handler(), interrupted).require("in the handler", 200, WHOLE);
    let bare = |sample: &Sample<'_>| sample.passes("interrupted_bare_loop");
    let framed = |sample: &Sample<'_>| sample.passes("interrupted_with_frame");
    for (what, passes) in [("a bare loop", &bare as &dyn Fn(&Sample<'_>) -> bool), ("a frame", &framed)] {
        Share::of(in_handler(), passes).require(&format!("in the handler over {what}"), 200, 0.05);
    }
}

#[test]
fn chains_lead_through_a_library_that_was_opened_meanwhile() {
    let Some(_turn) = turn("chains_lead_through_a_library_that_was_opened_meanwhile") else { return };
    // Opened once, after the capture began. The first window holds the stretch until it was found.
    let mut truth = Truth::start(env!("CARGO_BIN_EXE_truth_dlopen"), 5, &["--cycle-milliseconds", "100000"]);
    let mut recorder = Recorder::start(&in_full(HZ)).unwrap();
    recorder.add_target(truth.pid()).unwrap();
    recorder.restart_window();
    truth.begin();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        recorder.poll(Duration::from_millis(20)).unwrap();
    }
    let first = recorder.close_window();
    let told = poll_until_told(&mut recorder, &truth);
    let second = recorder.close_window();
    let main = number(&told["pid"]);
    for (what, window, whole) in [("the first second", &first, 0.8), ("later", &second, WHOLE)] {
        let all = samples(&window.profile);
        let on_cpu = || all.iter().filter(|sample| sample.kind == SampleKind::Cpu && sample.thread() == main);
        let in_plugin = |sample: &Sample<'_>| sample.is_complete() && is_plugin_chain(sample);
        Share::of(on_cpu(), in_plugin).require(&format!("through a library, {what}"), 100, whole);
        assert_losses_cover(window, on_cpu());
    }
}

#[test]
fn chains_lead_through_a_library_that_comes_and_goes() {
    let Some(_turn) = turn("chains_lead_through_a_library_that_comes_and_goes") else { return };
    let truth = Truth::start(env!("CARGO_BIN_EXE_truth_dlopen"), 5, &["--cycle-milliseconds", "500"]);
    let (told, window) = capture(&in_full(HZ), truth);
    assert!(number(&told["cycles"]) > 3);
    let main = number(&told["pid"]);
    let all = samples(&window.profile);
    let on_cpu = || all.iter().filter(|sample| sample.kind == SampleKind::Cpu && sample.thread() == main);
    let whole = |sample: &Sample<'_>| sample.is_complete() && is_plugin_chain(sample);
    // At worst the library lies elsewhere each time, and the first tenth of a cycle is gone until it is found.
    Share::of(on_cpu(), whole).require("through a library that comes and goes", 500, 0.8);
    assert_losses_cover(&window, on_cpu());
}

fn is_plugin_chain(sample: &Sample<'_>) -> bool {
    let functions = sample.functions();
    let chain = ["plugin_leaf", "plugin_middle", "plugin_outer", "open_and_spin"];
    // The few samples between two calls of the library, and those in the linker, only have the root.
    let Some(outer) = functions.iter().position(|name| is(name, "plugin_outer")) else {
        return functions.iter().any(|name| is(name, "open_and_spin"));
    };
    outer >= 2 && chain.iter().zip(&functions[outer - 2..]).all(|(expected, name)| is(name, expected))
        || outer <= 1 && chain[2 - outer..].iter().zip(&functions).all(|(expected, name)| is(name, expected))
}

/// Every distinct stack that isn't whole stands in the summary as a loss.
fn assert_losses_cover<'s, 'p: 's>(
    window: &spanprof_agent::recorder::Window,
    samples: impl Iterator<Item = &'s Sample<'p>>,
) {
    let truncated = samples.filter(|sample| !sample.is_complete()).count() as u64;
    let counted: u64 = ["stacks_truncated", "stacks_missing"]
        .iter()
        .filter_map(|cause| window.summary.losses.get(*cause))
        .sum();
    assert!(counted >= truncated, "{truncated} stacks end early, {:?}", window.summary.losses);
}
