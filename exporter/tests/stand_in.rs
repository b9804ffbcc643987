//! The stand-in itself: that it refuses what a real server was seen to refuse.

mod fixture;

use std::io::{Read, Write};
use std::net::TcpStream;

use ::pprof::protos::{Function, Label, Line, Location, Message, Profile, Sample, ValueType};
use spanprof_exporter::stand_in::{StandIn, StandInConfig};

/// A length-delimited protobuf field, by hand: independent of the messages under test.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

fn request(labels: &[(&str, &str)], profile: &[u8]) -> Vec<u8> {
    let mut series = Vec::new();
    for (name, value) in labels {
        series.extend(field(1, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat()));
    }
    series.extend(field(2, &field(1, profile)));
    field(1, &series)
}

fn post(server: &StandIn, head: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = format!("{head}\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

const PUSH: &str = "POST /push.v1.PusherService/Push HTTP/1.1\r\nContent-Type: application/proto";

fn good() -> Profile {
    Profile {
        string_table: ["", "off_cpu", "nanoseconds", "work", "span_id", fixture::SLOW_SPAN, "x-y"]
            .map(str::to_owned)
            .to_vec(),
        sample_type: vec![ValueType { ty: 1, unit: 2 }],
        function: vec![Function { id: 1, name: 3, ..Function::default() }],
        location: vec![Location {
            id: 1,
            line: vec![Line { function_id: 1, line: 1 }],
            ..Location::default()
        }],
        sample: vec![Sample {
            location_id: vec![1],
            value: vec![5],
            label: vec![Label { key: 4, str: 5, ..Label::default() }],
        }],
        ..Profile::default()
    }
}

fn answered(change: impl FnOnce(&mut Profile)) -> (StandIn, u16, String) {
    let server = StandIn::start(StandInConfig::default()).unwrap();
    let mut profile = good();
    change(&mut profile);
    let body = request(&[("__name__", "off_cpu"), ("service_name", "x")], &profile.encode_to_vec());
    let (status, answer) = post(&server, PUSH, &body);
    (server, status, answer)
}

#[test]
fn what_is_good_is_stored() {
    let (server, status, answer) = answered(|_| {});
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("Content-Encoding: gzip"), "success is compressed even when nobody asked");
    let expected = [(vec!["work".to_owned()], 5)];
    assert_eq!(server.stacks("off_cpu:off_cpu:nanoseconds::", fixture::SLOW_SPAN), expected);
    assert_eq!(server.stacks("off_cpu:off_cpu:nanoseconds::", fixture::BUSY_SPAN), []);
}

#[test]
fn profiles_that_the_real_server_refuses_are_refused() {
    type Change = fn(&mut Profile);
    let cases: [(&str, u16, Change); 9] = [
        ("no types", 400, |p| p.sample_type.clear()),
        ("a type with a dash", 400, |p| p.sample_type[0].ty = 6),
        ("values that don't fit the types", 400, |p| p.sample[0].value.push(1)),
        ("too many samples", 400, |p| p.sample = vec![p.sample[0].clone(); 16_001]),
        ("a time long gone", 400, |p| p.time_nanos = 1),
        ("101 labels", 400, |p| p.sample[0].label = vec![p.sample[0].label[0].clone(); 101]),
        ("a dangling location", 400, |p| p.sample[0].location_id[0] = 9),
        ("over 2 MiB", 429, |p| p.string_table.push("x".repeat(2_200_000))),
        ("over 4 MiB", 400, |p| p.string_table.push("x".repeat(4_300_000))),
    ];
    for (what, expected, change) in cases {
        let (server, status, answer) = answered(change);
        assert_eq!(status, expected, "{what}: {answer}");
        assert_eq!(server.profiles(), [], "{what}");
    }
}

#[test]
fn what_the_real_server_loses_in_silence_is_lost() {
    let (server, status, _) = answered(|p| p.string_table[5] = "short".into());
    assert_eq!((status, server.profiles()[0].samples[0].span_id.clone()), (200, None));
    let (server, status, _) = answered(|p| p.location[0].line.clear());
    assert_eq!((status, server.profiles().len()), (200, 0), "a stack without names vanishes");
    let (server, status, _) = answered(|p| p.sample[0].value[0] = 0);
    assert_eq!((status, server.profiles().len()), (200, 0));
}

#[test]
fn requests_that_the_real_server_refuses_are_refused() {
    let server = StandIn::start(StandInConfig::default()).unwrap();
    let profile = good().encode_to_vec();
    let body = request(&[("__name__", "off_cpu"), ("service_name", "x")], &profile);
    let proto = "Content-Type: application/proto";
    for (what, expected, head, body) in [
        ("wrong path", 404, format!("POST /push HTTP/1.1\r\n{proto}"), body.clone()),
        ("GET", 405, format!("GET /push.v1.PusherService/Push HTTP/1.1\r\n{proto}"), vec![]),
        ("wrong type", 415, PUSH.replace("application/proto", "application/x-protobuf"), body.clone()),
        ("gzip that is none", 400, format!("{PUSH}\r\nContent-Encoding: gzip"), body.clone()),
        ("zstd", 501, format!("{PUSH}\r\nContent-Encoding: zstd"), body.clone()),
        ("nothing", 400, PUSH.into(), vec![]),
        ("no name", 400, PUSH.into(), request(&[("service_name", "x")], &profile)),
        ("no service", 400, PUSH.into(), request(&[("__name__", "off_cpu"), ("service_name", "")], &profile)),
        ("a name twice", 400, PUSH.into(), request(&[("__name__", "a"), ("b", "1"), ("b", "2")], &profile)),
        ("a long value", 400, PUSH.into(), request(&[("__name__", "a"), ("b", &"x".repeat(2049))], &profile)),
        ("garbage", 500, PUSH.into(), request(&[("__name__", "a"), ("service_name", "x")], b"\xff\xff")),
        ("an empty profile", 500, PUSH.into(), request(&[("__name__", "a"), ("service_name", "x")], b"")),
    ] {
        let (status, answer) = post(&server, &head, &body);
        assert_eq!(status, expected, "{what}: {answer}");
    }
    assert_eq!(server.profiles(), []);
}

#[test]
fn the_good_part_of_a_mixed_request_is_kept() {
    let server = StandIn::start(StandInConfig::default()).unwrap();
    let profile = good().encode_to_vec();
    let mixed = [
        request(&[("__name__", "off_cpu"), ("service_name", "good")], &profile),
        request(&[("service_name", "bad")], &profile),
    ]
    .concat();
    assert_eq!(post(&server, PUSH, &mixed).0, 400);
    let services: Vec<_> = server.profiles().iter().map(|p| p.labels["service_name"].clone()).collect();
    assert_eq!(services, ["good"]);
}
