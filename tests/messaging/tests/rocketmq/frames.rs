//! A batch as a producer of the remoting protocol sends it: for what no client of ours would do.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

/// The request's code: a batch with a short header.
const SEND_BATCH: i32 = 320;

/// The code of a request's answer that says that all went well.
const SUCCESS: i64 = 0;

/// Sends messages without properties in one batch, whose wrapper has these.
pub(crate) fn send_batch(
    broker: &str,
    topic: &str,
    wrapper_properties: &str,
    bodies: &[Vec<u8>],
) -> io::Result<()> {
    let header = json!({
        "code": SEND_BATCH, "language": "OTHER", "version": 0, "opaque": 1, "flag": 0,
        "serializeTypeCurrentRPC": "JSON",
        "extFields": {
            "a": "old-style", // the producer's group
            "b": topic,
            "c": "TBW102", // the topic by which new ones are made
            "d": "4",
            "e": "0", // the queue
            "f": "0",
            "g": "1700000000000", // born
            "h": "0",
            "i": wrapper_properties,
            "j": "0",
            "k": "false",
            "m": "true", // a batch
        },
    });
    let mut stream = TcpStream::connect(broker)?;
    stream.write_all(&frame(&header, &bodies.iter().flat_map(|body| inner(body)).collect::<Vec<_>>()))?;
    let answer = answer(&mut stream)?;
    match answer["code"].as_i64() {
        Some(SUCCESS) => Ok(()),
        _ => Err(io::Error::other(answer.to_string())),
    }
}

/// One message of a batch: no CRC, flags or properties.
fn inner(body: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 16];
    message.extend((body.len() as u32).to_be_bytes());
    message.extend(body);
    message.extend(0u16.to_be_bytes());
    let size = message.len() as u32;
    message[..4].copy_from_slice(&size.to_be_bytes());
    message
}

fn frame(header: &Value, body: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    let mut frame = Vec::new();
    frame.extend((4 + header.len() as u32 + body.len() as u32).to_be_bytes());
    // The highest byte says that the header is JSON: 0.
    frame.extend((header.len() as u32).to_be_bytes());
    frame.extend(header.as_bytes());
    frame.extend(body);
    frame
}

/// The header of the answer; the broker may ask something of its own before.
fn answer(stream: &mut TcpStream) -> io::Result<Value> {
    loop {
        let length = number(stream)?;
        let mut rest = vec![0; length as usize];
        stream.read_exact(&mut rest)?;
        let header_length = u32::from_be_bytes([0, rest[1], rest[2], rest[3]]) as usize;
        let header: Value = serde_json::from_slice(&rest[4..4 + header_length])?;
        if header["flag"].as_i64().is_some_and(|flag| flag & 1 == 1) {
            return Ok(header);
        }
    }
}

fn number(stream: &mut TcpStream) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}
