use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use spanprof_exporter::page::PageDetails;
use spanprof_exporter::stored::WindowMemory;
use spanprof_exporter::{Label, Location, Profile, SampleKey, SampleKind, label};
use spanprof_symbolizer::{Frame, FrameKind};

use super::*;
use crate::page::{Archive, Bounds, Health};

/// A window with so many spans in one function.
fn window(seconds: u64, spans: u64) -> Profile {
    let mut profile = Profile::default();
    profile.start_unix_nanoseconds = seconds * 1_000_000_000;
    profile.duration_nanoseconds = 10_000_000_000;
    let function: Arc<str> = "orders::reserve".into();
    let frame = Frame { system_name: function.clone(), function, file: None, line: 0, kind: FrameKind::Rust };
    let location = profile.intern_location(Location { module: None, address: 1, frames: vec![frame] });
    let stack = profile.intern_stack(vec![location]);
    for span in 1..=spans {
        let labels = profile.intern_labels(vec![
            Label::text(label::SPAN_ID, format!("{:016x}", span.wrapping_mul(0x9e37_79b9_7f4a_7c15))),
            Label::text(label::TRACE_ID, format!("{span:032x}")),
            Label::text(label::DESTINATION, "<script>alert(1)</script>"),
        ]);
        profile.add(SampleKey { stack, labels, kind: SampleKind::OffCpu }, 1_000_000 + span, 1);
    }
    profile
}

fn serve(windows: &[Profile]) -> PageServer {
    let memory = WindowMemory::new(1 << 30);
    for window in windows {
        memory.write(window).unwrap();
    }
    let archive = Arc::new(Archive::new(Arc::new(memory), Bounds::beside_a_capture()));
    let health = Arc::new(Health::of_this_agent());
    PageServer::start("127.0.0.1:0".parse().unwrap(), Site::new(archive, health, PageDetails::default()))
        .unwrap()
}

impl PageServer {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        // Longer than anything here takes.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends a request by hand and gives the whole answer: status, head and body.
    fn ask(&self, line: &str, headers: &[&str]) -> (u16, String, Vec<u8>) {
        let mut stream = self.connect();
        let headers = headers.iter().map(|header| format!("{header}\r\n")).collect::<String>();
        // A server that refuses early may have closed by then.
        let _ = stream.write_all(format!("{line} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n").as_bytes());
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        (head[9..12].parse().unwrap(), head.to_ascii_lowercase(), answer[end + 4..].to_vec())
    }

    fn get(&self, path: &str) -> (u16, String, Vec<u8>) {
        self.ask(&format!("GET {path}"), &[&format!("host: {}", self.address)])
    }

    fn json(&self, path: &str) -> serde_json::Value {
        let (status, head, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {head}");
        serde_json::from_slice(&body).unwrap()
    }
}

#[test]
fn every_path_answers_and_every_answer_is_closed_to_others() {
    let server = serve(&[window(1_000, 3), window(1_010, 2)]);
    let (status, head, body) = server.get("/");
    assert_eq!(status, 200);
    assert!(head.contains("connect-src 'self'; frame-ancestors 'none'"), "{head}");
    assert!(String::from_utf8(body).unwrap().contains("{\"live\":true}"));
    assert_eq!(server.json("/api/windows")["windows"].as_array().unwrap().len(), 2);
    let whole = server.json("/api/profile");
    assert_eq!(whole["spans"]["span_id"].as_array().map(Vec::len).unwrap_or(3), 3, "equal spans are one");
    assert!(whole.to_string().contains("orders::reserve"));
    let one = server.json("/api/profile?from=1010000&to=1020000");
    assert_eq!(one["duration_nanoseconds"], 10_000_000_000_u64);
    assert_eq!(server.json("/api/health")["version"], env!("CARGO_PKG_VERSION"));
    for (path, name) in [
        ("/export/pprof?from=1010000", "spanprof-1010.pb.gz"),
        ("/export/pprof?span=9e3779b97f4a7c15", "spanprof-1000-part.pb.gz"),
        ("/export/folded?type=off_cpu", "spanprof-1000-off_cpu.folded"),
        ("/export/speedscope", "spanprof-1000.speedscope.json"),
        ("/export/svg?type=off_cpu", "spanprof-1000-off_cpu.svg"),
    ] {
        let (status, head, body) = server.get(path);
        assert_eq!(status, 200, "{path}: {head}");
        assert!(head.contains(&format!("content-disposition: attachment; filename=\"{name}\"")), "{head}");
        assert!(!body.is_empty());
    }
    for path in [
        "/",
        "/api/windows",
        "/api/profile",
        "/api/health",
        "/export/svg?type=off_cpu",
        "/nothing",
        "/api/profile?from=x",
    ] {
        let (_, head, _) = server.get(path);
        for header in [
            "content-security-policy: default-src 'none';",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cross-origin-resource-policy: same-origin",
            "cache-control: no-store",
        ] {
            assert!(head.contains(header), "{path} without {header}: {head}");
        }
        assert!(!head.contains("access-control"), "{head}");
    }
}

#[test]
fn json_is_compressed_for_who_accepts_it_and_equal_without() {
    let server = serve(&[window(1_000, 300)]);
    let host = format!("host: {}", server.address);
    let (_, plain_head, plain) = server.get("/api/profile");
    let (_, head, packed) = server.ask("GET /api/profile", &[&host, "accept-encoding: gzip"]);
    assert!(head.contains("content-encoding: gzip") && !plain_head.contains("content-encoding"), "{head}");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain);
    assert!(packed.len() < plain.len() / 2);
}

#[test]
fn it_can_only_be_read() {
    let server = serve(&[window(1_000, 1)]);
    let host = format!("host: {}", server.address);
    let (status, head, body) = server.ask("HEAD /api/profile", &[&host]);
    let (_, whole_head, whole) = server.ask("GET /api/profile", &[&host]);
    let length = format!("content-length: {}", whole.len());
    assert_eq!((status, body.len()), (200, 0));
    assert!(head.contains(&length) && whole_head.contains(&length), "{head}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"] {
        let (status, head, _) = server.ask(&format!("{method} /api/profile"), &[&host]);
        assert_eq!(status, 405, "{method}");
        assert!(head.contains("allow: get, head"), "{head}");
    }
}

#[test]
fn foreign_names_and_pages_get_nothing() {
    let server = serve(&[window(1_000, 1)]);
    let host = format!("host: {}", server.address);
    for path in ["/", "/api/profile", "/api/windows", "/api/health", "/export/pprof", "/nothing"] {
        let get = format!("GET {path}");
        for (headers, expected) in [
            (vec!["host: rebound.example"], 421),
            (vec!["host: 127.0.0.1:1"], 421),
            (vec![], 421),
            (vec![&host, "origin: http://other.example"], 403),
            (vec![&host, "sec-fetch-site: cross-site"], 403),
        ] {
            let (status, _, body) = server.ask(&get, &headers);
            assert_eq!(status, expected, "{path} {headers:?}");
            assert!(!String::from_utf8(body).unwrap().contains("orders"), "{path}");
        }
    }
}

#[test]
fn hostile_questions_are_refused_and_the_next_one_is_answered() {
    let server = serve(&[window(1_000, 1)]);
    let long = format!("/api/windows?from={}", "1".repeat(64 << 10));
    let very_long = format!("/{}", "x".repeat(1 << 20));
    for (path, expected) in [
        ("/api/profile?from=NaN", 400),
        ("/api/profile?from=-5&to=5", 400),
        ("/api/profile?from=99999999999999999999999", 400),
        ("/api/windows?from=5&to=1", 400),
        ("/export/svg?type=%3Cscript%3E", 400),
        ("/export/pprof?trace=%ff%fe", 400),
        ("/../../etc/passwd", 404),
        ("/export/../../etc/passwd", 404),
        ("/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/export/pprof?destination=..%2F..%2Fetc%2Fpasswd", 404),
        ("/metrics%00", 404),
        (&long, 414),
        (&very_long, 431),
    ] {
        let (status, _, body) = server.get(path);
        let shown = &path[..path.len().min(60)];
        // Of what is longer than any buffer it is hyper that says which part is too long.
        let matches = status == expected || expected == 431 && status == 414;
        assert!(matches, "{shown}: {status}, not {expected}");
        assert!(!String::from_utf8_lossy(&body).contains("root:"), "{shown}");
    }
    let huge = server.json("/api/profile?from=0&to=9007199254740991");
    assert!(huge.to_string().contains("orders::reserve"));
    let many = (0..500).map(|number| format!("x-{number}: 1")).collect::<Vec<_>>();
    let host = format!("host: {}", server.address);
    let headers: Vec<&str> = std::iter::once(&host).chain(&many).map(String::as_str).collect();
    assert_eq!(server.ask("GET /", &headers).0, 431);
    let mut stream = server.connect();
    stream.write_all(b"\x16\x03\x01\x00\xa5\x01\x00\x00\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "what is no HTTP");
    assert_eq!(server.get("/").0, 200);
}

/// Whether this is the process of that test alone: if not, runs it in one, as other tests' memory is none of its.
fn is_alone(test: &str) -> bool {
    const ALONE: &str = "SPANPROF_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let name = format!("page::server::tests::{test}");
    let program = std::env::current_exe().unwrap();
    let ran = Command::new(program).args(["--exact", &name, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let told = String::from_utf8_lossy(&ran.stdout);
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && told.contains("1 passed"), "{told}{errors}");
    false
}

#[test]
fn a_thousand_that_never_finish_asking_take_no_memory_and_leave_room() {
    if !is_alone("a_thousand_that_never_finish_asking_take_no_memory_and_leave_room") {
        return;
    }
    let server = serve(&[window(1_000, 1)]);
    assert_eq!(server.get("/").0, 200);
    let before = resident();
    let mut slow = Vec::new();
    for _ in 0..1_000 {
        // Those that the kernel's queue has no room for are turned away by it.
        let Ok(mut stream) = TcpStream::connect_timeout(&server.address, Duration::from_millis(1)) else {
            continue;
        };
        let _ = stream.write_all(b"GET /api/profile HTTP/1.1\r\nhost: ");
        slow.push(stream);
    }
    assert!(slow.len() > CONNECTIONS, "only {} came in", slow.len());
    let grown = resident().saturating_sub(before);
    println!("{} connections took {grown} bytes", slow.len());
    assert!(grown < 32 << 20, "{} connections took {grown} bytes", slow.len());
    drop(slow);
    assert_eq!(server.get("/").0, 200);
}

#[test]
fn slow_readers_hold_no_more_than_a_few_answers() {
    if !is_alone("slow_readers_hold_no_more_than_a_few_answers") {
        return;
    }
    let server = serve(&[window(1_000, 20_000)]);
    let (_, _, body) = server.get("/api/profile");
    let before = resident();
    let mut slow: Vec<TcpStream> = (0..CONNECTIONS).map(|_| server.connect()).collect();
    for stream in &mut slow {
        let request = format!("GET /api/profile HTTP/1.1\r\nhost: {}\r\n\r\n", server.address);
        stream.write_all(request.as_bytes()).unwrap();
    }
    // The first answers begin; the others wait for their turn.
    for stream in &mut slow[..2] {
        stream.read_exact(&mut [0]).unwrap();
    }
    let grown = resident().saturating_sub(before);
    println!("{CONNECTIONS} slow readers of {} bytes took {grown} bytes", body.len());
    assert!(
        grown < 16 * body.len() as u64,
        "{CONNECTIONS} slow readers of {} bytes took {grown}",
        body.len()
    );
    drop(slow);
    assert_eq!(server.get("/").0, 200);
}

/// Our resident memory, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

#[test]
fn a_taken_address_is_an_error_in_words() {
    let server = serve(&[]);
    let archive = Arc::new(Archive::new(Arc::new(WindowMemory::new(1)), Bounds::alone()));
    let site = Site::new(archive, Arc::new(Health::of_this_agent()), PageDetails::default());
    let error = PageServer::start(server.address, site).unwrap_err();
    let words = format!("cannot serve the page on {}: ", server.address);
    assert!(error.to_string().starts_with(&words), "{error}");
    let unspecified: SocketAddr = "[::]:4142".parse().unwrap();
    assert_eq!(PageServer { address: unspecified, stop: None, thread: None }.url(), "http://[::1]:4142/");
}

#[test]
fn prometheus_gets_its_text_where_an_agent_counts() {
    let archive = || Arc::new(Archive::new(Arc::new(WindowMemory::new(1 << 20)), Bounds::beside_a_capture()));
    let start = |metrics| {
        let site = Site::new(archive(), Arc::new(Health::of_this_agent()), PageDetails::default());
        PageServer::start("127.0.0.1:0".parse().unwrap(), site.with_metrics(metrics)).unwrap()
    };
    let metrics = Arc::new(crate::metrics::Metrics::new());
    metrics.add_window(&crate::summary::Summary { samples: 7, ..Default::default() });
    let (status, head, body) = start(Some(metrics)).get("/metrics");
    assert_eq!(status, 200);
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let text = String::from_utf8(body).unwrap();
    assert!(text.contains("\nspanprof_samples_total 7\n"), "{text}");
    assert_eq!(start(None).get("/metrics").0, 404);
}
