//! `spanprof diff` as scripts and people see it.

mod support;

use std::path::Path;
use std::sync::Arc;

use spanprof_exporter::directory::WindowDirectory;
use spanprof_exporter::{Label, Location, Profile, SampleKey, SampleKind, label, pprof};
use spanprof_symbolizer::{Frame, FrameKind};
use support::{Finished, run, spanprof};

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;

/// One second that began at a second, with messages: number, destination, why it is kept, and how long it waited for a
/// lock.
fn window(begin: u64, messages: &[(u64, &str, Option<&str>, u64)]) -> Profile {
    let mut profile = Profile::default();
    (profile.start_unix_nanoseconds, profile.duration_nanoseconds) = (begin * SECOND, SECOND);
    let mut location = |name: &str| {
        let name: Arc<str> = name.into();
        let frame = Frame {
            function: name.clone(),
            system_name: name.clone(),
            file: None,
            line: 0,
            kind: FrameKind::Rust,
        };
        profile.intern_location(Location { module: None, address: 0, frames: vec![frame] })
    };
    let lock = location("std::sync::poison::mutex::Mutex<T>::lock");
    let [reserve, parse, handle] =
        ["inventory::reserve_stock", "orders::parse", "orders::handle"].map(location);
    let waiting = profile.intern_stack(vec![lock, reserve, handle]);
    let parsing = profile.intern_stack(vec![parse, handle]);
    for (number, destination, kept, waited) in messages {
        let mut labels = vec![
            Label::text(label::SPAN_ID, format!("{number:016x}")),
            Label::text(label::SERVICE_NAME, "orders-consumer"),
            Label::text(label::DESTINATION, *destination),
            Label::text(label::CONSUMER_GROUP, "billing"),
            Label::text(label::OPERATION, "process"),
        ];
        labels.extend(kept.map(|kept| Label::text(label::KEPT, kept)));
        let labels = profile.intern_labels(labels);
        let mut add = |stack, kind, time| profile.add(SampleKey { stack, labels, kind }, time, 1);
        add(waiting, SampleKind::OffCpu, waited * MILLISECOND);
        add(parsing, SampleKind::Cpu, 2 * MILLISECOND);
    }
    profile
}

/// Two windows with a gap of a minute between them: two slow messages in all, one failed, three normal ones.
fn windows() -> [Profile; 2] {
    let first = [(1, "orders", None, 1), (2, "orders", None, 1), (3, "orders", Some("slow"), 300)];
    let second = [
        (4, "orders", None, 1),
        (5, "orders", Some("slow"), 500),
        (6, "orders", Some("failed"), 7),
        (7, "audit", None, 1),
        (8, "payments", Some("slow"), 9),
    ];
    [window(1_000, &first), window(1_061, &second)]
}

fn write_windows(directory: &Path) {
    let written = WindowDirectory::new(directory, 1 << 20).unwrap();
    windows().iter().for_each(|window| drop(written.write(window).unwrap()));
}

fn write(file: &Path, profile: &Profile) {
    std::fs::write(file, pprof::encode(profile)).unwrap();
}

fn diff(arguments: &[&str], files: &[&Path]) -> Finished {
    run(spanprof().arg("diff").args(arguments).args(files))
}

#[test]
fn slow_messages_of_all_windows_are_told_apart_from_normal_ones() {
    let directory = tempfile::tempdir().unwrap();
    write_windows(directory.path());
    let finished = diff(&["--slow-vs-normal"], &[directory.path()]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let expected = "\
orders, group billing, process, by orders-consumer
2 slow messages and 3 normal; times in ms per message
1 failed not compared here (--failed-vs-normal)

TIME        SLOW  NORMAL    MORE
cpu          2.0     2.0     0.0
off_cpu    400.0     1.0  +399.0
run_queue    0.0     0.0     0.0
all        402.0     3.0  +399.0

  MORE  SHARE   SLOW  NORMAL  KIND
  CAUSE
+399.0  100 %  400.0     1.0  off_cpu
  waiting for a lock in inventory::reserve_stock (std::sync::Mutex::lock)
   0.0    0 %    2.0     2.0  cpu
  running orders::parse

  MORE   SLOW  NORMAL     OWN  FUNCTION
+399.0  400.0     1.0     0.0  inventory::reserve_stock
+399.0  402.0     3.0     0.0  orders::handle
   0.0    2.0     2.0     0.0  orders::parse
+399.0  400.0     1.0  +399.0  std::sync::poison::mutex::Mutex::lock (runtime)

payments, group billing, process, by orders-consumer
  1 slow message, and no normal ones to compare with
audit, group billing, process, by orders-consumer
  no slow ones among 1 normal message
";
    assert_eq!(finished.output, expected, "{}", finished.output);
    assert!(finished.output.lines().all(|line| line.chars().count() <= 80), "{}", finished.output);
}

#[test]
fn filters_limits_and_failed_ones() {
    let directory = tempfile::tempdir().unwrap();
    write_windows(directory.path());
    let only =
        diff(&["--slow-vs-normal", "--destination", "audit", "--group", "billing"], &[directory.path()]);
    assert_eq!(only.output.lines().count(), 2, "{only:?}");
    let nobody = diff(&["--slow-vs-normal", "--group", "nobody"], &[directory.path()]);
    assert_eq!(nobody.code, Some(3), "{nobody:?}");
    assert!(nobody.errors.contains("--by destination"), "{nobody:?}");
    let limited = diff(&["--slow-vs-normal", "--limit", "1"], &[directory.path()]);
    for line in ["… 1 more cause, together 0.0 (--limit 0 shows all)", "… 3 more functions"] {
        assert!(limited.output.contains(line), "{}", limited.output);
    }
    let failed = diff(&["--failed-vs-normal", "--destination", "orders"], &[directory.path()]);
    for words in ["1 failed message and 3 normal", "2 slow not compared here", "FAILED  NORMAL"] {
        assert!(failed.output.contains(words), "{}", failed.output);
    }
}

#[test]
fn json_has_the_sums_undivided() {
    let directory = tempfile::tempdir().unwrap();
    write_windows(directory.path());
    let finished = diff(&["--slow-vs-normal", "--json"], &[directory.path()]);
    let json: serde_json::Value = serde_json::from_str(&finished.output).unwrap();
    assert_eq!(json["compared"], "slow-vs-normal");
    let orders = &json["classes"][0];
    assert_eq!((&orders["destination"], &orders["consumer_group"]), (&"orders".into(), &"billing".into()));
    assert_eq!(orders["slow"]["messages"], 2);
    assert_eq!(orders["slow"]["off_cpu_ns"], 800 * MILLISECOND);
    assert_eq!(orders["failed"]["messages"], 1);
    let causes = orders["causes"].as_array().unwrap();
    assert_eq!(causes[0]["slow_ns"], 800 * MILLISECOND);
    assert_eq!(causes[0]["more_ns_per_message"], 399e6);
    assert_eq!((&causes[0]["kind"], &causes[0]["share"]), (&"off_cpu".into(), &1.0.into()));
    let sum: u64 = causes.iter().map(|cause| cause["slow_ns"].as_u64().unwrap()).sum();
    assert_eq!(sum, orders["total"]["slow_ns"].as_u64().unwrap());
    assert_eq!(orders["functions"][3]["runtime"], true);
    assert_eq!(json["classes"].as_array().unwrap().len(), 3);
}

#[test]
fn two_recordings_are_compared_by_the_second() {
    let directory = tempfile::tempdir().unwrap();
    let (before, after) = (directory.path().join("before.pb.gz"), directory.path().join("after"));
    let [first, _] = windows();
    write(&before, &first);
    std::fs::create_dir(&after).unwrap();
    // Two windows of a second each, and what is between them was not recorded.
    write_windows(&after);
    let finished = diff(&[], &[&before, &after]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let mut lines = finished.output.lines();
    assert_eq!(lines.next(), Some("before 1.0 s, after 2.0 s; times in ms per second of the recording"));
    // 302 ms waited in one second, 820 in two.
    assert!(finished.output.contains("off_cpu    410.0   302.0  +108.0"), "{}", finished.output);
    let json = diff(&["--json", "--destination", "payments"], &[&before, &after]);
    let json: serde_json::Value = serde_json::from_str(&json.output).unwrap();
    assert_eq!((&json["before"]["total_ns"], &json["after"]["seconds"]), (&0.into(), &2.0.into()));
}

#[test]
fn a_flame_graph_is_written_where_there_is_something_to_draw() {
    let directory = tempfile::tempdir().unwrap();
    write_windows(directory.path());
    let svg = directory.path().join("slow.svg");
    let draw = ["--slow-vs-normal", "--svg", svg.to_str().unwrap()];
    let finished = diff(&draw, &[directory.path()]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let drawn = std::fs::read_to_string(&svg).unwrap();
    for words in ["slow messages beside normal", "orders, group billing, process", "rgb(255,100,100)"] {
        assert!(drawn.contains(words), "{words}");
    }
    std::fs::remove_file(&svg).unwrap();
    let finished = diff(&[&draw[..], &["--destination", "audit"]].concat(), &[directory.path()]);
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(!svg.exists() && finished.output.contains("no slow ones"), "{finished:?}");
}

#[test]
fn what_cannot_be_compared_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let (whole, foreign) = (directory.path().join("whole.pb.gz"), directory.path().join("foreign.pb.gz"));
    let [mut window, _] = windows();
    write(&whole, &window);
    window.duration_nanoseconds = 0;
    write(&foreign, &window);
    let empty = tempfile::tempdir().unwrap();
    let no_spans = directory.path().join("no-spans.pb.gz");
    write(&no_spans, &self::window(1, &[]));
    for (arguments, files, code, words) in [
        (&[][..], &[&whole][..], 2, "--slow-vs-normal"),
        (&["--slow-vs-normal"], &[&whole, &whole], 2, "within one recording"),
        (&["--slow-vs-normal", "--failed-vs-normal"], &[&whole], 2, "cannot be used with"),
        (&[], &[], 2, "BEFORE AFTER"),
        (&[], &[&whole, &foreign], 1, "foreign.pb.gz does not say how long"),
        (&[], &[&whole, &directory.path().join("nothing")], 1, "No such file"),
        (&["--slow-vs-normal"], &[&empty.path().to_owned()], 1, "holds no recording"),
        (&["--slow-vs-normal"], &[&no_spans], 3, "no span with an id"),
    ] {
        let files: Vec<&Path> = files.iter().map(|file| file.as_path()).collect();
        let finished = diff(arguments, &files);
        assert_eq!(finished.code, Some(code), "{arguments:?}: {finished:?}");
        assert!(finished.errors.contains(words), "{arguments:?}: {}", finished.errors);
    }
}

#[test]
fn show_adds_windows_up_too() {
    let directory = tempfile::tempdir().unwrap();
    write_windows(directory.path());
    let shown = run(spanprof().args(["show", "--limit", "2"]).arg(directory.path()));
    assert_eq!(shown.code, Some(0), "{shown:?}");
    // What a line has no room for goes beneath it.
    let rows = shown.output.lines().skip(1).filter(|line| !line.starts_with(' '));
    let spans: Vec<&str> = rows.filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(spans[..2], ["0000000000000005", "0000000000000003"], "{shown:?}");
}
