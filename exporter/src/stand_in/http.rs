//! As much of HTTP/1.1 as a push needs.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use crate::pprof::gzip;

/// The largest head and body that are read.
const LONGEST_HEAD: usize = 64 << 10;
const LONGEST_BODY: usize = 256 << 20;

/// One request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// A header's value; names in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// Reads one request; none where the client hung up between two.
pub(super) fn read_request(stream: &mut TcpStream) -> io::Result<Option<Request>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return if head.is_empty() { Ok(None) } else { Err(broken("the head is cut off")) };
        }
        head.push(byte[0]);
        if head.len() > LONGEST_HEAD {
            return Err(broken("the head is too long"));
        }
    }
    let head = String::from_utf8(head).map_err(|_| broken("the head is not text"))?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let method = first.next().unwrap_or_default().to_owned();
    let path = first.next().unwrap_or_default().to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut request = Request { method, path, headers, body: Vec::new() };
    let length = request.header("content-length").unwrap_or("0").parse::<usize>();
    let length = length.map_err(|_| broken("the length is no number"))?;
    if request.header("transfer-encoding").is_some() || length > LONGEST_BODY {
        return Err(broken("the body has no length or is too long"));
    }
    request.body = vec![0; length];
    stream.read_exact(&mut request.body)?;
    Ok(Some(request))
}

fn broken(words: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

/// Sends an answer with a body.
pub(super) fn respond(
    stream: &mut TcpStream,
    status: u16,
    content_type: &str,
    body: &[u8],
) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status} Answer\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat())
}

/// Sends success as the real server does: an empty message, compressed whether the client can read it or not.
pub(super) fn respond_empty_gzip(stream: &mut TcpStream) -> io::Result<()> {
    let body = gzip(&[]);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/proto\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), &body].concat())
}

/// Sends an error in the Connect protocol's shape; 405 and 415 have no body there, 404 is plain.
pub(super) fn respond_error(
    stream: &mut TcpStream,
    status: u16,
    code: &str,
    message: &str,
) -> io::Result<()> {
    match status {
        405 | 415 => respond(stream, status, "text/plain", b""),
        404 => respond(stream, status, "text/plain", b"404 page not found\n"),
        _ => {
            let quoted: String = message
                .chars()
                .flat_map(|c| match c {
                    '"' | '\\' => vec!['\\', c],
                    c if c.is_control() => vec![' '],
                    c => vec![c],
                })
                .collect();
            let body = format!("{{\"code\":\"{code}\",\"message\":\"{quoted}\"}}");
            respond(stream, status, "application/json", body.as_bytes())
        }
    }
}
