//! pprof files: golden bytes, other readers, round trips, foreign producers.

mod fixture;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ::pprof::protos::{Message, Profile as PeerProfile};
use fixture::{SLOW_SPAN, TRACE, profile, profile_with_side_tables, profile_with_tasks};
use spanprof_exporter::pprof::{PprofError, decode, encode, encode_uncompressed};
use spanprof_exporter::{Location, Profile, SampleKey, SampleKind};
use spanprof_symbolizer::FrameKind;

/// What a profile says, without ids: equal for two profiles that mean the same.
fn meaning(profile: &Profile) -> BTreeMap<String, u64> {
    let mut meaning = BTreeMap::new();
    for (key, value) in profile.samples() {
        if value.nanoseconds == 0 {
            continue;
        }
        let mut text = format!("{:?} {:?}", key.kind, profile.labels(key.labels));
        for location in profile.stack(key.stack) {
            let location = profile.location(*location);
            let module = location.module.map(|module| &profile.modules()[module.index()]);
            let _ = write!(text, "\n  {:#x} {:?} {:?}", location.address, location.frames, module);
        }
        *meaning.entry(text).or_default() += value.nanoseconds;
    }
    meaning
}

#[test]
fn what_is_written_is_read_back() {
    let written = profile();
    let read = decode(&encode(&written)).unwrap();
    assert_eq!(meaning(&read), meaning(&written));
    assert_eq!(read.start_unix_nanoseconds, written.start_unix_nanoseconds);
    assert_eq!(read.duration_nanoseconds, written.duration_nanoseconds);
    assert_eq!(read.period_nanoseconds, written.period_nanoseconds);
    assert_eq!(read.comments, written.comments);
    assert_eq!(decode(&encode_uncompressed(&written)).map(|read| meaning(&read)).unwrap(), meaning(&written));
}

#[test]
fn kernel_code_and_notes_are_told_from_the_programs_own() {
    let mut written = Profile::default();
    let kernel = fixture::frame("__schedule", "__schedule", None, FrameKind::Kernel);
    let note = fixture::frame("[stack lost]", "[stack lost]", None, FrameKind::Synthetic);
    let own = fixture::rust("orders::reserve", 31);
    let locations =
        [(0xffff_ffff_8100_0000, kernel), (0x5500_0000_0100, own), (0, note)].map(|(address, frame)| {
            written.intern_location(Location { module: None, address, frames: vec![frame] })
        });
    let stack = written.intern_stack(locations.to_vec());
    let labels = written.intern_labels(vec![]);
    written.add(SampleKey { stack, labels, kind: SampleKind::OffCpu }, 7, 1);
    assert_eq!(meaning(&decode(&encode(&written)).unwrap()), meaning(&written));
}

#[test]
fn an_empty_profile_is_a_valid_file() {
    let read = decode(&encode(&Profile::default())).unwrap();
    assert!(read.is_empty());
}

/// The bytes on disk are a contract: a change here is a change for everybody who reads the files.
/// `SPANPROF_BLESS=1` writes the file anew.
#[test]
fn the_bytes_do_not_change_unnoticed() {
    for (name, profile) in [
        ("orders.pb", profile()),
        ("tasks.pb", profile_with_tasks()),
        ("side_tables.pb", profile_with_side_tables()),
    ] {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        let written = encode_uncompressed(&profile);
        if std::env::var_os("SPANPROF_BLESS").is_some() {
            std::fs::write(&golden, &written).unwrap();
        }
        assert!(
            written == std::fs::read(&golden).unwrap(),
            "the encoder's output differs from {}",
            golden.display()
        );
    }
}

#[test]
fn times_of_tasks_stand_behind_those_of_threads() {
    let profile = profile_with_tasks();
    let bytes = encode_uncompressed(&profile);
    let peer = PeerProfile::decode(&*bytes).unwrap();
    let text = |index: i64| peer.string_table[index as usize].as_str();
    let types: Vec<_> = peer.sample_type.iter().map(|t| (text(t.ty), text(t.unit))).collect();
    let expected = ["cpu", "off_cpu", "run_queue", "suspended", "ready"].map(|name| (name, "nanoseconds"));
    assert_eq!(types, expected);
    let awaits: Vec<_> = peer.sample.iter().filter(|sample| sample.value[3] > 0).collect();
    assert_eq!(awaits.len(), 1);
    assert_eq!(awaits[0].value, [0, 0, 0, 200_000_000, 1_500_000]);
    assert!(peer.sample.iter().all(|sample| sample.value.len() == 5));
    let read = decode(&bytes).unwrap();
    assert_eq!(meaning(&read), meaning(&profile));
    assert_eq!(read.kinds(), &SampleKind::ALL[..5]);
    assert_eq!(fixture::profile().kinds(), SampleKind::OF_THREADS);
}

#[test]
fn the_peers_reader_sees_our_samples() {
    let peer = PeerProfile::decode(&*encode_uncompressed(&profile())).unwrap();
    let text = |index: i64| peer.string_table[index as usize].as_str();
    let types: Vec<_> = peer.sample_type.iter().map(|t| (text(t.ty), text(t.unit))).collect();
    assert_eq!(types, [("cpu", "nanoseconds"), ("off_cpu", "nanoseconds"), ("run_queue", "nanoseconds")]);
    assert_eq!(peer.string_table[0], "");
    assert_eq!(text(peer.default_sample_type), "cpu");
    let period = peer.period_type.as_ref().unwrap();
    assert_eq!((text(period.ty), text(period.unit), peer.period), ("cpu", "nanoseconds", 10_101_010));
    assert_eq!(
        (text(peer.mapping[0].filename), text(peer.mapping[0].build_id)),
        ("/usr/bin/orders", "0011223344")
    );
    assert!(peer.mapping[0].has_functions && peer.mapping[0].has_inline_frames);
    assert_eq!(
        peer.comment.iter().map(|c| text(*c)).collect::<Vec<_>>(),
        ["made by hand", "samples lost: 0"]
    );

    // Off-CPU and run-queue time of the same stack and labels are one sample.
    let waits: Vec<_> = peer.sample.iter().filter(|sample| sample.value[1] == 430_000_000).collect();
    assert_eq!(waits.len(), 1);
    assert_eq!(waits[0].value, [0, 430_000_000, 38_000_000]);
    let labels: BTreeMap<_, _> = waits[0].label.iter().map(|l| (text(l.key), (text(l.str), l.num))).collect();
    assert_eq!(labels["span_id"], (SLOW_SPAN, 0));
    assert_eq!(labels["trace_id"], (TRACE, 0));
    assert_eq!(labels["pid"], ("", 4242));
    assert_eq!(labels["wait"], ("futex", 0));
    assert_eq!(labels["messaging.destination.name"], ("orders", 0));

    // Inlined functions stand innermost first, the caller last.
    let location = peer.location.iter().find(|l| l.line.len() == 3).unwrap();
    let names: Vec<_> =
        location.line.iter().map(|l| text(peer.function[l.function_id as usize - 1].name)).collect();
    assert_eq!(names[2], "orders::reserve");

    // Every string, function and location is there once.
    let mut strings = peer.string_table.clone();
    strings.sort();
    strings.dedup();
    assert_eq!(strings.len(), peer.string_table.len());
}

#[test]
fn go_tool_pprof_opens_the_file() {
    let Some(go) = go() else {
        assert!(std::env::var_os("CI").is_none(), "go is not installed, and CI must have it");
        eprintln!("skipped go_tool_pprof_opens_the_file: go is not installed");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("profile.pb.gz");
    std::fs::write(&file, encode(&profile_with_side_tables())).unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(&go)
            .args(["tool", "pprof", "-symbolize=none"])
            .args(arguments)
            .arg(&file)
            .env("PPROF_TMPDIR", directory.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    let cpu = run(&["-top"]);
    assert!(cpu.contains("Type: cpu") && cpu.contains("orders::parse"), "{cpu}");
    let off_cpu = run(&["-top", "-sample_index=off_cpu"]);
    assert!(off_cpu.contains("430ms") && off_cpu.contains("orders::reserve"), "{off_cpu}");
    let one_span = run(&["-top", "-sample_index=off_cpu", &format!("-tagfocus=span_id={SLOW_SPAN}")]);
    assert!(one_span.contains("430ms") && !one_span.contains("clock_nanosleep"), "{one_span}");
    let raw = run(&["-raw"]);
    assert!(raw.contains("Samples:") && raw.contains("orders::reserve"), "{raw}");
    let tags = run(&["-tags"]);
    assert!(tags.contains("messaging.consumer.group.name"), "{tags}");
}

fn go() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join("go")).find(|program| program.is_file())
}

/// A file as another producer writes it: strings first, then sample types as pairs of string indices.
fn foreign(
    strings: &[&str],
    types: &[(i64, i64)],
    values: &[i64],
    period: Option<(i64, i64, i64)>,
) -> Vec<u8> {
    use ::pprof::protos::{Function, Line, Location, Sample, ValueType};
    let mut peer = PeerProfile {
        string_table: strings.iter().map(|text| (*text).to_owned()).collect(),
        sample_type: types.iter().map(|(ty, unit)| ValueType { ty: *ty, unit: *unit }).collect(),
        ..PeerProfile::default()
    };
    if let Some((ty, unit, period)) = period {
        peer.period_type = Some(ValueType { ty, unit });
        peer.period = period;
    }
    peer.function.push(Function { id: 70, name: 1, ..Function::default() });
    let line = Line { function_id: 70, line: 3 };
    peer.location.push(Location { id: 900, address: 0x10, line: vec![line], ..Location::default() });
    peer.location.push(Location { id: 901, address: 0x20, ..Location::default() });
    peer.sample.push(Sample { location_id: vec![900, 901], value: values.to_vec(), label: vec![] });
    peer.encode_to_vec()
}

#[test]
fn gos_cpu_profile_is_read() {
    let strings = ["", "main.work", "samples", "count", "cpu", "nanoseconds"];
    let read =
        decode(&foreign(&strings, &[(2, 3), (4, 5)], &[3, 30_000_000], Some((4, 5, 10_000_000)))).unwrap();
    assert_eq!(read.total(SampleKind::Cpu), 30_000_000);
    assert_eq!(read.period_nanoseconds, 10_000_000);
    let names: Vec<_> = read.locations().iter().map(|l| l.frames[0].function.to_string()).collect();
    assert_eq!(names, ["main.work", "0x20"]);
}

#[test]
fn counts_become_time_by_the_period() {
    let strings = ["", "work", "samples", "count", "cpu", "nanoseconds"];
    let read = decode(&foreign(&strings, &[(2, 3)], &[3], Some((4, 5, 10_000_000)))).unwrap();
    assert_eq!(read.total(SampleKind::Cpu), 30_000_000);
}

#[test]
fn gos_block_profile_and_other_units_are_read() {
    let strings = ["", "work", "contentions", "count", "delay", "nanoseconds"];
    let read = decode(&foreign(&strings, &[(2, 3), (4, 5)], &[3, 77], None)).unwrap();
    assert_eq!(read.total(SampleKind::OffCpu), 77);
    let read = decode(&foreign(&["", "work", "cpu", "microseconds"], &[(2, 3)], &[5], None)).unwrap();
    assert_eq!(read.total(SampleKind::Cpu), 5_000);
    // Await times alone, between types that nobody knows.
    let strings = ["", "work", "suspended", "nanoseconds", "polls", "count"];
    let read = decode(&foreign(&strings, &[(4, 5), (2, 3), (4, 3)], &[3, 77, 9], None)).unwrap();
    assert_eq!((read.total(SampleKind::Suspended), read.total(SampleKind::Ready)), (77, 0));
}

#[test]
fn files_that_say_nothing_we_know_are_refused_in_words() {
    let error = decode(&foreign(&["", "work", "inuse_space", "bytes"], &[(2, 3)], &[5], None)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the profile holds no CPU, off-CPU, run-queue or await time; its sample types are: inuse_space/bytes"
    );
    let cpu = ["", "work", "cpu", "nanoseconds"];
    let error = decode(&foreign(&cpu, &[(2, 3)], &[-5], None)).unwrap_err();
    assert!(matches!(error, PprofError::Negative), "{error}");
    let error = decode(&foreign(&cpu, &[(2, 3)], &[5, 6], None)).unwrap_err();
    assert!(matches!(error, PprofError::ValueCount { expected: 1, found: 2 }), "{error}");
    let error = decode(&foreign(&cpu, &[(2, 9)], &[5], None)).unwrap_err();
    assert!(matches!(error, PprofError::Dangling { what: "string", id: 9 }), "{error}");
}
