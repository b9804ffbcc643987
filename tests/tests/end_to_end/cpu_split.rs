//! On-CPU samples divide a thread's time as its own clock does.

use serde_json::Value;
use spanprof_agent::recorder::Window;
use spanprof_exporter::SampleKind;

use crate::capturing::{capture, in_full, turn};
use crate::samples::{Share, samples};
use crate::truth::{Truth, list, number, text};

#[test]
fn cpu_time_is_split_as_the_threads_split_it() {
    let Some(_turn) = turn("cpu_time_is_split_as_the_threads_split_it") else { return };
    let truth = Truth::start(env!("CARGO_BIN_EXE_truth_split"), 20, &[]);
    let (told, window) = capture(&in_full(499), truth);
    assert_split(&told, &window, 499);
}

#[test]
#[ignore = "takes a minute; the test above is its short form"]
fn cpu_time_is_split_at_99_hertz_over_a_minute() {
    let Some(_turn) = turn("cpu_time_is_split_at_99_hertz_over_a_minute") else { return };
    let truth = Truth::start(env!("CARGO_BIN_EXE_truth_split"), 60, &[]);
    let (told, window) = capture(&in_full(99), truth);
    assert_split(&told, &window, 99);
}

/// Within three standard errors per thread and together, and as many samples as the CPU time makes within 2 %.
fn assert_split(told: &Value, window: &Window, hz: u64) {
    let all = samples(&window.profile);
    let mut together = [0; 2];
    let mut seen = Share::default();
    let mut expected = 0.0;
    for thread in list(&told["threads"]) {
        let tid = number(&thread["tid"]);
        let of = all.iter().filter(|sample| sample.kind == SampleKind::Cpu && sample.thread() == tid);
        let in_either = of.filter(|sample| sample.passes("spin_a") || sample.passes("spin_b"));
        let share = Share::of(in_either, |sample| sample.passes("spin_a"));
        let times = ["spin_a_cpu_ns", "spin_b_cpu_ns"].map(|key| number(&thread[key]));
        assert_within_three_errors(text(&thread["name"]), share, times);
        together = [together[0] + times[0], together[1] + times[1]];
        seen = Share { all: seen.all + share.all, good: seen.good + share.good };
        expected += number(&thread["thread_cpu_ns"]) as f64 * hz as f64 / 1e9;

        // The scheduler's sum has nothing to do with samples and is exact.
        let exact = window.summary.threads.iter().find(|of| u64::from(of.tid) == tid).expect("the thread");
        let off = exact.cpu_ns as f64 / number(&thread["thread_cpu_ns"]) as f64 - 1.0;
        assert!(off.abs() < 0.01, "CPU time is {off:+.4} off: {exact:?} {thread}");
    }
    assert_within_three_errors("together", seen, together);
    let off = seen.all as f64 / expected - 1.0;
    eprintln!("{} samples of {expected:.0} expected: {:+.2} %", seen.all, off * 100.0);
    assert!(off.abs() < 0.02, "{} samples, {expected:.0} expected", seen.all);
}

fn assert_within_three_errors(what: &str, seen: Share, times: [u64; 2]) {
    let truth = times[0] as f64 / (times[0] + times[1]) as f64;
    let error = (truth * (1.0 - truth) / seen.all as f64).sqrt();
    let off = (seen.get() - truth) / error;
    eprintln!(
        "{what}: {:.4} of {} samples, truth {truth:.4}: {off:+.2} standard errors",
        seen.get(),
        seen.all
    );
    assert!(off.abs() <= 3.0, "{what}: {} for {truth}, {off:+.2} standard errors", seen.get());
}
