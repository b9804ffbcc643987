//! A service that profiles itself: against its own clocks, against the profile taken from outside at the same time, and where
//! the kernel refuses what a profiler would use.

use std::collections::BTreeMap;

use serde_json::Value;
use spanprof_exporter::SampleKind;

use crate::capturing::{capture, in_full, turn, wait_for_turn};
use crate::samples::{Sample, samples};
use crate::self_profiled::{Folder, SelfProfiled};
use crate::truth::{Truth, list, number, text};

const PROGRAM: &str = env!("CARGO_BIN_EXE_truth_service");

/// Nanoseconds by kind, per span.
type Split = BTreeMap<String, BTreeMap<&'static str, u64>>;

fn split(samples: &[Sample<'_>]) -> Split {
    let mut split = Split::new();
    for sample in samples {
        if let Some(span) = sample.span() {
            *split.entry(span.to_owned()).or_default().entry(sample.kind.as_str()).or_default() +=
                sample.nanoseconds;
        }
    }
    split
}

fn spans(told: &Value) -> impl Iterator<Item = &Value> {
    list(&told["threads"]).iter().flat_map(|thread| list(&thread["spans"]))
}

#[test]
fn inside_and_outside_tell_the_same_of_a_span() {
    let Some(_turn) = turn("inside_and_outside_tell_the_same_of_a_span") else { return };
    let folder = Folder::new();
    let truth = Truth::start(PROGRAM, 10, &["--directory", folder.path()]);
    // Outside, a span's CPU time is known by samples alone: as many as make their chance small.
    let (told, window) = capture(&in_full(997), truth);
    let profiles = folder.read();
    let (inside, outside) = (split(&profiles.samples()), split(&samples(&window.profile)));
    for span in spans(&told) {
        let id = text(&span["span_id"]);
        let wall = number(&span["wall_ns"]) as f64;
        let points = |split: &Split, kind: SampleKind| {
            split[id].get(kind.as_str()).copied().unwrap_or(0) as f64 / wall * 100.0
        };
        for kind in SampleKind::OF_THREADS {
            let [inside, outside] = [&inside, &outside].map(|split| points(split, kind));
            eprintln!("{id} {}: {inside:.2} % inside, {outside:.2} % outside", kind.as_str());
            assert!((inside - outside).abs() <= 2.0, "{id} {}: {inside} and {outside}", kind.as_str());
        }
        let truth = number(&span["cpu_ns"]) as f64 / wall * 100.0;
        let inside = points(&inside, SampleKind::Cpu);
        assert!((inside - truth).abs() <= 2.0, "{id}: {inside} % CPU, truth {truth} %");
    }
}

#[test]
fn places_inside_are_where_the_service_was() {
    let _turn = wait_for_turn();
    let (told, profiles) = run(&[]);
    assert_eq!(list(&told["notes"]), [] as [Value; 0]);
    let all = profiles.samples();
    // Of two messages, 36 ms are slept and 8 ms are under a lock, and what the lock is waited for comes to these: 0.18 at
    // least, of which visits know a few points.
    for (kind, function, at_least) in [
        (SampleKind::Cpu, "handle_computing", 0.95),
        (SampleKind::OffCpu, "handle_sleeping", 0.50),
        (SampleKind::OffCpu, "handle_locking", 0.14),
    ] {
        let share = share_in(&all, kind, function);
        eprintln!("{} in {function}: {share:.3}", kind.as_str());
        assert!(share >= at_least, "{} in {function}: {share}", kind.as_str());
    }
}

/// Of the time of a kind within spans whose place was seen, the share under a function. Most of it must have been seen.
fn share_in(samples: &[Sample<'_>], kind: SampleKind, function: &str) -> f64 {
    let sum = |is_meant: &dyn Fn(&Sample<'_>) -> bool| {
        let of_kind = samples.iter().filter(|sample| sample.kind == kind && sample.span().is_some());
        of_kind.filter(|sample| is_meant(sample)).map(|sample| sample.nanoseconds).sum::<u64>() as f64
    };
    let seen = sum(&|sample| sample.is_complete());
    let all = sum(&|_| true);
    assert!(seen >= 0.7 * all, "{}: {:.3} was seen, to the root", kind.as_str(), seen / all);
    sum(&|sample| sample.is_complete() && sample.passes(function)) / seen
}

fn run(arguments: &[&str]) -> (Value, SelfProfiled) {
    let folder = Folder::new();
    let mut all = vec!["--directory", folder.path()];
    all.extend(arguments);
    let mut truth = Truth::start(PROGRAM, 4, &all);
    truth.begin();
    let told = truth.wait();
    let profiles = folder.read();
    assert!(profiles.windows() >= 3, "{} windows", profiles.windows());
    (told, profiles)
}

#[test]
fn a_filter_that_refuses_perf_events_costs_nothing() {
    let _turn = wait_for_turn();
    let (told, profiles) = run(&["--deny", "perf_event_open,bpf,ptrace"]);
    assert_eq!(list(&told["notes"]), [] as [Value; 0]);
    assert!(share_in(&profiles.samples(), SampleKind::Cpu, "handle_computing") >= 0.9);
    assert_times_are_exact(&told, &profiles);
}

#[test]
fn a_filter_that_refuses_process_vm_readv_costs_nothing() {
    let _turn = wait_for_turn();
    let (told, profiles) = run(&["--deny", "process_vm_readv"]);
    assert_eq!(list(&told["notes"]), [] as [Value; 0], "memory is read through /proc then");
    assert!(share_in(&profiles.samples(), SampleKind::Cpu, "handle_computing") >= 0.9);
    assert!(share_in(&profiles.samples(), SampleKind::OffCpu, "handle_sleeping") >= 0.3);
    assert_times_are_exact(&told, &profiles);
}

#[test]
fn a_filter_that_refuses_timers_costs_the_places_and_is_told() {
    let _turn = wait_for_turn();
    let (told, profiles) = run(&["--deny", "timer_create"]);
    let notes = list(&told["notes"]);
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(text(&notes[0]).contains("timer_create"), "{notes:?}");
    assert!(profiles.comments().any(|comment| comment.contains("no places")), "profiles say it, too");
    let is_placed = |sample: &Sample<'_>| sample.kind == SampleKind::Cpu && sample.is_complete();
    assert!(!profiles.samples().iter().any(is_placed), "nothing can have been sampled");
    // What needs no timer is all there.
    assert!(share_in(&profiles.samples(), SampleKind::OffCpu, "handle_sleeping") >= 0.3);
    assert_times_are_exact(&told, &profiles);
}

/// CPU time per span as the service's own threads tell it.
fn assert_times_are_exact(told: &Value, profiles: &SelfProfiled) {
    let split = split(&profiles.samples());
    for span in spans(told) {
        let id = text(&span["span_id"]);
        let cpu = split[id].get(SampleKind::Cpu.as_str()).copied().unwrap_or(0);
        let truth = number(&span["cpu_ns"]);
        let off = cpu as f64 / truth as f64 - 1.0;
        eprintln!("{id}: {:+.2} % of its CPU time", off * 100.0);
        assert!(off.abs() <= 0.05, "{id}: {cpu} ns, truth {truth} ns");
    }
}
