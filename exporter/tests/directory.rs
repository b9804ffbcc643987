//! Files on disk: whole or not at all, and never too many.

mod fixture;

use std::path::Path;
use std::process::Command;

use fixture::profile;
use spanprof_exporter::directory::{DirectoryError, ReportFile, WindowDirectory, write_report};
use spanprof_exporter::idle::{IdleThreads, WAITING_WITHOUT_SPAN};
use spanprof_exporter::pprof::decode;
use spanprof_exporter::stored::WindowStore;
use spanprof_exporter::svg::flame_graph;
use spanprof_exporter::{Label, Location, Profile, SampleFilter, SampleKey, SampleKind, label};
use spanprof_symbolizer::FrameKind;

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_report_is_written_whole() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path().join("new/report");
    let summary = ReportFile { name: "summary.json".into(), bytes: b"{}".to_vec() };
    let paths = write_report(&directory, &profile(), "orders", vec![summary]).unwrap();
    let expected = ["cpu.svg", "off_cpu.svg", "profile.pb.gz", "run_queue.svg", "summary.json"];
    assert_eq!(names(&directory), expected);
    assert_eq!(paths.len(), expected.len());
    let read = decode(&std::fs::read(directory.join("profile.pb.gz")).unwrap()).unwrap();
    assert_eq!(read.total(SampleKind::OffCpu), profile().total(SampleKind::OffCpu));
    // Again over the old one.
    write_report(&directory, &profile(), "orders", vec![]).unwrap();
    assert_eq!(names(&directory), expected);
}

#[test]
fn a_report_of_nothing_has_the_files_that_people_open() {
    let directory = tempfile::tempdir().unwrap();
    write_report(directory.path(), &Profile::default(), "nothing", vec![]).unwrap();
    assert_eq!(names(directory.path()), ["cpu.svg", "off_cpu.svg", "profile.pb.gz"]);
}

#[test]
fn a_report_of_tasks_has_their_pictures() {
    let directory = tempfile::tempdir().unwrap();
    write_report(directory.path(), &fixture::profile_with_tasks(), "orders", vec![]).unwrap();
    let expected = ["cpu.svg", "off_cpu.svg", "profile.pb.gz", "ready.svg", "run_queue.svg", "suspended.svg"];
    assert_eq!(names(directory.path()), expected);
    let svg = std::fs::read_to_string(directory.path().join("suspended.svg")).unwrap();
    assert!(svg.contains("awaiting, without a thread: 200 ms") && svg.contains("orders::settle"), "{svg}");
}

#[test]
fn flame_graphs_show_names_units_and_totals() {
    let (all, shown) = (SampleFilter::default(), IdleThreads::Shown);
    let svg = flame_graph(&profile(), SampleKind::OffCpu, &all, shown, "orders & billing").unwrap().unwrap();
    assert!(svg.contains("orders &amp; billing"), "the title is escaped");
    assert!(svg.contains("blocked: 530 ms"), "the subtitle has the total");
    assert!(svg.contains("<title>orders::reserve (430 ms, 81.13%)</title>"), "{svg}");
    assert!(svg.contains("<title>producer (100 ms, 18.87%)</title>"), "services stay apart");
    let again =
        flame_graph(&profile(), SampleKind::OffCpu, &all, shown, "orders & billing").unwrap().unwrap();
    assert!(svg == again, "equal profiles give equal pictures");
    let span = SampleFilter::span(fixture::BUSY_SPAN);
    assert!(flame_graph(&profile(), SampleKind::OffCpu, &span, shown, "busy").unwrap().is_none());
}

/// Adds 12.34 s of a thread that waits without a span.
fn add_idle(profile: &mut Profile) {
    let frame = fixture::frame(WAITING_WITHOUT_SPAN, WAITING_WITHOUT_SPAN, None, FrameKind::Synthetic);
    let location = profile.intern_location(Location { module: None, address: 0, frames: vec![frame] });
    let stack = profile.intern_stack(vec![location]);
    let labels = profile.intern_labels(vec![Label::text(label::SERVICE_NAME, "consumer")]);
    profile.add(SampleKey { stack, labels, kind: SampleKind::OffCpu }, 12_340_000_000, 1);
}

#[test]
fn pictures_of_a_report_hide_idle_threads_and_say_how_much_that_was() {
    let directory = tempfile::tempdir().unwrap();
    let mut profile = profile();
    add_idle(&mut profile);
    write_report(directory.path(), &profile, "orders", vec![]).unwrap();
    let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
    let svg = read("off_cpu.svg");
    assert!(svg.contains("blocked: 530 ms; idle threads hidden (12.3 s)"), "{svg}");
    assert!(!svg.contains(WAITING_WITHOUT_SPAN));
    assert!(!read("cpu.svg").contains("idle"));
    let kept = decode(&std::fs::read(directory.path().join("profile.pb.gz")).unwrap()).unwrap();
    assert_eq!(kept.total(SampleKind::OffCpu), 12_870_000_000, "the profile holds all of it");
    let shown =
        flame_graph(&profile, SampleKind::OffCpu, &SampleFilter::default(), IdleThreads::Shown, "orders");
    let shown = shown.unwrap().unwrap();
    assert!(shown.contains("blocked: 12870 ms</text>") && shown.contains(WAITING_WITHOUT_SPAN));
}

#[test]
fn a_report_of_idle_threads_alone_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut profile = Profile::default();
    add_idle(&mut profile);
    write_report(directory.path(), &profile, "idle", vec![]).unwrap();
    let svg = std::fs::read_to_string(directory.path().join("off_cpu.svg")).unwrap();
    assert!(svg.contains("No off_cpu time was seen; idle threads hidden (12.3 s)."), "{svg}");
}

fn window(seconds: u64) -> Profile {
    let mut profile = profile();
    profile.start_unix_nanoseconds = seconds * 1_000_000_000;
    profile
}

#[test]
fn windows_make_room_for_newer_ones_and_touch_nothing_else() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path();
    std::fs::write(path.join("notes.txt"), "mine").unwrap();
    let size = spanprof_exporter::pprof::encode(&window(1_000)).len() as u64;
    let windows = WindowDirectory::new(path, 3 * size + size / 2).unwrap();
    for seconds in [1_000, 1_000, 1_002] {
        assert_eq!(windows.write(&window(seconds)).unwrap().removed.len(), 0);
    }
    let kept = ["notes.txt", "spanprof-1000-2.pb.gz", "spanprof-1000.pb.gz", "spanprof-1002.pb.gz"];
    assert_eq!(names(path), kept);
    let written = windows.write(&window(1_004)).unwrap();
    assert_eq!(written.removed, [path.join("spanprof-1000.pb.gz")]);
    assert_eq!(written.path, path.join("spanprof-1004.pb.gz"));
    windows.write(&window(1_006)).unwrap();
    let kept = ["notes.txt", "spanprof-1002.pb.gz", "spanprof-1004.pb.gz", "spanprof-1006.pb.gz"];
    assert_eq!(names(path), kept);
}

#[test]
fn a_window_larger_than_the_directory_may_be_is_refused_and_costs_no_older_one() {
    let temporary = tempfile::tempdir().unwrap();
    let size = spanprof_exporter::pprof::encode(&window(1_000)).len() as u64;
    WindowDirectory::new(temporary.path(), size * 2).unwrap().write(&window(1_000)).unwrap();
    let error = WindowDirectory::new(temporary.path(), 10).unwrap().write(&window(1_002)).unwrap_err();
    assert!(matches!(error, DirectoryError::WindowTooLarge { limit: 10, .. }), "{error}");
    assert_eq!(names(temporary.path()), ["spanprof-1000.pb.gz"]);
}

#[test]
fn windows_go_by_age_too() {
    let temporary = tempfile::tempdir().unwrap();
    let hour = std::time::Duration::from_secs(3_600);
    let windows = WindowDirectory::new(temporary.path(), 1 << 20).unwrap().keeping_for(hour);
    for seconds in [1_000, 1_010, 4_600] {
        assert_eq!(windows.write(&window(seconds)).unwrap().removed.len(), 0, "{seconds}");
    }
    let written = windows.write(&window(4_601)).unwrap();
    assert_eq!(written.removed, [temporary.path().join("spanprof-1000.pb.gz")]);
    let kept = windows.files().list().unwrap();
    assert_eq!(kept.iter().map(|window| window.seconds).collect::<Vec<_>>(), [1_010, 4_600, 4_601]);
    let read = windows.files().read(&written.window).unwrap().unwrap();
    assert_eq!((read.len() as u64, written.window), (written.window.bytes, kept[2]));
    std::fs::remove_file(&written.path).unwrap();
    assert_eq!(windows.files().read(&written.window).unwrap(), None);
}

#[test]
fn what_a_killed_process_left_is_removed_and_what_another_one_writes_is_not() {
    let temporary = tempfile::tempdir().unwrap();
    // Of a process whose number somebody has again, so that numbers tell nothing.
    let left = format!(".spanprof-1.pb.gz.{}-0.partial", std::process::id());
    std::fs::write(temporary.path().join(left), "half").unwrap();
    let being_written = ".spanprof-2.pb.gz.1-0.partial";
    let file = std::fs::File::create(temporary.path().join(being_written)).unwrap();
    file.try_lock().unwrap();
    WindowDirectory::new(temporary.path(), 1_000).unwrap();
    assert_eq!(names(temporary.path()), [being_written]);
    drop(file);
    WindowDirectory::new(temporary.path(), 1_000).unwrap();
    assert_eq!(names(temporary.path()), [""; 0]);
}

#[test]
fn a_place_that_is_no_directory_is_an_error_in_words() {
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = write_report(&file, &profile(), "orders", vec![]).unwrap_err();
    assert!(matches!(error, DirectoryError::Io { .. }), "{error}");
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
}

/// A file system of 16 KiB, unmounted when done.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// One, where this machine allows it; a test without says so by name, and fails where it must not be missing.
    fn mount(test: &str) -> Option<SmallDisk> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"])
            .arg(directory.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            assert!(std::env::var_os("CI").is_none(), "a small file system can't be mounted, and CI must");
            eprintln!("skipped {test}: mounting needs CAP_SYS_ADMIN");
        }
        mounted.then_some(SmallDisk(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing_behind() {
    let Some(disk) = SmallDisk::mount("a_full_disk_is_named_and_leaves_nothing_behind") else { return };
    let path = disk.0.path();
    let large = ReportFile { name: "report.html".into(), bytes: vec![b'x'; 64 << 10] };
    let error = write_report(path, &profile(), "orders", vec![large]).unwrap_err();
    assert!(matches!(error, DirectoryError::DiskFull { .. }), "{error}");
    assert_eq!(names(path), [""; 0]);
    std::fs::write(path.join("filler"), vec![0; 16 << 10]).unwrap();
    let error = WindowDirectory::new(path, 1 << 20).unwrap().write(&window(1_000)).unwrap_err();
    assert!(matches!(error, DirectoryError::DiskFull { .. }), "{error}");
    assert_eq!(names(path), ["filler"]);
}

#[test]
fn after_a_full_disk_windows_are_written_again_and_the_older_ones_are_there() {
    let test = "after_a_full_disk_windows_are_written_again_and_the_older_ones_are_there";
    let Some(disk) = SmallDisk::mount(test) else { return };
    let path = disk.0.path();
    let windows = WindowDirectory::new(path, 1 << 20).unwrap();
    windows.write(&window(1_000)).unwrap();
    let filled = std::fs::write(path.join("filler"), vec![0; 32 << 10]);
    assert_eq!(filled.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    for seconds in [1_010, 1_020] {
        let error = windows.write(&window(seconds)).unwrap_err();
        assert!(error.to_string().starts_with("no space left for"), "{error}");
    }
    std::fs::remove_file(path.join("filler")).unwrap();
    windows.write(&window(1_030)).unwrap();
    assert_eq!(names(path), ["spanprof-1000.pb.gz", "spanprof-1030.pb.gz"]);
}
