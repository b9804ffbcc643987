//! Running, blocked and runnable are the whole time of a thread, whatever it does.

use spanprof_agent::recorder::Window;

use crate::capturing::{capture, in_full, turn};
use crate::truth::{Truth, list, number};

const SHARE: f64 = 0.01;

#[test]
fn the_times_of_a_thread_are_its_whole_time() {
    let Some(_turn) = turn("the_times_of_a_thread_are_its_whole_time") else { return };
    let programs: [(&str, &[&str]); 6] = [
        (env!("CARGO_BIN_EXE_truth_offcpu"), &["--milliseconds", "2"]),
        (env!("CARGO_BIN_EXE_truth_tags"), &[]),
        (env!("CARGO_BIN_EXE_truth_split"), &[]),
        (env!("CARGO_BIN_EXE_truth_depth"), &["--depth", "100", "--blocks"]),
        (env!("CARGO_BIN_EXE_truth_pingpong"), &[]),
        (env!("CARGO_BIN_EXE_truth_pingpong_foreign"), &[]),
    ];
    for (program, arguments) in programs {
        let truth = Truth::start(program, 3, arguments);
        let main = truth.pid();
        let (told, window) = capture(&in_full(99), truth);
        assert_adds_up(program, &window);
        let length = window.summary.seconds * 1e9;
        let main = window.summary.threads.iter().find(|thread| thread.tid == main).expect("the main thread");
        assert!((main.wall_ns as f64 / length - 1.0).abs() <= SHARE, "{program}: {main:?} in {length} ns");

        // What threads say of their own length, start and end of each included.
        for thread in
            told["threads"].as_array().into_iter().flatten().filter(|thread| thread["wall_ns"].is_u64())
        {
            let tid = number(&thread["tid"]);
            let seen = window.summary.threads.iter().find(|seen| u64::from(seen.tid) == tid).expect("it");
            let off = seen.wall_ns as f64 / number(&thread["wall_ns"]) as f64 - 1.0;
            assert!(off.abs() <= SHARE, "{program}: {off:+.4} {seen:?} {thread}");
        }
    }
}

#[test]
fn windows_follow_each_other_without_a_gap() {
    let Some(_turn) = turn("windows_follow_each_other_without_a_gap") else { return };
    let mut truth = Truth::start(env!("CARGO_BIN_EXE_truth_offcpu"), 4, &["--milliseconds", "700"]);
    let mut recorder = spanprof_agent::recorder::Recorder::start(&in_full(99)).unwrap();
    recorder.add_target(truth.pid()).unwrap();
    recorder.restart_window();
    truth.begin();
    let mut windows = Vec::new();
    let told = loop {
        let edge = std::time::Instant::now() + std::time::Duration::from_millis(300);
        while std::time::Instant::now() < edge {
            recorder.poll(std::time::Duration::from_millis(20)).unwrap();
        }
        windows.push(recorder.close_window());
        if let Some(told) = truth.told() {
            break told;
        }
    };
    assert!(windows.len() > 3);
    for window in &windows {
        assert_adds_up("a window", window);
    }
    // Each window says that it begins where the one before ended, but for the moment between two clocks.
    for pair in windows.windows(2) {
        let [before, after] = pair else { unreachable!("pairs") };
        let ended = before.profile.start_unix_nanoseconds + before.profile.duration_nanoseconds;
        let apart = after.profile.start_unix_nanoseconds.abs_diff(ended);
        assert!(apart < 100_000_000, "{apart} ns between two windows");
    }
    // Waits far longer than a window are whole over all of them.
    for thread in list(&told["threads"]) {
        let tid = number(&thread["tid"]);
        let of_thread =
            windows.iter().flat_map(|window| &window.summary.threads).filter(|of| u64::from(of.tid) == tid);
        let sum: u64 = of_thread.map(|of| of.off_cpu_ns + of.run_queue_ns).sum();
        let waited = number(&thread["wall_ns"]) - number(&thread["thread_cpu_ns"]);
        let off = sum as f64 / waited as f64 - 1.0;
        assert!(off.abs() <= SHARE, "{off:+.4} over {} windows: {thread}", windows.len());
    }
}

/// No thread's times are more or less than its length.
pub(crate) fn assert_adds_up(what: &str, window: &Window) {
    assert!(!window.summary.threads.is_empty(), "{what}");
    // A thread that lived for moments is judged to the tick of a switch, not to a share of nothing.
    let slack = 20_000.0;
    for thread in &window.summary.threads {
        let sum = (thread.cpu_ns + thread.off_cpu_ns + thread.run_queue_ns) as f64;
        let wall = thread.wall_ns as f64;
        assert!((sum - wall).abs() <= SHARE * wall + slack, "{what}: {:+.4} {thread:?}", sum / wall - 1.0);
    }
}
