//! Finished spans straight from the embedded half: the slow ones by their wall time, and the equation of each.

use std::collections::{HashMap, HashSet};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use crate::capturing::turn;
use crate::program::{Program, profile, summary};
use crate::samples::samples;
use crate::truth::{Truth, list, number};

/// Time that a clock's reading takes, and what a thread's own clock doesn't tell of interrupts.
const CLOCKS_NS: u64 = 200_000;

#[test]
fn the_embedded_half_tells_which_spans_were_slow() {
    let Some(_turn) = turn("the_embedded_half_tells_which_spans_were_slow") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let (socket, out) = (directory.path().join("agent.sock"), directory.path().join("out"));
    let mut truth = Truth::start_with(
        env!("CARGO_BIN_EXE_truth_tells"),
        4,
        &[("SPANPROF_LOCAL_AGENT", socket.as_os_str()), ("SPANPROF_SELF_PROFILE", "false".as_ref())],
    );
    let pid = truth.pid().to_string();
    let (socket_text, out_text) = (socket.to_str().expect("UTF-8"), out.to_str().expect("UTF-8"));
    // A limit of its own, as on a busy machine what is usual is soon half as long as the slow ones.
    let arguments = [
        &["record", "--pid", &pid, "--receive", socket_text][..],
        &["--slow-over", "50", "--seconds", "600", "--out", out_text],
    ]
    .concat();
    let mut record = Program::start(arguments);
    record.wait_for("recording 1 process");
    truth.begin();
    // What is no message is refused, and disturbs nobody.
    for hostile in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"spanprf\x02\0\0\0\0\x04\0\0\0\xff\xff\xff\xff", b"spanprf\x02"]
    {
        let mut stream = UnixStream::connect(&socket).expect("it listens");
        let _ = stream.write_all(hostile);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"!", "{hostile:?}");
    }
    let told = truth.wait();
    record.signal(libc::SIGINT);
    let finished = record.finish();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.errors);
    assert!(finished.errors.contains("no profile, and no spans either"), "{}", finished.errors);

    let walls: HashMap<&str, u64> = list(&told["spans"])
        .iter()
        .map(|span| (span["span_id"].as_str().expect("an id"), number(&span["wall_ns"])))
        .collect();
    let told_words = format!("{} finished spans told on", walls.len());
    assert!(finished.errors.replace(',', "").contains(&told_words), "{told_words}: {}", finished.errors);
    let recorded = profile(&out.join("profile.pb.gz"));
    let slow: HashSet<&str> =
        walls.iter().filter(|(_, wall)| **wall >= 60_000_000).map(|(id, _)| *id).collect();
    assert!(slow.len() >= 10, "{} of {} were slow", slow.len(), walls.len());
    let kept: HashSet<String> = samples(&recorded)
        .iter()
        .filter(|sample| sample.kept() == Some("slow"))
        .filter_map(|sample| sample.span().map(str::to_owned))
        .collect();
    let missing: Vec<_> = slow.iter().filter(|id| !kept.contains(**id)).collect();
    assert!(missing.is_empty(), "of {} slow spans {missing:?} were not kept", slow.len());

    let mut checked = 0;
    for span in &summary(&out).spans {
        let Some(wall) = span.wall_ns else { continue };
        assert_eq!(walls.get(span.span_id.as_str()), Some(&wall), "{span:?}");
        let sum = span.cpu_ns + span.off_cpu_ns + span.run_queue_ns + span.suspended_ns + span.unknown_ns;
        assert!(sum.abs_diff(wall) <= wall / 100 + CLOCKS_NS, "{span:?}");
        checked += 1;
    }
    eprintln!("{} spans, {} slow, {} kept as slow, {checked} checked", walls.len(), slow.len(), kept.len());
    assert!(checked >= slow.len());
}
