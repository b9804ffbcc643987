//! Threads that wait for services over TCP, each for another one and in another way, and one that serves.
//!
//! The services answer after a pause, so that who asks is blocked for almost all of its time. Each client works under a span
//! of its own, on a connection of its own; one of them has both connections and asks through the same line.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use spanprof_context::thread;
use spanprof_tests::clock;
use spanprof_tests::truth_program::{TruthProgram, is_stopped};

#[path = "span_writers/ours.rs"]
mod ours;

const PAUSE: Duration = Duration::from_millis(10);

/// Listens; whoever asks gets an answer after a pause.
fn serve(address: &str) -> SocketAddr {
    let listener = TcpListener::bind(address).expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::Builder::new()
                .name("service".into())
                .spawn(move || answer(stream))
                .expect("a thread");
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() {
        std::thread::sleep(PAUSE);
        if stream.write_all(&byte).is_err() {
            return;
        }
    }
}

fn wait_by_read(stream: &mut TcpStream) {
    let mut byte = [0];
    stream.read_exact(&mut byte).expect("an answer");
}

/// As clients do that must not wait for ever.
fn wait_by_poll(stream: &mut TcpStream) {
    let mut waited = libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one element, which outlives the call.
    assert_eq!(unsafe { libc::poll(&mut waited, 1, 5_000) }, 1, "an answer");
    wait_by_read(stream);
}

fn client(kind: u8, peers: Vec<SocketAddr>, wait: fn(&mut TcpStream)) -> JoinHandle<Value> {
    std::thread::spawn(move || {
        let mut streams: Vec<TcpStream> =
            peers.iter().map(|peer| TcpStream::connect(peer).expect("a connection")).collect();
        let span = ours::span(kind, 1);
        let guard = thread::enter(&span);
        let mut waited_ns = vec![0; streams.len()];
        while !is_stopped() {
            for (stream, waited) in streams.iter_mut().zip(&mut waited_ns) {
                stream.write_all(b"?").expect("a question");
                let begin = clock::monotonic_ns();
                wait(stream);
                *waited += clock::monotonic_ns() - begin;
            }
        }
        drop(guard);
        let peers: Vec<String> = peers.iter().map(SocketAddr::to_string).collect();
        json!({ "span_id": span.span_id.to_string(), "peers": peers, "waited_ns": waited_ns })
    })
}

fn main() {
    let program = TruthProgram::begin();
    ours::publish_process("truth_peers");
    let (first, second, third) = (serve("127.0.0.1:0"), serve("127.0.0.1:0"), serve("[::1]:0"));
    program.ready();
    let clients = [
        client(0, vec![first], wait_by_read),
        client(1, vec![third], wait_by_poll),
        client(2, vec![first, second], wait_by_read),
    ];
    program.wait_for_end();
    let told: Vec<Value> = clients.map(|client| client.join().expect("no client panics")).into();
    program.tell(&json!({ "program": "truth_peers", "pid": std::process::id(), "clients": told }));
}
