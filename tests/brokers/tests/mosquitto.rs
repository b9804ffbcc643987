//! mosquitto as a fixture: ready when it says so, nothing left.

use std::io::{Read, Write};
use std::net::TcpStream;

use spanprof_brokers::{Mosquitto, require};

/// CONNECT of MQTT 3.1.1 and of 5 with a clean session, 60 s between signs of life and the client id `c`.
const CONNECTS: [&[u8]; 2] =
    [b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01c", b"\x10\x0e\0\x04MQTT\x05\x02\0\x3c\0\0\x01c"];

/// The first byte of CONNACK.
const CONNACK: u8 = 0x20;

#[test]
fn both_versions_are_welcome() {
    let Some(broker) = require("both_versions_are_welcome", Mosquitto::shared()) else { return };
    for connect in CONNECTS {
        let mut stream = TcpStream::connect(broker.address()).expect("it listens");
        stream.write_all(connect).expect("it reads");
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).expect("it answers");
        assert_eq!((answer[0], answer[3]), (CONNACK, 0), "{answer:?}");
    }
}

#[test]
fn many_run_side_by_side_and_are_gone_when_dropped() {
    let test = "many_run_side_by_side_and_are_gone_when_dropped";
    let brokers = (0..8).map_while(|_| require(test, Mosquitto::start())).collect::<Vec<_>>();
    let left = brokers.iter().map(|broker| (broker.directory().to_owned(), broker.address().to_owned()));
    let left = left.collect::<Vec<_>>();
    for (directory, address) in &left {
        assert!(directory.is_dir());
        TcpStream::connect(address).expect("it listens");
    }
    drop(brokers);
    for (directory, address) in left {
        assert!(!directory.exists());
        TcpStream::connect(address).expect_err("nobody listens any more");
    }
}
