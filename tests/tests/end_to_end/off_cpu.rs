//! Waits as the waiting program times them, and as another tool does.

use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use spanprof_agent::recorder::{Recorder, Window};
use spanprof_exporter::SampleKind;

use crate::capturing::{capture, in_full, poll_until_told, skip, turn};
use crate::samples::{Sample, Share, samples};
use crate::truth::{Truth, list, number, text};

const SECONDS: u64 = 8;

#[test]
fn waits_last_as_long_as_the_program_says() {
    let Some(_turn) = turn("waits_last_as_long_as_the_program_says") else { return };
    let truth = Truth::start(env!("CARGO_BIN_EXE_truth_offcpu"), SECONDS, &["--milliseconds", "3"]);
    let (told, window) = capture(&in_full(99), truth);
    let all = samples(&window.profile);
    for thread in list(&told["threads"]) {
        let tid = number(&thread["tid"]);
        let name = text(&thread["name"]);
        let waits = |sample: &&Sample<'_>| sample.thread() == tid && sample.kind != SampleKind::Cpu;
        for span in list(&thread["spans"]) {
            let id = text(&span["span_id"]);
            let of_span = || all.iter().filter(waits).filter(|sample| sample.span() == Some(id));
            let ours: u64 = of_span().map(|sample| sample.nanoseconds).sum();
            assert_near(&format!("{name}, span {id}"), ours, number(&span["off_cpu_and_run_queue_ns"]), 0.01);
            assert!(of_span().all(|sample| sample.trace() == span["trace_id"].as_str()), "{name} {id}");

            let function = text(&thread["function"]);
            let right = |sample: &Sample<'_>| sample.is_complete() && sample.passes(function);
            Share::of(of_span(), right).require(&format!("{name}, the caller"), 100, 0.995);
        }
        if name.starts_with("rival") {
            let run_queue = all.iter().filter(waits).filter(|sample| sample.kind == SampleKind::RunQueue);
            let ours: u64 = run_queue.map(|sample| sample.nanoseconds).sum();
            assert_near(&format!("{name}, run queue"), ours, number(&thread["run_queue_ns"]), 0.01);
        } else {
            assert_blocks_are_blocks(name, tid, thread, &all);
        }
    }
}

/// A wait's time is blocked but for what the thread then waited for a CPU, which the kernel counted too.
fn assert_blocks_are_blocks(name: &str, tid: u64, thread: &Value, all: &[Sample<'_>]) {
    let of_kind = |kind| {
        let of = all.iter().filter(|sample| sample.thread() == tid && sample.kind == kind);
        of.map(|sample| sample.nanoseconds).sum::<u64>()
    };
    let run_queue = number(&thread["run_queue_ns"]);
    let blocked = number(&thread["wall_ns"]) - number(&thread["thread_cpu_ns"]) - run_queue;
    assert_near(&format!("{name}, blocked"), of_kind(SampleKind::OffCpu), blocked, 0.01);
}

#[test]
fn waits_are_those_that_offcputime_sees() {
    const TEST: &str = "waits_are_those_that_offcputime_sees";
    let Some(_turn) = turn(TEST) else { return };
    let mut truth = Truth::start(env!("CARGO_BIN_EXE_truth_offcpu"), SECONDS, &["--milliseconds", "3"]);
    let Some(other) = OffCpuTime::start(truth.pid()) else {
        return skip(TEST, "offcputime is missing; Debian has it in libbpf-tools").unwrap_or(());
    };
    let mut recorder = Recorder::start(&in_full(99)).unwrap();
    recorder.add_target(truth.pid()).unwrap();
    recorder.restart_window();
    truth.begin();
    let told = poll_until_told(&mut recorder, &truth);
    let window = recorder.close_window();
    let theirs = other.finish();
    let ours = waits_of_threads(&window);
    for thread in list(&told["threads"]) {
        let tid = number(&thread["tid"]);
        let (ours, theirs) = (ours[&tid], theirs[&tid]);
        assert_near(&format!("{}, against offcputime", text(&thread["name"])), ours, theirs, 0.02);
    }
}

fn waits_of_threads(window: &Window) -> HashMap<u64, u64> {
    let threads = window.summary.threads.iter();
    threads.map(|thread| (u64::from(thread.tid), thread.off_cpu_ns + thread.run_queue_ns)).collect()
}

/// The tool of another author: from each switch away from a thread to the switch back to it.
struct OffCpuTime(Child);

impl OffCpuTime {
    /// Starts it and waits until it is attached; `None` where the machine lacks it.
    fn start(pid: u32) -> Option<OffCpuTime> {
        let program = ["/usr/sbin/offcputime", "/usr/sbin/offcputime-libbpf", "/usr/bin/offcputime"];
        let program = program.iter().map(PathBuf::from).find(|path| path.exists())?;
        let child = Command::new(program)
            .args(["-p", &pid.to_string(), "--stack-storage-size", "16384", "3600"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut tool = OffCpuTime(child);
        while !tool.is_attached() {
            assert!(tool.0.try_wait().expect("our child").is_none(), "offcputime ended at once");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(tool)
    }

    /// The link between its program and the scheduler is a descriptor of the tool.
    fn is_attached(&self) -> bool {
        let descriptors =
            std::fs::read_dir(format!("/proc/{}/fd", self.0.id())).into_iter().flatten().flatten();
        descriptors
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .any(|link| link.to_string_lossy().contains("bpf_link"))
    }

    /// Ends it and gives the nanoseconds per thread.
    fn finish(mut self) -> HashMap<u64, u64> {
        // SAFETY: the child was not waited for, so the id is still its own.
        assert_eq!(unsafe { libc::kill(self.0.id() as i32, libc::SIGINT) }, 0);
        let mut listing = String::new();
        self.0.stdout.take().expect("piped").read_to_string(&mut listing).expect("text");
        self.0.wait().expect("our child");
        let mut times: HashMap<u64, u64> = HashMap::new();
        let mut thread = None;
        // Under each stack stands `-  name (tid)`, and below it the microseconds.
        for line in listing.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("- ").and_then(|rest| rest.strip_suffix(')')) {
                thread = rest.rsplit_once('(').and_then(|(_, digits)| digits.parse::<u64>().ok());
            } else if let (Some(tid), Ok(microseconds)) = (thread, line.parse::<u64>()) {
                *times.entry(tid).or_default() += microseconds * 1_000;
                thread = None;
            }
        }
        times
    }
}

impl Drop for OffCpuTime {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn assert_near(what: &str, ours: u64, truth: u64, share: f64) {
    let off = ours as f64 / truth as f64 - 1.0;
    eprintln!("{what}: {:.3} ms of {:.3} ms, {:+.2} %", ours as f64 / 1e6, truth as f64 / 1e6, off * 100.0);
    assert!(off.abs() <= share, "{what}: {ours} ns, truth {truth} ns, {:+.3} %", off * 100.0);
}
