//! However many finished spans come, and whatever they hold: the agent takes or refuses them, says so, and stays small.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Range;

use crate::capturing::turn;
use crate::program::Program;
use crate::truth::Truth;

/// What the whole agent may have had in memory at any time, in kB.
const MOST: u64 = 100 << 10;

/// As exporters send them.
const IN_A_REQUEST: u64 = 512;

/// Senders that send half of a request, and never the rest.
const HANGING: usize = 64;

/// A field of protobuf that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 0x7f {
        field.push(length as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend(bytes);
    field
}

/// A field that holds 64 bits.
fn fixed(number: u8, value: u64) -> Vec<u8> {
    [&[number << 3 | 1][..], &value.to_le_bytes()].concat()
}

/// An attribute whose value is text.
fn attribute(key: &str, value: &[u8]) -> Vec<u8> {
    field(9, &[field(1, key.as_bytes()), field(2, &field(1, value))].concat())
}

/// A span's own ids and times.
fn span(number: u64, begin: u64, end: u64) -> Vec<u8> {
    let trace = [number.to_be_bytes(), number.to_be_bytes()].concat();
    let ids = [field(1, &trace), field(2, &number.to_be_bytes())].concat();
    [ids, fixed(7, begin), fixed(8, end)].concat()
}

/// A request of spans, each with its length before it.
fn request(spans: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let spans: Vec<u8> = spans.into_iter().flat_map(|span| field(2, &span)).collect();
    field(1, &field(2, &spans))
}

/// Messages' spans as tracers tell them.
fn usual(numbers: Range<u64>) -> Vec<u8> {
    request(numbers.map(|number| {
        let begin = 1_700_000_000_000_000_000 + number * 1_000;
        [
            span(number, begin, begin + 200_000),
            field(5, b"process orders"),
            attribute("messaging.destination.name", b"orders"),
            attribute("messaging.operation.name", b"process"),
            attribute("messaging.message.id", &number.to_be_bytes()),
        ]
        .concat()
    }))
}

/// Requests that nobody sends in earnest.
fn hostile(round: u64) -> Vec<Vec<u8>> {
    let number = 1 << 63 | round << 20;
    let spans = move |of: fn(u64) -> Vec<u8>| request((number..number + IN_A_REQUEST).map(of));
    let deep = (0..1_000).fold(Vec::new(), |inner, _| field(2, &field(6, &field(1, &inner))));
    let links: Vec<u8> = (0..50_000).flat_map(|link| field(13, &span(link + 1, 0, 0))).collect();
    vec![
        // The same ids again, in this round and in each.
        spans(|number| span(number % 7 + 1, 1, 2)),
        // Clocks that run backwards, or for ever.
        spans(|number| span(number, u64::MAX, 0)),
        spans(|number| span(number, 0, u64::MAX)),
        // Each of a class of its own, by a long name.
        spans(|number| [span(number, 1, 2), field(5, format!("{number:02000}").as_bytes())].concat()),
        // Ids of zeros.
        spans(|_| span(0, 1, 2)),
        request([[span(number, 1, 2), field(9, &[field(1, b"deep"), deep].concat())].concat()]),
        request([
            [span(number, 1, 2), attribute("messaging.destination.name", &vec![b'x'; 3 << 20])].concat()
        ]),
        request([[span(number, 1, 2), links].concat()]),
        // As many spans as there is room for, each of them empty.
        field(1, &field(2, &[18, 0].repeat(60_000))),
        // More spans than are taken, more bytes than are taken, and no message at all.
        field(1, &field(2, &[18, 0].repeat(1 << 20))),
        vec![0; 5 << 20],
        vec![0xff; 1_000],
    ]
}

/// A request's head and as much of its body as is given.
fn begin(address: &str, length: usize, body: &[u8]) -> TcpStream {
    let mut connection = TcpStream::connect(address).expect("it listens");
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-protobuf\r\n\
         content-length: {length}\r\n\r\n"
    );
    // Who is refused at once may find the connection closed.
    let _ = connection.write_all(&[head.as_bytes(), body].concat());
    connection
}

/// Sends a request and gives the status that it is answered with; `None` where the connection was closed instead.
fn send(address: &str, body: &[u8]) -> Option<u16> {
    let mut answer = Vec::new();
    let _ = begin(address, body.len(), body).read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}

/// The most that a process ever had in memory, in kB.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts");
    line.trim().trim_end_matches(" kB").parse().expect("it is a number")
}

/// Sends so many usual spans, with hostile ones between them, to an agent that captures meanwhile.
fn stays_small(test: &str, spans: u64) {
    let Some(_turn) = turn(test) else { return };
    let directory = tempfile::tempdir().expect("a directory is made");
    let mut truth = Truth::start(env!("CARGO_BIN_EXE_truth_offcpu"), 3_600, &["--no-rivals"]);
    truth.begin();
    let (pid, out) = (truth.pid().to_string(), directory.path().to_string_lossy());
    let mut agent = Program::start([
        "attach",
        "--pid",
        &pid,
        "--window",
        "2",
        "--dir",
        &out,
        "--otlp-listen",
        "127.0.0.1:0",
    ]);
    let line = agent.wait_for("taking finished spans by OTLP on ");
    let address = line.rsplit(' ').next().expect("the address is its last word").trim().to_owned();
    agent.wait_for("attached to 1 process");
    let before = peak(agent.id());

    let (mut taken, mut refused, mut sent_away) = (0, 0, 0);
    let mut count = |status| match status {
        Some(200) => taken += 1,
        Some(503) => sent_away += 1,
        Some(400 | 408 | 413) | None => refused += 1,
        other => panic!("answered with {other:?}"),
    };
    for (round, first) in (0..spans).step_by(IN_A_REQUEST as usize).enumerate() {
        count(send(&address, &usual(first + 1..(first + IN_A_REQUEST).min(spans) + 1)));
        if round % 64 == 0 {
            hostile(round as u64).iter().for_each(|body| count(send(&address, body)));
        }
    }
    // Whoever takes up room without end is put off, and so is all else until then; afterwards there is room again.
    let hanging: Vec<_> = (0..HANGING).map(|_| begin(&address, 4 << 20, &vec![10; 2 << 20])).collect();
    count(send(&address, &usual(1..2)));
    let most = peak(agent.id());
    eprintln!(
        "{taken} requests taken, {refused} refused, {sent_away} sent away; {before} kB, then {most} kB at most"
    );
    drop(hanging);
    while send(&address, &usual(1..2)) != Some(200) {}
    agent.signal(libc::SIGTERM);
    let finished = agent.finish();
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert!(finished.errors.contains("could not be read and was refused"), "{}", finished.errors);
    assert!(refused > 0 && taken > spans / IN_A_REQUEST / 2, "{taken} taken, {refused} refused");
    assert!(most <= MOST, "the agent had {most} kB");
    truth.signal(libc::SIGTERM);
    truth.wait();
}

#[test]
fn hostile_spans_are_refused_or_counted_and_the_agent_stays_small() {
    stays_small("hostile_spans_are_refused_or_counted_and_the_agent_stays_small", 300_000);
}

#[test]
#[ignore = "takes minutes"]
fn five_million_spans_leave_the_agent_small() {
    stays_small("five_million_spans_leave_the_agent_small", 5_000_000);
}
