//! Finished spans decide which spans keep their ids, and what folds loses no time.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use spanprof_agent::ActiveSpan;
use spanprof_agent::recorder::Recorder;
use spanprof_agent::spans::{Class, FinishedSpan, KeepingOptions, Messaging, SpanKind};
use spanprof_exporter::stand_in::{StandIn, StandInConfig};

use crate::capturing::{in_full, poll_until_told, turn};
use crate::program::Program;
use crate::samples::samples;
use crate::truth::{Truth, number, span};

/// `truth_tags` numbers its spans from 1 over all kinds; see its writer's `span`.
const KINDS: u64 = 12;
const FAILED: u64 = 200;

fn failed(span: ActiveSpan) -> FinishedSpan {
    FinishedSpan {
        span,
        parent: None,
        kind: SpanKind::Consumer,
        start_unix_ns: 1,
        end_unix_ns: 2,
        failed: true,
        class: Class::default(),
        messaging: Messaging::default(),
        links: Vec::new(),
    }
}

#[test]
fn failed_spans_keep_their_ids_and_others_fold_without_loss() {
    let Some(_turn) = turn("failed_spans_keep_their_ids_and_others_fold_without_loss") else { return };
    let spans = KeepingOptions { normal: 0, ..KeepingOptions::default() };
    let options = spanprof_agent::recorder::CaptureOptions { spans, ..in_full(999) };
    let mut truth = Truth::start(env!("CARGO_BIN_EXE_truth_tags"), 3, &[]);
    let mut recorder = Recorder::start(&options).expect("the capture starts");
    recorder.add_target(truth.pid()).expect("the target can be captured");
    recorder.restart_window();
    truth.begin();
    let told = poll_until_told(&mut recorder, &truth);
    // Each number is one span; which kind it has nobody told.
    let keeping = recorder.keeping();
    for number in 1..=FAILED {
        for kind in 0..KINDS {
            keeping.lock().expect("nobody panics").finish(failed(span(kind, number)), Instant::now());
        }
    }
    let window = recorder.close_window();

    let mut kept = HashSet::new();
    for sample in samples(&window.profile) {
        let Some(id) = sample.span() else { continue };
        let number = u64::from_str_radix(&id[2..], 16).expect("it is hexadecimal");
        match sample.kept() {
            Some("failed") => {
                assert!((1..=FAILED).contains(&number), "span {number} did not fail");
                kept.insert(number);
            }
            Some("slow") => assert!(number > FAILED, "span {number} failed"),
            other => panic!("span {number} keeps its ids as {other:?}"),
        }
    }
    eprintln!("{} of {FAILED} failed spans seen, of {} in all", kept.len(), number(&told["spans"]));
    // A span is a few dozen microseconds of CPU and a sleep, which is timed; the capture may begin within one.
    assert!(kept.len() as u64 >= FAILED - 5, "only {} were kept", kept.len());
    let folded = window.summary.losses["spans_folded"];
    assert!(folded > 1_000, "{folded} folded");
    for thread in &window.summary.threads {
        let parts = thread.cpu_ns + thread.off_cpu_ns + thread.run_queue_ns;
        let gap = thread.wall_ns.abs_diff(parts) as f64 / thread.wall_ns.max(1) as f64;
        assert!(gap < 0.01, "{thread:?}");
    }
}

#[test]
fn attach_takes_spans_passes_them_on_and_says_so() {
    let Some(_turn) = turn("attach_takes_spans_passes_them_on_and_says_so") else { return };
    let server = StandIn::start(StandInConfig::default()).expect("a port is free");
    let mut truth = Truth::start(env!("CARGO_BIN_EXE_truth_offcpu"), 600, &["--no-rivals"]);
    truth.begin();
    let (pid, url) = (truth.pid().to_string(), server.url());
    let mut attached = Program::start([
        "attach",
        "--pid",
        &pid,
        "--window",
        "1",
        "--pyroscope",
        &url,
        "--otlp-listen",
        "127.0.0.1:0",
    ]);
    let line = attached.wait_for("taking finished spans by OTLP on ");
    let address = line.rsplit(' ').next().expect("the address is its last word").trim();
    attached.wait_for("attached to 1 process");
    // An `ExportTraceServiceRequest` with one span that has two ids and nothing else.
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat();
    let ids = [field(1, &[1; 16]), field(2, &[2; 8])].concat();
    let request = field(1, &field(2, &field(2, &ids)));
    let mut connection = TcpStream::connect(address).expect("it listens");
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-protobuf\r\n\
         content-length: {}\r\n\r\n",
        request.len()
    );
    connection.write_all(&[head.as_bytes(), &request].concat()).expect("it reads");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    attached.signal(libc::SIGTERM);
    let finished = attached.finish();
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert!(finished.errors.contains("spans: 1 in 1 request"), "{}", finished.errors);
    truth.signal(libc::SIGTERM);
    truth.wait();
}
