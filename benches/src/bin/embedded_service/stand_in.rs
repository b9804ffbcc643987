//! Stands in for a Pyroscope server: takes every request on a loopback port and answers 200 with nothing.
//!
//! It runs in the service's own process, so that there is nothing to start and stop. Its CPU time, some microseconds per
//! request, is on the account of the profiler that sends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests so far.
pub(crate) static PUSHES: AtomicU64 = AtomicU64::new(0);

/// Starts it and gives its address.
pub(crate) fn start() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port of the loopback");
    let address = listener.local_addr().expect("it is bound");
    let thread = std::thread::Builder::new().name("stand-in".to_owned());
    let serve = move || {
        // A client may have several open at once, and keep them; one that breaks is the client's to mend.
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || answer(connection));
        }
    };
    thread.spawn(serve).expect("a thread");
    format!("http://{address}")
}

fn answer(connection: TcpStream) -> std::io::Result<()> {
    let mut writer = connection.try_clone()?;
    let mut reader = BufReader::new(connection);
    loop {
        let mut length = 0;
        let mut lines = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            lines += 1;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        if lines > 1 {
            std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
            PUSHES.fetch_add(1, Ordering::Relaxed);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/proto\r\nContent-Length: 0\r\n\r\n";
            writer.write_all(head.as_bytes())?;
        }
    }
}
