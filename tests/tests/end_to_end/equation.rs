//! The times of a span make up its wall time, for spans that stay on their threads and for others that leave them.

use std::time::Instant;

use serde_json::Value;
use spanprof_agent::recorder::Recorder;
use spanprof_agent::spans::{Class, FinishedSpan, Messaging, SpanKind};
use spanprof_exporter::analysis::{self, SpanTime};

use crate::capturing::{in_full, poll_until_told, turn};
use crate::truth::{Truth, list, number, span};

/// What the tracer of `truth_equation` would have told.
fn finished(told: &Value, name: &str) -> FinishedSpan {
    let begin = number(&told["begin_unix_ns"]);
    FinishedSpan {
        span: span(number(&told["kind"]), number(&told["number"])),
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
    let (told, times) = capture(99);
    assert_exact(&seen(&told, &times, "stays"));
}

/// At a rate that misses none: at 99 samples a second every second span of 8 ms is not seen unless it waits, and its CPU time
/// is counted with those that are.
#[test]
fn without_a_thread_a_span_is_suspended() {
    let Some(_turn) = turn("without_a_thread_a_span_is_suspended") else { return };
    let (told, times) = capture(999);
    assert_exact(&seen(&told, &times, "stays"));
    assert_suspended(&seen(&told, &times, "leaves"));
}

/// What the program told of its spans, and what a capture at this rate that was told of their ends says.
fn capture(hz: u32) -> (Value, Vec<SpanTime>) {
    let mut truth = Truth::start(env!("CARGO_BIN_EXE_truth_equation"), 10, &[]);
    let mut recorder = Recorder::start(&in_full(hz)).expect("the capture starts");
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
    (told, times)
}

fn assert_exact(stays: &[(&Value, &SpanTime)]) {
    assert!(stays.len() > 50);
    let (mut unknown, mut wall, mut under, mut far_over) = (0, 0, 0, 0);
    for (told, time) in stays {
        assert_eq!(time.wall_ns, Some(number(&told["wall_ns"])));
        // No error of sampling is left: 99 samples a second could not tell this. Time on a CPU that its host or an interrupt
        // took away counts as being there, by the scheduler's stamps, and not as the thread's, by its own clock; and where the
        // host takes it in the middle of a switch, as the thread's by its clock and as a wait by the stamps.
        let part = |nanoseconds: u64| nanoseconds as f64 / number(&told["wall_ns"]) as f64;
        if part(number(&told["cpu_ns"]).saturating_sub(time.cpu_ns)) > 0.01 && time.unknown_ns == 0 {
            eprintln!("ran 1 % of its wall time more by its own clock: {time:?} for {told}");
            under += 1;
        }
        far_over += usize::from(part(time.cpu_ns.saturating_sub(number(&told["cpu_ns"]))) > 0.05);
        let gap = time.total_ns().abs_diff(number(&told["wall_ns"])) as f64 / number(&told["wall_ns"]) as f64;
        assert!(gap <= 0.01, "{gap}: {time:?} for {told}");
        assert_eq!(time.suspended_ns, 0, "{time:?}");
        unknown += time.unknown_ns;
        wall += number(&told["wall_ns"]);
    }
    eprintln!("unknown: {:.3} % of {wall} ns of spans that stay", unknown as f64 / wall as f64 * 100.0);
    assert!(unknown as f64 <= wall as f64 * 0.02);
    assert!(under <= stays.len() / 50, "{under} of {}", stays.len());
    eprintln!("{far_over} of {} ran 5 % of their wall time less by their own clock", stays.len());
    assert!(far_over <= stays.len() / 10);
}

fn assert_suspended(leaves: &[(&Value, &SpanTime)]) {
    assert!(leaves.len() > 50);
    let sum = |of: &dyn Fn(&(&Value, &SpanTime)) -> u64| leaves.iter().map(of).sum::<u64>() as f64;
    let (without, suspended) =
        (sum(&|(told, _)| number(&told["without_thread_ns"])), sum(&|(_, time)| time.suspended_ns));
    let unknown = sum(&|(_, time)| time.unknown_ns);
    eprintln!("suspended: {:+.2} %", (suspended / without - 1.0) * 100.0);
    assert_eq!(unknown, 0.0);
    assert!((suspended / without - 1.0).abs() < 0.05, "{suspended} of {without}");
}
