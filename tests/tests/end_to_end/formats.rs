//! What is pushed is what is in the file, span by span.

use std::collections::BTreeMap;

use spanprof_exporter::stand_in::{StandIn, StandInConfig};
use spanprof_exporter::{Profile, SampleKind};

use crate::capturing::turn;
use crate::program::{Program, profile};
use crate::samples::samples;
use crate::truth::{Truth, list, text};

const TYPES: [(SampleKind, &str); 3] = [
    (SampleKind::Cpu, "process_cpu:cpu:nanoseconds:cpu:nanoseconds"),
    (SampleKind::OffCpu, "off_cpu:off_cpu:nanoseconds::"),
    (SampleKind::RunQueue, "run_queue:run_queue:nanoseconds::"),
];

#[test]
fn a_span_has_the_same_stacks_in_pyroscope_as_in_the_file() {
    let Some(_turn) = turn("a_span_has_the_same_stacks_in_pyroscope_as_in_the_file") else { return };
    let server = StandIn::start(StandInConfig::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut truth = Truth::start(env!("CARGO_BIN_EXE_truth_offcpu"), 5, &["--milliseconds", "2"]);
    let pid = truth.pid().to_string();
    let mut attached = Program::start([
        "attach",
        "--pid",
        &pid,
        // One window: what arrives in it must be equal to what is written.
        "--window",
        "600",
        "--pyroscope",
        &server.url(),
        "--dir",
        &directory.path().to_string_lossy(),
    ]);
    attached.wait_for("attached to 1 process");
    truth.begin();
    let told = truth.wait();
    attached.signal(libc::SIGTERM);
    let finished = attached.finish();
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert_eq!(finished.errors.matches("1 window arrived").count(), 2, "{finished:?}");

    let requests = server.requests();
    assert!(!requests.is_empty() && requests.iter().all(|request| request.status == 200), "{requests:?}");
    let types: Vec<String> = server.profile_types().into_iter().collect();
    let mut expected: Vec<&str> = TYPES.iter().map(|(_, id)| *id).collect();
    expected.sort_unstable();
    assert_eq!(types, expected);
    for stored in server.profiles() {
        assert!(stored.hidden_labels.is_empty(), "{:?}", stored.hidden_labels);
    }

    let mut files = std::fs::read_dir(directory.path()).unwrap();
    let file = profile(&files.next().expect("a window").unwrap().path());
    assert!(files.next().is_none(), "one window");
    let mut spans = 0;
    for span in list(&told["threads"]).iter().flat_map(|thread| list(&thread["spans"])) {
        let (id, trace) = (text(&span["span_id"]), text(&span["trace_id"]));
        for (kind, type_id) in TYPES {
            let in_file = stacks_of_span(&file, kind, id);
            assert_eq!(sums(server.stacks(type_id, id)), in_file, "{type_id} of span {id}");
            assert_eq!(sums(server.trace_stacks(type_id, trace)), in_file, "{type_id} of trace {trace}");
            // The rivals for a core, kinds 5 and 6, never block.
            assert!(
                kind != SampleKind::OffCpu || id >= "05" || !in_file.is_empty(),
                "{type_id} of span {id}"
            );
        }
        spans += 1;
    }
    assert_eq!(spans, 12);
}

/// The stacks (root first) of a span in the file, with their times.
fn stacks_of_span(file: &Profile, kind: SampleKind, span: &str) -> BTreeMap<Vec<String>, i64> {
    let of_span =
        samples(file).into_iter().filter(|sample| sample.kind == kind && sample.span() == Some(span));
    sums(of_span.map(|sample| (sample.names_from_root(), sample.nanoseconds as i64)))
}

fn sums(stacks: impl IntoIterator<Item = (Vec<String>, i64)>) -> BTreeMap<Vec<String>, i64> {
    let mut sums = BTreeMap::new();
    for (stack, value) in stacks {
        *sums.entry(stack).or_default() += value;
    }
    sums
}
