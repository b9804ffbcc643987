//! `spanprof attach --receive`: profiles from processes that embed spanprof, sent on by the agent.

mod support;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use spanprof_exporter::local::LocalSink;
use spanprof_exporter::pprof::{decode, encode};
use spanprof_exporter::stand_in::{StandIn, StandInConfig};
use spanprof_exporter::{Profile, SampleKey, SampleKind};
use support::{Recording, is_root, run, spanprof};

/// Longer than anything here takes, so that a slow machine changes nothing.
const LONG: Duration = Duration::from_secs(60);

/// What an embedded process would send: its samples name no service.
fn profile() -> Profile {
    let mut profile = Profile::default();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    profile.start_unix_nanoseconds = now.as_nanos() as u64;
    let (stack, labels) = (profile.intern_stack(vec![]), profile.intern_labels(vec![]));
    profile.add(SampleKey { stack, labels, kind: SampleKind::Suspended }, 7_000_000, 1);
    profile
}

fn resource() -> Vec<(String, String)> {
    vec![("service.name".to_owned(), "billing".to_owned())]
}

/// Sends bytes by hand and gives the answer.
fn answer_to(path: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// The protocol as a client of another make would write it.
fn message(profile: &Profile) -> Vec<u8> {
    let encoded = encode(profile);
    let mut bytes = b"spanprf\x01\0\0\0\0".to_vec();
    bytes.extend_from_slice(&(encoded.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&encoded);
    bytes
}

#[test]
fn what_embedded_processes_hand_over_is_sent_on_to_every_destination() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, windows) = (directory.path().join("agent.sock"), directory.path().join("windows"));
    let server = StandIn::start(StandInConfig::default()).unwrap();
    let mut attach = spanprof();
    attach.args(["attach", "--pyroscope", &server.url(), "--otlp-profiles", &server.url()]);
    attach.arg("--receive").arg(&socket).arg("--dir").arg(&windows);
    let mut recording = Recording::of(attach);
    recording.wait_for("receiving on");
    let mut sinks = [LocalSink::new(&socket).unwrap(), LocalSink::new(&socket).unwrap()];
    for number in 0..4 {
        sinks[number % 2].send(&profile(), &resource(), Instant::now() + LONG).unwrap();
    }
    assert_eq!(answer_to(&socket, b"GET / HTTP/1.1\r\n\r\n"), b"!");
    recording.wait_for("a process sent what is no profile, and no spans either");
    sinks[0].send(&profile(), &resource(), Instant::now() + LONG).unwrap();
    recording.signal(libc::SIGTERM);
    let finished = recording.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.errors.contains("received 5 profiles\n"), "{finished:?}");
    assert_eq!(finished.errors.matches(": 5 windows arrived\n").count(), 3, "{finished:?}");
    assert!(finished.errors.contains("lost: nothing"), "{finished:?}");
    assert!(!socket.exists(), "the socket is removed at the end");

    let stored = server.profiles();
    assert_eq!(stored.len(), 5);
    assert!(stored.iter().all(|profile| profile.type_id == "suspended:suspended:nanoseconds::"));
    assert!(stored.iter().all(|profile| profile.labels["service_name"] == "billing"), "{stored:?}");
    assert_eq!(server.otlp_requests().len(), 5);
    let files: Vec<_> = std::fs::read_dir(&windows).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 5);
    let read = decode(&std::fs::read(&files[0]).unwrap()).unwrap();
    assert_eq!(read.total(SampleKind::Suspended), 7_000_000);
    let shown = run(spanprof().args(["show", "--by", "destination"]).arg(&files[0]));
    assert!(shown.output.contains("billing") && shown.output.contains("7.0 ms"), "{shown:?}");
}

#[test]
fn receiving_needs_no_privilege() {
    if !is_root("receiving_needs_no_privilege") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let socket = directory.path().join("agent.sock");
    let (socket_text, windows) = (socket.to_str().unwrap(), directory.path().join("windows"));
    let arguments = ["attach", "--receive", socket_text, "--dir", windows.to_str().unwrap()];
    let mut recording = Recording::of(*support::as_nobody(&arguments, &[]));
    recording.wait_for("receiving on");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    // Root is let in.
    assert_eq!(answer_to(&socket, &message(&profile())), b"+");
    recording.signal(libc::SIGINT);
    let finished = recording.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.errors.contains("1 window arrived"), "{finished:?}");

    let forbidden =
        run(support::as_nobody(&["attach", "--receive", "/spanprof.sock", "--dir", "/tmp"], &[]).as_mut());
    assert_eq!(forbidden.code, Some(4), "{forbidden:?}");
    assert!(forbidden.errors.contains("cannot receive profiles: /spanprof.sock"), "{forbidden:?}");
}

#[test]
fn a_second_agent_does_not_take_the_first_one_s_place() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent.sock");
    let command = || {
        let mut attach = spanprof();
        attach.args(["attach", "--dir"]).arg(directory.path()).arg("--receive").arg(&socket);
        attach
    };
    let mut first = Recording::of(command());
    first.wait_for("receiving on");
    let second = run(&mut command());
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.errors.contains("another agent listens there"), "{second:?}");
    assert_eq!(answer_to(&socket, &message(&profile())), b"+");
    first.signal(libc::SIGKILL);
    first.finish();
    // What a killed agent left is in nobody's way.
    let mut third = Recording::of(command());
    third.wait_for("receiving on");
    assert_eq!(answer_to(&socket, &message(&profile())), b"+");
    third.signal(libc::SIGTERM);
    assert_eq!(third.finish().code, Some(0));
}

#[test]
fn profiles_are_received_beside_a_capture() {
    if !support::can_capture("profiles_are_received_beside_a_capture") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent.sock");
    let cat = support::Cat::start();
    let mut attach = spanprof();
    attach
        .args(["attach", "--pid", &cat.id(), "--window", "60", "--dir"])
        .arg(directory.path().join("windows"));
    attach.arg("--receive").arg(&socket);
    let mut recording = Recording::of(attach);
    recording.wait_for("attached to 1 process");
    assert_eq!(answer_to(&socket, &message(&profile())), b"+");
    recording.signal(libc::SIGTERM);
    let finished = recording.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(
        finished.errors.contains("received 1 profile\n") && finished.errors.contains("in 1 window"),
        "{finished:?}"
    );
    assert!(cat.still_answers());
}
