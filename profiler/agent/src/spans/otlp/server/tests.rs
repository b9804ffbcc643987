//! The receiver as exporters see it: by bytes on a connection.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::ActiveSpan;
use crate::spans::otlp::Spool;
use crate::spans::{IndexLimits, Keeping, KeepingOptions};

const SPAN: ActiveSpan = ActiveSpan { trace_id: [1; 16], span_id: [2; 8] };

/// A request with one span, by hand.
fn request() -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat();
    let span = [field(1, &SPAN.trace_id), field(2, &SPAN.span_id)].concat();
    field(1, &field(2, &field(2, &span)))
}

struct Setting {
    keeping: Arc<Mutex<Keeping>>,
    intake: Arc<Intake>,
    receiver: OtlpReceiver,
}

fn setting(spool: Option<Arc<Spool>>) -> Setting {
    let keeping = Keeping::new(KeepingOptions::default(), IndexLimits::default(), Instant::now());
    let keeping = Arc::new(Mutex::new(keeping));
    let intake = Arc::new(Intake::new(Arc::clone(&keeping), spool));
    let address = "127.0.0.1:0".parse().expect("it is an address");
    let receiver = OtlpReceiver::start(address, Arc::clone(&intake)).expect("a port is free");
    Setting { keeping, intake, receiver }
}

impl Setting {
    /// The status of the answer to a request over HTTP.
    fn post(&self, headers: &str, body: &[u8]) -> u16 {
        let mut connection = TcpStream::connect(self.receiver.address()).expect("it listens");
        let length = body.len();
        let head =
            format!("POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{headers}\r\n");
        connection.write_all(head.as_bytes()).expect("it reads");
        // A request that is too large is refused before its end.
        let _ = connection.write_all(body);
        let mut line = String::new();
        BufReader::new(connection).read_line(&mut line).expect("it answers");
        line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{line:?}"))
    }

    fn knows_the_span(&self) -> bool {
        self.keeping.lock().unwrap_or_else(PoisonError::into_inner).index().get(&SPAN).is_some()
    }
}

const PROTOBUF_HEADER: &str = "content-type: application/x-protobuf\r\n";

#[test]
fn a_request_over_http_is_taken() {
    let setting = setting(None);
    assert_eq!(setting.post(PROTOBUF_HEADER, &request()), 200);
    assert!(setting.knows_the_span());
    let counts = setting.intake.counts();
    assert_eq!((counts.requests, counts.spans), (1, 1));
}

#[test]
fn gzip_is_understood_and_bounded() {
    let setting = setting(None);
    let headers = format!("{PROTOBUF_HEADER}content-encoding: gzip\r\n");
    let packed = |bytes: &[u8]| {
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        packer.write_all(bytes).and_then(|()| packer.finish()).expect("memory is there")
    };
    assert_eq!(setting.post(&headers, &packed(&request())), 200);
    assert!(setting.knows_the_span());
    assert_eq!(setting.post(&headers, &packed(&vec![0; 64 << 20])), 413);
    assert_eq!(setting.post(&headers, b"not gzip"), 400);
}

#[test]
fn what_is_not_understood_is_refused_with_its_status() {
    let setting = setting(None);
    assert_eq!(setting.post("content-type: application/json\r\n", b"{}"), 415);
    assert_eq!(setting.post(&format!("{PROTOBUF_HEADER}content-encoding: br\r\n"), b""), 415);
    assert_eq!(setting.post(PROTOBUF_HEADER, b"\x0a\x05cut"), 400);
    assert_eq!(setting.post(PROTOBUF_HEADER, &vec![0; MAX_REQUEST + 1]), 413);
    assert_eq!(setting.intake.counts().malformed, 1);
}

#[test]
fn a_full_spool_sends_away_and_remembers_nothing() {
    let spool = Arc::new(Spool::new(1));
    assert!(spool.push(Bytes::from_static(b"what waits")));
    let setting = setting(Some(spool));
    assert_eq!(setting.post(PROTOBUF_HEADER, &request()), 503);
    assert!(!setting.knows_the_span());
    assert_eq!(setting.intake.counts().busy, 1);
}

#[test]
fn requests_are_handed_on_byte_for_byte() {
    let spool = Arc::new(Spool::new(1 << 20));
    let setting = setting(Some(Arc::clone(&spool)));
    // With a field that nobody knows.
    let request = [request(), vec![0x7a, 3, b'n', b'e', b'w']].concat();
    assert_eq!(setting.post(PROTOBUF_HEADER, &request), 200);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it can be had");
    assert_eq!(runtime.block_on(spool.first()), spanprof_exporter::otlp::packed(&request));
}

#[test]
fn a_request_over_grpc_is_taken() {
    let setting = setting(None);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer = runtime.expect("it can be had").block_on(async {
        let address = setting.receiver.address();
        let client = reqwest::Client::builder().http2_prior_knowledge().build().expect("it can be made");
        let message = request();
        let frame = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
        let call = client.post(format!("http://{address}{GRPC_PATH}"));
        let call = call.header("content-type", "application/grpc").header("te", "trailers").body(frame);
        let answer = call.send().await.expect("it answers");
        let status = answer.status();
        (status.as_u16(), answer.bytes().await.expect("it answers").to_vec())
    });
    assert_eq!(answer, (200, vec![0; 5]), "an empty message: all was taken");
    assert!(setting.knows_the_span());
}

#[test]
fn a_taken_address_is_said() {
    let setting = setting(None);
    let error = OtlpReceiver::start(setting.receiver.address(), Arc::clone(&setting.intake)).unwrap_err();
    assert!(error.to_string().starts_with("cannot listen for spans on 127.0.0.1:"), "{error}");
}
