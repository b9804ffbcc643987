//! The way to a local agent: what arrives, what is counted, what hostile senders can do.

mod fixture;

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use spanprof_exporter::local::{LocalError, LocalReceiver, LocalSink, Received, ReceiverCounts, Wanted};
use spanprof_exporter::pprof::{encode, encode_uncompressed};
use spanprof_exporter::{Label, Profile, SampleKey, SampleKind, label};

/// Longer than anything here takes, so that a slow machine changes nothing.
const LONG: Duration = Duration::from_secs(60);

fn socket(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("agent.sock")
}

fn resource() -> Vec<(String, String)> {
    vec![
        (label::SERVICE_NAME.to_owned(), "billing".to_owned()),
        ("service.version".to_owned(), "1.2".to_owned()),
    ]
}

fn in_time() -> Instant {
    Instant::now() + LONG
}

fn bound() -> (tempfile::TempDir, LocalReceiver) {
    let directory = tempfile::tempdir().unwrap();
    let receiver = LocalReceiver::bind(socket(&directory)).unwrap();
    (directory, receiver)
}

fn small() -> Profile {
    let mut profile = Profile::default();
    let (stack, labels) = (profile.intern_stack(vec![]), profile.intern_labels(vec![]));
    profile.add(SampleKey { stack, labels, kind: SampleKind::Suspended }, 7, 1);
    profile
}

#[test]
fn profiles_arrive_with_their_resource_and_their_sender() {
    let (_directory, receiver) = bound();
    let mut sink = LocalSink::new(receiver.path()).unwrap();
    let profile = fixture::profile_with_tasks();
    assert!(sink.send(&profile, &resource(), in_time()).unwrap() > 100);
    sink.send(&small(), &resource(), in_time()).unwrap();
    let Received { profile: read, resource: of, from } = receiver.next(LONG).unwrap();
    assert_eq!(of, resource());
    assert_eq!(from.pid as u32, std::process::id());
    for kind in SampleKind::ALL {
        assert_eq!(read.total(kind), profile.total(kind));
    }
    // Samples that named their service keep it; those that did not get the resource's.
    let services = |profile: &Profile| {
        let sets = profile.samples().into_iter().map(|(key, _)| profile.labels(key.labels).to_vec());
        let service =
            |set: Vec<Label>| set.into_iter().find(|label| &*label.key == "service.name").unwrap().value;
        sets.map(|set| service(set).as_text().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(services(&read).iter().all(|service| service != "billing"));
    assert_eq!(services(&receiver.next(LONG).unwrap().profile), ["billing"]);
    assert_eq!(receiver.counts(), ReceiverCounts { taken: 2, ..ReceiverCounts::default() });
}

#[test]
fn finished_spans_go_to_whom_they_are_for() {
    let directory = tempfile::tempdir().unwrap();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let take = {
        let taken = Arc::clone(&taken);
        // What a reader of OTLP would refuse here begins with a zero.
        move |request: Vec<u8>| {
            let is_good = request.first() != Some(&0);
            taken.lock().unwrap().push(request);
            is_good
        }
    };
    let wanted = Wanted { profiles: true, spans: Some(Box::new(take)) };
    let receiver = LocalReceiver::bind_for(socket(&directory), wanted).unwrap();
    let mut sink = LocalSink::new(receiver.path()).unwrap();
    assert_eq!(sink.send_spans(b"some", in_time()).unwrap(), 20);
    sink.send(&small(), &resource(), in_time()).unwrap();
    assert_eq!(sink.send_spans(&[1; 1 << 20], in_time()).unwrap(), 16 + (1 << 20));
    assert!(matches!(sink.send_spans(&[1; (1 << 20) + 1], in_time()), Err(LocalError::TooLarge { .. })));
    assert!(matches!(sink.send_spans(&[0], in_time()), Err(LocalError::Refused)));
    sink.send_spans(b"more", in_time()).unwrap();
    let lengths: Vec<_> = taken.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(lengths, [4, 1 << 20, 1, 4]);
    let counts = ReceiverCounts { taken: 1, spans_taken: 3, malformed: 1, ..ReceiverCounts::default() };
    assert_eq!(receiver.counts(), counts);
}

#[test]
fn a_receiver_says_what_it_has_no_use_for_and_goes_on() {
    let (directory, receiver) = bound();
    let mut sink = LocalSink::new(receiver.path()).unwrap();
    for _ in 0..2 {
        assert!(matches!(sink.send_spans(b"some", in_time()), Err(LocalError::Unwanted)));
        sink.send(&small(), &resource(), in_time()).unwrap();
    }
    let counts = ReceiverCounts { taken: 2, unwanted: 2, ..ReceiverCounts::default() };
    assert_eq!(receiver.counts(), counts);
    drop(receiver);
    let receiver = LocalReceiver::bind_for(socket(&directory), Wanted::default()).unwrap();
    assert!(matches!(sink.send(&small(), &resource(), in_time()), Err(LocalError::Unwanted)));
    assert_eq!(receiver.counts(), ReceiverCounts { unwanted: 1, ..ReceiverCounts::default() });
}

/// As the version did that knew profiles only: it refuses the eighth byte and hangs up.
#[test]
fn an_older_receiver_refuses_spans_by_a_word() {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(socket(&directory)).unwrap();
    let older = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut header = [0; 16];
        stream.read_exact(&mut header).unwrap();
        assert_eq!(&header[..8], b"spanprf\x02");
        stream.write_all(b"!").unwrap();
    });
    let error = LocalSink::new(socket(&directory)).unwrap().send_spans(b"some", in_time()).unwrap_err();
    assert!(matches!(error, LocalError::Refused), "{error}");
    assert!(error.to_string().contains("newer than the agent"), "{error}");
    older.join().unwrap();
}

#[test]
fn the_socket_is_the_owner_s_alone_and_gone_at_the_end() {
    let (directory, receiver) = bound();
    let mode = std::fs::metadata(receiver.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(matches!(LocalReceiver::bind(socket(&directory)), Err(LocalError::InUse { .. })));
    drop(receiver);
    assert!(!socket(&directory).exists());

    // What a killed agent left is replaced; what is no socket is not.
    drop(UnixListener::bind(socket(&directory)).unwrap());
    assert!(socket(&directory).exists());
    drop(LocalReceiver::bind(socket(&directory)).unwrap());
    let file = directory.path().join("notes.txt");
    std::fs::write(&file, "mine").unwrap();
    assert!(matches!(LocalReceiver::bind(&file), Err(LocalError::NoSocket { .. })));
    assert_eq!(std::fs::read_to_string(file).unwrap(), "mine");
    // Another's socket in our place stays.
    let receiver = LocalReceiver::bind(socket(&directory)).unwrap();
    std::fs::remove_file(socket(&directory)).unwrap();
    let other = LocalReceiver::bind(socket(&directory)).unwrap();
    drop(receiver);
    assert!(socket(&directory).exists());
    drop(other);
}

#[test]
fn an_agent_may_come_later_and_be_restarted() {
    let directory = tempfile::tempdir().unwrap();
    let mut sink = LocalSink::new(socket(&directory)).unwrap();
    let error = sink.send(&small(), &resource(), in_time()).unwrap_err();
    assert!(matches!(error, LocalError::NobodyListens { .. }), "{error}");
    assert!(error.to_string().contains("spanprof attach --receive"), "{error}");
    for _ in 0..3 {
        let receiver = LocalReceiver::bind(socket(&directory)).unwrap();
        // The connection that was kept from before is dead: the profile goes over a new one.
        sink.send(&small(), &resource(), in_time()).unwrap();
        assert_eq!(receiver.next(LONG).unwrap().profile.total(SampleKind::Suspended), 7);
        assert_eq!(receiver.counts().taken, 1);
    }
}

#[test]
fn an_agent_that_does_not_collect_says_so_and_the_sender_stays_connected() {
    let (_directory, receiver) = bound();
    let mut sink = LocalSink::new(receiver.path()).unwrap();
    let sent = (0..100).map(|_| sink.send(&small(), &[], in_time())).collect::<Vec<_>>();
    let busy = sent.iter().filter(|sent| matches!(sent, Err(LocalError::Busy))).count() as u64;
    let taken = sent.iter().filter(|sent| sent.is_ok()).count() as u64;
    assert!(busy > 0 && taken > 0 && busy + taken == 100, "{busy} {taken}");
    assert_eq!(receiver.counts(), ReceiverCounts { taken, no_room: busy, ..ReceiverCounts::default() });
    assert!(receiver.next(LONG).is_some());
    assert!(sink.send(&small(), &[], in_time()).is_ok(), "there is room again");
}

#[test]
fn a_listener_that_never_answers_costs_no_more_than_the_deadline() {
    let directory = tempfile::tempdir().unwrap();
    // Takes connections into its queue and neither reads nor answers.
    let _listener = UnixListener::bind(socket(&directory)).unwrap();
    let mut sink = LocalSink::new(socket(&directory)).unwrap();
    let error = sink.send(&small(), &[], Instant::now() + Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, LocalError::TimedOut), "{error}");
    // A message larger than the socket's buffer can't even be sent.
    let mut large = small();
    large.comments =
        (0..40_000).map(|n: u64| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    assert!(encode(&large).len() > 300_000);
    let error = sink.send(&large, &[], Instant::now() + Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, LocalError::TimedOut), "{error}");
}

#[test]
fn a_listener_of_another_protocol_is_told_from_an_agent() {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(socket(&directory)).unwrap();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let mut sink = LocalSink::new(socket(&directory)).unwrap();
    let error = sink.send(&small(), &[], in_time()).unwrap_err();
    assert!(matches!(error, LocalError::NotOurs { .. }), "{error}");
    drop(sink);
    answering.join().unwrap();
}

#[test]
fn paths_that_can_t_name_a_socket_are_refused_at_once() {
    let long = format!("/tmp/{}", "x".repeat(120));
    for path in ["", long.as_str(), "a\0b"] {
        assert!(matches!(LocalSink::new(path), Err(LocalError::BadPath { .. })), "{path:?}");
        assert!(matches!(LocalReceiver::bind(path), Err(LocalError::BadPath { .. })), "{path:?}");
    }
}

/// Sends bytes as they are, hangs up the sending side, and gives what comes back.
fn answer_to(path: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    // The receiver may hang up before it has read all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// A message with finished spans.
fn spans(request: &[u8]) -> Vec<u8> {
    [b"spanprf\x02\0\0\0\0", &(request.len() as u32).to_le_bytes()[..], request].concat()
}

fn message(resource: &[u8], profile: &[u8]) -> Vec<u8> {
    let lengths = [(resource.len() as u32).to_le_bytes(), (profile.len() as u32).to_le_bytes()].concat();
    [b"spanprf\x01", &lengths[..], resource, profile].concat()
}

#[test]
fn a_malformed_message_ends_its_connection_and_no_other() {
    let (_directory, receiver) = bound();
    let mut neighbour = LocalSink::new(receiver.path()).unwrap();
    neighbour.send(&small(), &[], in_time()).unwrap();
    let good = message(&[], &encode(&small()));
    assert_eq!(answer_to(receiver.path(), &good), b"+");
    assert_eq!(answer_to(receiver.path(), &[&good[..], &good[..]].concat()), b"++");
    let mut announced = good.clone();
    announced[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    let bomb = {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&vec![0; 129 << 20]).unwrap();
        gzip.finish().unwrap()
    };
    let hostile: Vec<(&str, Vec<u8>)> = vec![
        ("another protocol", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("a kind that nobody knows", [b"spanprf\x03", &good[8..]].concat()),
        ("spans with a resource beside them", [b"spanprf\x02\x01\0\0\0\x01\0\0\0", &[0; 2][..]].concat()),
        ("too many spans announced", [b"spanprf\x02\0\0\0\0\x01\0\x10\0", &[0; 2][..]].concat()),
        ("cut in the spans", spans(b"1234")[..18].to_vec()),
        ("too much announced", announced),
        ("a resource that is none", message(&[0xff; 9], &encode(&small()))),
        ("a profile that is none", message(&[], b"not a profile at all")),
        ("no profile", message(&[], &[])),
        ("cut in the header", good[..9].to_vec()),
        ("cut in the profile", good[..good.len() - 1].to_vec()),
        ("a bomb", message(&[], &bomb)),
    ];
    for (number, (what, bytes)) in hostile.iter().enumerate() {
        assert_eq!(answer_to(receiver.path(), bytes), b"!", "{what}");
        assert_eq!(receiver.counts().malformed, number as u64 + 1, "{what}");
    }
    assert_eq!(answer_to(receiver.path(), b""), b"", "a look is no message");
    neighbour.send(&small(), &[], in_time()).unwrap();
    assert_eq!((receiver.counts().taken, receiver.counts().malformed), (5, hostile.len() as u64));
}

#[test]
fn connections_are_bounded_and_stalling_ones_don_t_hold_up_the_end() {
    let (_directory, receiver) = bound();
    // Each begins a message and never goes on; the receiver has seen it when it has counted the one after the last.
    let mut stalling: Vec<_> = (0..64).map(|_| UnixStream::connect(receiver.path()).unwrap()).collect();
    for stream in &mut stalling {
        stream.write_all(b"spanprf").unwrap();
    }
    let mut refused = UnixStream::connect(receiver.path()).unwrap();
    refused.set_read_timeout(Some(LONG)).unwrap();
    assert!(matches!(refused.read(&mut [0]), Ok(0) | Err(_)));
    assert_eq!(receiver.counts().too_many, 1);
    // Hangs here if a connection's thread does not hear of the end.
    drop(receiver);
}

/// The socket that the process which runs [`a_stranger_s_part`] finds in its environment.
const STRANGER_SOCKET: &str = "SPANPROF_TEST_STRANGER_SOCKET";

/// The user without privilege on every Linux.
const NOBODY: u32 = 65534;

#[test]
fn strangers_are_turned_away_on_both_sides() {
    let (directory, receiver) = bound();
    let is_root = std::fs::metadata(directory.path()).unwrap().uid() == 0;
    if !is_root {
        assert!(std::env::var_os("CI").is_none(), "strangers_are_turned_away_on_both_sides needs root");
        eprintln!("NOT RUN: strangers_are_turned_away_on_both_sides: it needs root");
        return;
    }
    // Even where the files would let them in.
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
    std::fs::set_permissions(receiver.path(), PermissionsExt::from_mode(0o666)).unwrap();
    let program = directory.path().join("stranger");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut stranger = Command::new(program);
    stranger.args(["--exact", "a_stranger_s_part"]).env(STRANGER_SOCKET, receiver.path());
    let mut stranger =
        stranger.uid(NOBODY).gid(NOBODY).current_dir("/").stdout(Stdio::null()).spawn().unwrap();
    // What it listens on appears by a rename, after it was turned away here.
    let theirs = directory.path().join("theirs.sock");
    while !theirs.exists() {
        assert!(stranger.try_wait().unwrap().is_none(), "the stranger failed");
        std::thread::yield_now();
    }
    assert_eq!(receiver.counts(), ReceiverCounts { strangers: 1, ..ReceiverCounts::default() });
    let error = LocalSink::new(theirs).unwrap().send(&small(), &[], in_time()).unwrap_err();
    assert!(matches!(error, LocalError::Stranger { uid: NOBODY, .. }), "{error}");
    assert!(stranger.wait().unwrap().success());
}

/// What another user's process does: nothing unless it is started by the test above.
#[test]
fn a_stranger_s_part() {
    let Some(socket) = std::env::var_os(STRANGER_SOCKET).map(PathBuf::from) else { return };
    assert!(LocalSink::new(&socket).unwrap().send(&small(), &[], in_time()).is_err());
    let bound = socket.with_file_name("theirs.new");
    let listener = UnixListener::bind(&bound).unwrap();
    std::fs::rename(bound, socket.with_file_name("theirs.sock")).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut received = Vec::new();
    let _ = stream.read_to_end(&mut received);
    assert_eq!(received, b"", "nothing is sent to a stranger");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever comes, the receiver answers or hangs up, counts it once, and goes on to serve others.
    #[test]
    fn hostile_bytes_end_their_connection_only(
        noise in prop::collection::vec(any::<u8>(), 0..300),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        how in 0..4_u8,
    ) {
        let (_directory, receiver) = bound();
        let mut bytes = match how {
            0 => noise,
            1 => message(&[], &encode_uncompressed(&fixture::profile_with_tasks())),
            2 => spans(b"some spans"),
            _ => message(&[0x0a, 0x04, 0x0a, 0x02, b'a', b'b'], &encode(&small())),
        };
        for (index, byte) in damage {
            if !bytes.is_empty() {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let answer = answer_to(receiver.path(), &bytes);
        prop_assert!(answer.iter().all(|byte| b"+!~-".contains(byte)));
        let counts = receiver.counts();
        let counted = counts.taken + counts.unwanted + counts.malformed;
        prop_assert_eq!(counted, answer.len() as u64);
        let mut sink = LocalSink::new(receiver.path()).unwrap();
        prop_assert!(sink.send(&small(), &[], in_time()).is_ok());
    }
}
