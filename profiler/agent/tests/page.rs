//! The page as a person starts it: `attach --page` on a process, and `open` on what was stored.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use spanprof_exporter::directory::WindowDirectory;
use spanprof_exporter::pprof::decode;
use spanprof_exporter::{Profile, SampleKind};
use support::{Recording, can_capture, recording, run, spanprof};

/// Starts a command that serves a page, and gives it with the page's `address:port`.
fn start(command: Command) -> (Recording, String) {
    let mut recording = Recording::of(command);
    let said = recording.wait_for_line("the page is at http://");
    let address = said.split_once("http://").unwrap().1.trim().trim_end_matches('/').to_owned();
    (recording, address)
}

fn open(path: &Path) -> (Recording, String) {
    let mut command = spanprof();
    command.arg("open").arg(path).args(["--no-browser", "--page", "127.0.0.1:0"]);
    start(command)
}

fn get(address: &str, path: &str) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let status = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
    (status, answer.split_off(end))
}

fn json(address: &str, path: &str) -> serde_json::Value {
    let (status, body) = get(address, path);
    assert_eq!(status, 200, "{path}");
    serde_json::from_slice(&body).unwrap()
}

fn end(recording: Recording) {
    recording.signal(libc::SIGINT);
    let finished = recording.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

#[test]
fn a_file_and_a_recording_s_directory_open() {
    let directory = tempfile::tempdir().unwrap();
    let file = recording(directory.path());
    std::fs::write(directory.path().join("summary.json"), summary()).unwrap();
    for path in [&*file, directory.path()] {
        let (recording, address) = open(path);
        assert!(String::from_utf8(get(&address, "/").1).unwrap().contains("{\"live\":true}"));
        assert_eq!(json(&address, "/api/windows")["windows"].as_array().unwrap().len(), 1);
        let profile = json(&address, "/api/profile");
        assert!(profile.to_string().contains("orders::reserve"), "{profile}");
        assert_eq!(profile["losses"][0][1], 7, "what the recording lost is said");
        assert_eq!(json(&address, "/api/health")["backend"]["name"], "bpf");
        let (status, exported) = get(&address, "/export/pprof?type=off_cpu&span=00f067aa0ba902b7");
        assert_eq!((status, decode(&exported).unwrap().total(SampleKind::OffCpu)), (200, 430_000_000));
        end(recording);
    }
}

fn summary() -> Vec<u8> {
    use spanprof_agent::summary::{Backend, Summary};
    let backend = Backend { name: "bpf".into(), why: "it is allowed".into() };
    let losses = [("samples_lost".to_owned(), 7)].into();
    serde_json::to_vec(&Summary { backend, losses, ..Summary::default() }).unwrap()
}

fn window(seconds: u64) -> Profile {
    let directory = tempfile::tempdir().unwrap();
    let mut profile = decode(&std::fs::read(recording(directory.path())).unwrap()).unwrap();
    profile.start_unix_nanoseconds = seconds * 1_000_000_000;
    profile.duration_nanoseconds = 10_000_000_000;
    profile
}

#[test]
fn a_directory_of_windows_opens_and_shows_what_comes_later() {
    let directory = tempfile::tempdir().unwrap();
    let windows = WindowDirectory::new(directory.path(), 1 << 20).unwrap();
    for seconds in [1_000, 1_010] {
        windows.write(&window(seconds)).unwrap();
    }
    std::fs::write(directory.path().join("spanprof-100.pb.gz"), "no profile").unwrap();
    let (recording, address) = open(directory.path());
    let listed = json(&address, "/api/windows?from=1005000");
    assert_eq!(listed["windows"].as_array().unwrap().len(), 2, "{listed}");
    assert_eq!(listed["unreadable"], 0, "of what was not asked for nothing is read");
    assert_eq!(json(&address, "/api/windows")["unreadable"], 1);
    assert_eq!(listed["series"][0]["destination"], "orders");
    windows.write(&window(1_020)).unwrap();
    let mut from = 0;
    // The list is looked up once a second.
    while from < 1_020_000 {
        let listed = json(&address, "/api/windows");
        from = listed["windows"].as_array().unwrap().last().unwrap()["from"].as_u64().unwrap();
    }
    let (_, exported) = get(&address, "/export/pprof?from=1000000&to=1020000");
    assert_eq!(decode(&exported).unwrap().total(SampleKind::OffCpu), 860_000_000);
    end(recording);
}

#[test]
fn what_can_t_be_opened_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let wrong = directory.path().join("notes.txt");
    std::fs::write(&wrong, "notes").unwrap();
    let empty = directory.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = recording(directory.path());
    for (path, page, code, words) in [
        (&*wrong, "127.0.0.1:0", 1, "give a pprof file"),
        (&*empty, "127.0.0.1:0", 1, "holds no recording"),
        (Path::new("/nowhere"), "127.0.0.1:0", 1, "cannot read /nowhere"),
        (&*file, &*address, 1, "cannot serve the page on"),
        (&*file, "nonsense", 2, "--page"),
    ] {
        let finished = run(spanprof().arg("open").arg(path).args(["--no-browser", "--page", page]));
        assert_eq!(finished.code, Some(code), "{path:?}: {finished:?}");
        assert!(finished.errors.contains(words), "{path:?}: {finished:?}");
    }
}

#[test]
fn where_the_usual_address_is_taken_another_is_found() {
    let directory = tempfile::tempdir().unwrap();
    recording(directory.path());
    // Somebody else's may be there already.
    let _taken = std::net::TcpListener::bind("127.0.0.1:4142");
    let mut command = spanprof();
    command.arg("open").arg(directory.path()).arg("--no-browser");
    let (recording, address) = start(command);
    assert_ne!(address, "127.0.0.1:4142");
    assert_eq!(get(&address, "/").0, 200);
    end(recording);
}

#[test]
fn an_export_of_show_is_what_the_page_gives() {
    let directory = tempfile::tempdir().unwrap();
    let file = recording(directory.path());
    let (recording, address) = open(&file);
    for (format, flag) in [("folded", "--folded"), ("speedscope", "--speedscope"), ("svg", "--svg")] {
        let (_, of_page) = get(&address, &format!("/export/{format}?type=off_cpu"));
        let shown = run(spanprof().arg("show").arg(&file).args([flag, "--type", "off_cpu"]));
        assert_eq!(shown.code, Some(0), "{shown:?}");
        let named = |text: &str| text.replace(&file.display().to_string(), "spanprof");
        assert_eq!(named(&shown.output), String::from_utf8(of_page).unwrap(), "{format}");
    }
    end(recording);
    let shown =
        spanprof().arg("show").arg(&file).args(["--pprof", "--span", "1111111111111111"]).output().unwrap();
    let part = decode(&shown.stdout).unwrap();
    assert_eq!((part.total(SampleKind::Cpu), part.total(SampleKind::OffCpu)), (38_000_000, 0));
    let nothing = run(spanprof().arg("show").arg(&file).args(["--svg", "--type", "ready"]));
    assert_eq!(nothing.code, Some(3), "{nothing:?}");
    let two = run(spanprof().arg("show").arg(&file).args(["--svg", "--folded"]));
    assert_eq!(two.code, Some(2), "{two:?}");
}

/// The process that is looked at: this test program, in this function until its standard input ends.
struct Spinner(Child);

#[inline(never)]
fn reserve_everything(seed: u64) -> u64 {
    (0..1_000_000).fold(seed, |sum: u64, number| std::hint::black_box(sum.rotate_left(5) ^ number))
}

#[test]
#[ignore = "the process that another test looks at"]
fn spinner() {
    std::thread::spawn(|| {
        let mut sum = 0;
        loop {
            sum = std::hint::black_box(reserve_everything(sum));
        }
    });
    println!("spinning");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

impl Spinner {
    fn start() -> Spinner {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "spinner", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("spinning")));
        Spinner(child)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_page_of_a_running_process_shows_its_function() {
    if !can_capture("the_page_of_a_running_process_shows_its_function") {
        return;
    }
    let spinner = Spinner::start();
    let directory = tempfile::tempdir().unwrap();
    for kept in [None, Some(directory.path().join("windows"))] {
        let mut command = spanprof();
        command.args([
            "attach",
            "--pid",
            &spinner.0.id().to_string(),
            "--window",
            "0.5",
            "--page",
            "127.0.0.1:0",
        ]);
        if let Some(windows) = &kept {
            command.arg("--dir").arg(windows);
        }
        let (recording, address) = start(command);
        let mut listed = json(&address, "/api/windows");
        while listed["windows"].as_array().unwrap().len() < 2 {
            listed = json(&address, "/api/windows");
        }
        let from = listed["windows"][1]["from"].as_u64().unwrap();
        let profile = json(&address, &format!("/api/profile?from={from}"));
        assert!(profile.to_string().contains("reserve_everything"), "{profile}");
        let health = json(&address, "/api/health");
        assert_eq!(health["backend"]["name"], "bpf", "{health}");
        assert_eq!(health["targets"][0]["pid"], spinner.0.id(), "{health}");
        assert!(health["sinks"][0]["arrived"].as_u64().unwrap() >= 1, "{health}");
        assert!(health["cost"]["resident_bytes"].as_u64().unwrap() < 100 << 20, "{health}");
        let (_, folded) = get(&address, "/export/folded");
        assert!(String::from_utf8(folded).unwrap().contains("reserve_everything"));
        recording.signal(libc::SIGTERM);
        let finished = recording.finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let name = kept.map_or("the page".to_owned(), |windows| windows.display().to_string());
        assert!(finished.errors.contains(&format!("{name}: ")), "{finished:?}");
    }
}
