//! A `tokio` service that profiles itself, whatever it does to its spans: no sample names another span than the one that
//! its own stack names.

use std::collections::BTreeMap;

use spanprof_exporter::SampleKind;

use crate::capturing::wait_for_turn;
use crate::self_profiled::Folder;
use crate::tags::{Tally, judge};
use crate::truth::{Truth, list, number};

const PROGRAM: &str = env!("CARGO_BIN_EXE_truth_async");

#[test]
fn no_instruction_of_an_asynchronous_service_has_another_span() {
    let _turn = wait_for_turn();
    assert_every_instruction(8, 60_000);
}

#[test]
#[ignore = "takes two minutes; the test above is its short form"]
fn no_instruction_of_an_asynchronous_service_has_another_span_a_million_times() {
    let _turn = wait_for_turn();
    assert_every_instruction(110, 1_000_000);
}

#[test]
fn no_sample_of_an_asynchronous_service_has_another_span() {
    let _turn = wait_for_turn();
    assert_every_sample(8, 500);
}

#[test]
#[ignore = "takes minutes; the test above is its short form"]
fn no_sample_of_an_asynchronous_service_has_another_span_for_minutes() {
    let _turn = wait_for_turn();
    assert_every_sample(180, 15_000);
}

/// Every thread compares what it publishes with what it knows, in a signal handler.
fn assert_every_instruction(seconds: u64, at_least: u64) {
    let mut truth = Truth::start(PROGRAM, seconds, &["--signals-per-second", "10000"]);
    truth.begin();
    let told = truth.wait();
    assert_everything_happened(&told);
    let judged = &told["judged_by_signal"];
    eprintln!("{judged}");
    assert_eq!(number(&judged["wrong"]), 0, "{judged}");
    assert_eq!(number(&judged["missing"]), 0, "{judged}");
    let right = number(&judged["right_with_span"]) + number(&judged["right_without_span"]);
    assert!(right >= at_least, "only {right} judged: {judged}");
    assert!(number(&judged["right_with_span"]) >= at_least / 10, "{judged}");
}

/// The files of the self-profile are judged, line by line. Each second brings signals on request beside those of the timers,
/// which have no time and don't reach the files, but contend for everything that samples need.
fn assert_every_sample(seconds: u64, at_least: u64) {
    let folder = Folder::new();
    let arguments = ["--directory", folder.path(), "--hertz", "999", "--samples-per-second", "500"];
    let mut truth = Truth::start(PROGRAM, seconds, &arguments);
    truth.begin();
    let told = truth.wait();
    assert_everything_happened(&told);
    assert_eq!(list(&told["notes"]), [] as [serde_json::Value; 0], "this machine allows everything");
    let profiles = folder.read();
    assert!(profiles.windows() as u64 >= seconds / 2, "{} windows in {seconds} s", profiles.windows());
    let all = profiles.samples();
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    for sample in &all {
        judge(sample, tallies.entry(sample.kind.as_str()).or_default());
    }
    eprintln!("{tallies:#?}\nlosses: {:#?}", profiles.losses());
    let judged: u64 = tallies.values().map(|tally| tally.judged).sum();
    assert!(judged >= at_least, "only {judged} judged");
    for kind in [SampleKind::Cpu, SampleKind::OffCpu] {
        let tally = &tallies[kind.as_str()];
        let share = tally.tagged as f64 / tally.inside as f64;
        assert!(share >= 0.999, "{}: {share} of {tally:?}", kind.as_str());
    }
}

fn assert_everything_happened(told: &serde_json::Value) {
    assert_eq!(list(&told["failed"]), [] as [serde_json::Value; 0], "{told}");
    for what in ["cancelled", "aborted", "panics", "blocking", "thread_hops"] {
        assert!(number(&told[what]) > 50, "{what}: {told}");
    }
}
