//! What goes wrong with targets, disks and people, and that the target never notices.
//!
//! Wrong ids, missing privilege and a kernel without types are tested beside the program, in `command_line.rs`.

use std::path::Path;
use std::process::Command;

use spanprof_agent::summary::ThreadTime;
use spanprof_exporter::SampleKind;

use crate::capturing::{capture, in_full, turn};
use crate::program::{Program, profile, summary};
use crate::samples::{Share, samples};
use crate::time_adds_up::assert_adds_up;
use crate::truth::{Truth, number};

#[test]
fn a_target_killed_in_mid_capture_leaves_what_was_seen() {
    let Some(_turn) = turn("a_target_killed_in_mid_capture_leaves_what_was_seen") else { return };
    let out = tempfile::tempdir().unwrap();
    let mut truth = Truth::start(env!("CARGO_BIN_EXE_truth_split"), 600, &[]);
    let mut recording = record(truth.pid(), out.path(), &["--seconds", "600", "--hz", "499"]);
    recording.wait_for("recording 1 process");
    truth.begin();
    // Long enough to be seen: nothing tells from outside that samples were taken.
    std::thread::sleep(std::time::Duration::from_secs(2));
    truth.signal(libc::SIGKILL);
    let finished = recording.finish();
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert!(finished.errors.contains("every target ended"), "{finished:?}");

    let summary = summary(out.path());
    assert_eq!(summary.targets.len(), 1, "{summary:?}");
    assert!(summary.targets[0].threads >= 3, "{summary:?}");
    // Its code is gone, and still has its names.
    let profile = profile(&out.path().join("profile.pb.gz"));
    let named = samples(&profile)
        .into_iter()
        .filter(|sample| sample.kind == SampleKind::Cpu && sample.passes("split_root"));
    let share =
        named.map(|sample| sample.nanoseconds).sum::<u64>() as f64 / profile.total(SampleKind::Cpu) as f64;
    assert!(share > 0.95, "{share} of {:?}", summary.totals);
}

#[test]
fn a_target_that_forks_and_executes_without_end_is_followed() {
    let Some(_turn) = turn("a_target_that_forks_and_executes_without_end_is_followed") else { return };
    assert_children_are_followed(8);
}

#[test]
#[ignore = "takes half a minute: more children than the kernel side keeps at once"]
fn more_children_than_there_is_room_for_at_once_are_followed() {
    let Some(_turn) = turn("more_children_than_there_is_room_for_at_once_are_followed") else { return };
    assert_children_are_followed(40);
}

fn assert_children_are_followed(seconds: u64) {
    let truth = Truth::start(env!("CARGO_BIN_EXE_truth_forkexec"), seconds, &["--rate", "200"]);
    let (told, window) = capture(&in_full(499), truth);
    let children = number(&told["children"]);
    assert_eq!(number(&told["failed"]), 0, "the target notices: {told}");
    assert!(children > 50 * seconds, "{told}");
    for cause in ["threads_untracked", "events_lost", "samples_lost", "waits_lost"] {
        assert_eq!(window.summary.losses.get(cause), None, "{:?}", window.summary.losses);
    }
    let seen = window.summary.targets.len() as u64;
    assert!(seen > children, "{seen} processes were seen of {children} children and their parent");
    // A switch that the kernel showed to nobody may be all that a child of two milliseconds had: its time is then
    // unknown, and says so.
    let sum = |time: fn(&ThreadTime) -> u64| window.summary.threads.iter().map(time).sum::<u64>();
    let (unknown, wall) = (sum(|thread| thread.unknown_ns), sum(|thread| thread.wall_ns));
    assert!(unknown <= wall / 1_000, "{unknown} ns of {wall} ns are unknown");
    let all = samples(&window.profile);
    let of_children = all.iter().filter(|sample| {
        sample.kind == SampleKind::Cpu && sample.passes("child_root") && sample.passes("truth_forkexec::main")
    });
    let whole = Share::of(of_children, |sample| sample.is_complete());
    // Each child's millisecond makes half a sample; of its short life the first part is gone until its code is found.
    eprintln!("{children} children, {whole:?} samples in them, {:?}", window.summary.losses);
    let cpu = sum(|thread| thread.cpu_ns);
    assert!(cpu > children * number(&told["child_cpu_ns_each"]), "{cpu} ns on CPU: {told}");
}

#[test]
fn two_thousand_threads_are_all_followed() {
    let Some(_turn) = turn("two_thousand_threads_are_all_followed") else { return };
    let truth = Truth::start(env!("CARGO_BIN_EXE_truth_threads"), 4, &["--threads", "2000"]);
    let (told, window) = capture(&in_full(199), truth);
    for cause in ["threads_untracked", "events_lost", "samples_lost", "waits_lost"] {
        assert_eq!(window.summary.losses.get(cause), None, "{:?}", window.summary.losses);
    }
    let many: Vec<_> = window.summary.threads.iter().filter(|of| of.name.starts_with("many-")).collect();
    assert_eq!(many.len(), 2_000, "{:?}", window.summary.targets);
    assert_adds_up("threads", &window);
    let cpu: u64 = many.iter().map(|thread| thread.cpu_ns).sum();
    let work = number(&told["work_cpu_ns"]);
    assert!(cpu >= work - work / 100, "{cpu} ns of {work} ns");
}

#[test]
fn two_interrupts_leave_whole_files_or_none() {
    let Some(_turn) = turn("two_interrupts_leave_whole_files_or_none") else { return };
    let out = tempfile::tempdir().unwrap();
    let mut truth = Truth::start(env!("CARGO_BIN_EXE_truth_offcpu"), 600, &[]);
    let mut recording = record(truth.pid(), out.path(), &["--seconds", "600"]);
    recording.wait_for("recording 1 process");
    truth.begin();
    recording.signal(libc::SIGINT);
    recording.signal(libc::SIGINT);
    let finished = recording.finish();
    // The two may arrive as one, which is then a first one.
    assert!(matches!(finished.status.code(), Some(0 | 130)), "{finished:?}");
    for entry in std::fs::read_dir(out.path()).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        assert!(!name.starts_with('.') || finished.status.code() == Some(130), "{name} is left behind");
    }
    if out.path().join("profile.pb.gz").exists() {
        profile(&out.path().join("profile.pb.gz"));
    }
    truth.signal(libc::SIGTERM);
    assert_eq!(truth.wait()["program"], "truth_offcpu", "the target never notices");
}

#[test]
fn a_full_disk_is_told_and_the_capture_goes_on() {
    let Some(_turn) = turn("a_full_disk_is_told_and_the_capture_goes_on") else { return };
    let disk = SmallDisk::mount(8 << 10);
    let mut truth = Truth::start(env!("CARGO_BIN_EXE_truth_offcpu"), 600, &[]);
    truth.begin();
    let mut attached = Program::start([
        "attach",
        "--pid",
        &truth.pid().to_string(),
        "--window",
        "0.5",
        "--dir",
        &disk.0.path().to_string_lossy(),
    ]);
    attached.wait_for("attached to 1 process");
    attached.wait_for("space");
    attached.signal(libc::SIGTERM);
    let finished = attached.finish();
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert!(finished.errors.contains("lost"), "{finished:?}");
    truth.signal(libc::SIGTERM);
    truth.wait();
}

fn record(pid: u32, out: &Path, arguments: &[&str]) -> Program {
    let pid = pid.to_string();
    let out = out.to_string_lossy().into_owned();
    let common = ["record", "--pid", &pid, "--out", &out];
    Program::start(common.iter().chain(arguments))
}

/// A file system of a few pages, in memory.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(bytes: usize) -> SmallDisk {
        let directory = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(directory.path()).status();
        assert!(mount.expect("mount runs").success(), "cannot mount a small disk");
        SmallDisk(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}
