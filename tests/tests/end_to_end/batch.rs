//! A batch is many traces: the poisoned message tells its cause, the others how long they stood in line behind it, and what
//! was done for all is charged to all.

use std::time::Instant;

use serde_json::Value;
use spanprof_agent::ActiveSpan;
use spanprof_agent::recorder::Recorder;
use spanprof_agent::spans::{Class, FinishedSpan, Messaging, SpanKind};
use spanprof_exporter::analysis::{self, SpanTime};

use crate::capturing::{in_full, poll_until_told, turn};
use crate::truth::{Truth, list, number, span as id};

const SIZE: usize = 32;

/// Where a producer elsewhere would have created the message.
fn creation(of: ActiveSpan) -> ActiveSpan {
    ActiveSpan { span_id: [0x77; 8], ..of }
}

fn finished(span: ActiveSpan, told: &Value, operation: &str, links: Vec<ActiveSpan>) -> FinishedSpan {
    let begin = number(&told["begin_unix_ns"]);
    FinishedSpan {
        span,
        parent: None,
        kind: if operation == "process" { SpanKind::Consumer } else { SpanKind::Client },
        start_unix_ns: begin,
        end_unix_ns: begin + number(&told["wall_ns"]),
        failed: false,
        class: Class { service: "truth".into(), operation: operation.into(), ..Class::default() },
        messaging: Messaging::default(),
        links,
    }
}

/// The spans of a batch, as its consumer's tracer would tell them.
fn spans_of(batch: &Value) -> Vec<FinishedSpan> {
    let ids: Vec<_> = list(&batch["messages"]).iter().map(|told| id(1, number(&told["number"]))).collect();
    let links = ids.iter().copied().map(creation).collect();
    let own = id(0, number(&batch["batch"]["number"]));
    let mut spans = vec![finished(own, &batch["batch"], "receive", links)];
    let messages = ids.iter().zip(list(&batch["messages"]));
    spans.extend(messages.map(|(id, told)| finished(*id, told, "process", vec![creation(*id)])));
    spans
}

#[test]
fn a_batch_is_many_traces() {
    let Some(_turn) = turn("a_batch_is_many_traces") else { return };
    let mut truth = Truth::start(env!("CARGO_BIN_EXE_truth_batch"), 6, &[]);
    let mut recorder = Recorder::start(&in_full(999)).expect("the capture starts");
    recorder.add_target(truth.pid()).expect("the target can be captured");
    recorder.restart_window();
    truth.begin();
    let told = poll_until_told(&mut recorder, &truth);
    let batches = list(&told["batches"]);
    for span in batches.iter().flat_map(spans_of) {
        recorder.keeping().lock().expect("nobody panics").finish(span, Instant::now());
    }
    let window = recorder.close_window();
    let times = analysis::spans(&window.profile);
    let find = |id: ActiveSpan| -> Option<&SpanTime> {
        let id = format!("{:016x}", u64::from_be_bytes(id.span_id));
        times.iter().find(|time| time.span_id == id)
    };

    let poisoned = number(&told["poisoned"]) as usize;
    let (mut charged, mut done_for_all) = (0, 0);
    for batch in batches {
        let messages: Vec<_> = list(&batch["messages"])
            .iter()
            .map(|told| (told, find(id(1, number(&told["number"])))))
            .collect();
        let (told_poisoned, seen) = messages[poisoned];
        let seen = seen.expect("it slept, and every wait is seen");
        assert!(seen.main_cause.contains("handle_poisoned"), "{seen:?}");
        assert_eq!(
            seen.head_of_line_ns as usize / 1_000_000 / 40,
            0,
            "only five short ones were before it: {seen:?}"
        );
        for (position, (told, seen)) in messages.iter().enumerate() {
            let Some(seen) = seen else { continue };
            assert_eq!(seen.batch_size as usize, SIZE);
            // What was before it in the line, by the truth.
            let before: u64 = messages[..position].iter().map(|(told, _)| number(&told["wall_ns"])).sum();
            let error = seen.head_of_line_ns.abs_diff(before);
            assert!(error <= before / 50 + 1_000_000, "{error} ns off {before}: {seen:?} for {told}");
        }
        if messages.iter().all(|(_, seen)| seen.is_some()) {
            charged += messages.iter().filter_map(|(_, seen)| seen.map(|seen| seen.shared_ns)).sum::<u64>();
            done_for_all += number(&batch["batch"]["wall_ns"]);
            let rest = find(id(0, number(&batch["batch"]["number"])))
                .map_or(0, |batch| batch.cpu_ns + batch.off_cpu_ns + batch.run_queue_ns);
            assert_eq!(rest, 0, "all of it was charged");
        }
        assert!(number(&told_poisoned["wall_ns"]) >= 80_000_000);
    }
    eprintln!("{} batches; charged {charged} of {done_for_all} ns", batches.len());
    assert!(done_for_all > 0, "no batch was seen whole");
    let gap = charged.abs_diff(done_for_all) as f64 / done_for_all as f64;
    assert!(gap < 0.02, "{gap}");
}
