//! A writer that is killed in the middle of writing, again and again: what it said to be written is there and whole.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use spanprof_exporter::directory::WindowDirectory;
use spanprof_exporter::pprof::decode;
use spanprof_exporter::stored::{StoredWindow, WindowStore};
use spanprof_exporter::{Label, Profile, SampleKey, SampleKind};

/// Tells the test program that it is the writer, and where it writes.
const WRITER: &str = "SPANPROF_TEST_WRITER";
/// And which second its first window begins in.
const FIRST: &str = "SPANPROF_TEST_FIRST";
const KILLS: usize = 100;
/// Samples of a window: enough that writing it takes longer than noticing that it is written.
const SAMPLES: u64 = 1_000;

fn window(seconds: u64) -> Profile {
    let mut profile = Profile::default();
    profile.start_unix_nanoseconds = seconds * 1_000_000_000;
    profile.duration_nanoseconds = 1_000_000_000;
    let stack = profile.intern_stack(vec![]);
    // Ids that gzip finds nothing in.
    let mut id = seconds.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..SAMPLES {
        id = id.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let labels = profile.intern_labels(vec![Label::text("span_id", format!("{id:016x}"))]);
        profile.add(SampleKey { stack, labels, kind: SampleKind::Cpu }, 1, 1);
    }
    profile
}

/// Writes windows until it is killed, and says each second of which it has written the window.
#[test]
#[ignore = "the process that the other test kills"]
fn writer() {
    let directory = std::env::var_os(WRITER).expect("a directory from the other test");
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let windows = WindowDirectory::new(directory, 1 << 30).unwrap();
    let mut out = std::io::stdout();
    for seconds in first.. {
        windows.write(&window(seconds)).unwrap();
        writeln!(out, "written {seconds}").unwrap();
        out.flush().unwrap();
    }
}

fn hidden(directory: &Path) -> usize {
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with('.')).count()
}

/// Kills a writer in the middle of its third window or later, and gives the last second that it said.
fn write_and_kill(directory: &Path, first: u64) -> u64 {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "writer", "--nocapture"])
        .env(WRITER, directory)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(writer.stdout.take().unwrap()).lines();
    let seconds = |line: std::io::Result<String>| line.unwrap().split_once("written ")?.1.parse::<u64>().ok();
    let mut last = said.by_ref().filter_map(seconds).nth(1).expect("the writer writes");
    while hidden(directory) == 0 {
        std::hint::spin_loop();
    }
    writer.kill().unwrap();
    writer.wait().unwrap();
    last = said.filter_map(seconds).last().unwrap_or(last);
    last
}

#[test]
fn nothing_that_was_written_is_lost_and_no_rubbish_stays() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path();
    let (mut first, mut cut, mut known) = (1_000, 0, Vec::new());
    for _ in 0..KILLS {
        let last = write_and_kill(directory, first);
        known.extend(first..=last);
        cut += hidden(directory);

        let windows = WindowDirectory::new(directory, 1 << 30).unwrap();
        assert_eq!(hidden(directory), 0);
        let listed = windows.files().list().unwrap();
        let there: Vec<u64> = listed.iter().map(|window| window.seconds).collect();
        // The kill may have come between the window's place and the word of it.
        let unsaid = there.last().is_some_and(|newest| *newest == last + 1);
        known.extend(unsaid.then_some(last + 1));
        assert_eq!(there, known);
        for window in listed.iter().rev().take((last - first) as usize + 2) {
            assert_whole(windows.files(), window);
        }
        first = known.last().unwrap() + 1;
    }
    assert!(cut > KILLS / 2, "only {cut} of {KILLS} kills came while a window was being written");
    println!("{} windows, {cut} of {KILLS} kills in the middle of one", known.len());
}

fn assert_whole(store: &impl WindowStore, window: &StoredWindow) {
    let profile = decode(&store.read(window).unwrap().unwrap()).unwrap();
    assert_eq!(profile.total(SampleKind::Cpu), SAMPLES);
    assert_eq!(profile.start_unix_nanoseconds, window.seconds * 1_000_000_000);
}
