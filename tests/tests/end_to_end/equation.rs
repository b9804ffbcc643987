//! The times of a span make up its wall time, for spans that stay on their threads and for others that leave them.

use std::time::Instant;

use serde_json::Value;
use spanprof_agent::ActiveSpan;
use spanprof_agent::recorder::Recorder;
use spanprof_agent::spans::{Class, FinishedSpan, Messaging, SpanKind};
use spanprof_exporter::analysis::{self, SpanTime};

use crate::capturing::{in_full, poll_until_told, turn};
use crate::truth::{Truth, list, number};

/// What the tracer of `truth_equation` would have told.
fn finished(told: &Value, name: &str) -> FinishedSpan {
    let (kind, of_kind) = (number(&told["kind"]), number(&told["number"]));
    let span_id = ((kind + 1) << 56 | of_kind).to_be_bytes();
    let mut trace_id = [0; 16];
    trace_id[..8].copy_from_slice(b"truth\0\0\0");
    trace_id[8..].copy_from_slice(&span_id);
    let begin = number(&told["begin_unix_ns"]);
    FinishedSpan {
        span: ActiveSpan { trace_id, span_id },
        parent: None,
        kind: SpanKind::Consumer,
        start_unix_ns: begin,
        end_unix_ns: begin + number(&told["wall_ns"]),
        failed: false,
        class: Class { service: "truth".into(), name: name.into(), ..Class::default() },
        messaging: Messaging::default(),
        links: Vec::new(),
    }
}

/// The spans of one thread that were seen, beside what it told.
fn seen<'a>(told: &'a Value, times: &'a [SpanTime], name: &str) -> Vec<(&'a Value, &'a SpanTime)> {
    let of = |span: &Value| {
        let id = format!("{:016x}", u64::from_be_bytes(finished(span, name).span.span_id));
        times.iter().find(|time| time.span_id == id)
    };
    list(&told[name]).iter().filter_map(|span| Some((span, of(span)?))).collect()
}

#[test]
fn times_of_a_span_make_up_its_wall_time() {
    let Some(_turn) = turn("times_of_a_span_make_up_its_wall_time") else { return };
    let mut truth = Truth::start(env!("CARGO_BIN_EXE_truth_equation"), 10, &[]);
    let mut recorder = Recorder::start(&in_full(99)).expect("the capture starts");
    recorder.add_target(truth.pid()).expect("the target can be captured");
    recorder.restart_window();
    truth.begin();
    let told = poll_until_told(&mut recorder, &truth);
    for name in ["stays", "leaves"] {
        for span in list(&told[name]) {
            let keeping = recorder.keeping();
            keeping.lock().expect("nobody panics").finish(finished(span, name), Instant::now());
        }
    }
    let window = recorder.close_window();
    let times = analysis::spans(&window.profile);
    let (stays, leaves) = (seen(&told, &times, "stays"), seen(&told, &times, "leaves"));
    eprintln!("{} of {} spans seen", stays.len() + leaves.len(), times.len());
    assert!(stays.len() > 50 && leaves.len() > 50);

    let (mut unknown, mut wall) = (0, 0);
    for (told, time) in &stays {
        assert_eq!(time.wall_ns, Some(number(&told["wall_ns"])));
        // No error of sampling is left: 99 samples a second could not tell this.
        let error = time.cpu_ns.abs_diff(number(&told["cpu_ns"])) as f64 / number(&told["wall_ns"]) as f64;
        assert!(error <= 0.01 || time.unknown_ns > 0, "{error}: {time:?} for {told}");
        let gap = time.total_ns().abs_diff(number(&told["wall_ns"])) as f64 / number(&told["wall_ns"]) as f64;
        assert!(gap <= 0.01, "{gap}: {time:?} for {told}");
        assert_eq!(time.suspended_ns, 0, "{time:?}");
        unknown += time.unknown_ns;
        wall += number(&told["wall_ns"]);
    }
    eprintln!("unknown: {:.3} % of {wall} ns of spans that stay", unknown as f64 / wall as f64 * 100.0);
    assert!(unknown as f64 <= wall as f64 * 0.02);

    let sum = |of: &dyn Fn(&(&Value, &SpanTime)) -> u64| leaves.iter().map(of).sum::<u64>() as f64;
    let (without, suspended) =
        (sum(&|(told, _)| number(&told["without_thread_ns"])), sum(&|(_, time)| time.suspended_ns));
    let unknown = sum(&|(_, time)| time.unknown_ns);
    eprintln!("suspended: {:+.2} %", (suspended / without - 1.0) * 100.0);
    assert_eq!(unknown, 0.0);
    // The CPU time of these is an estimate: on either side of it are a thousand samples at most.
    assert!((suspended / without - 1.0).abs() < 0.1, "{suspended} of {without}");
}
