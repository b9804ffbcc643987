//! The program as scripts see it: exit codes, messages, files, signals.

mod support;

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use spanprof_agent::summary::Summary;
use spanprof_exporter::{SpanFacts, SpanIds, WokenBy};
use support::{Cat, Recording, can_capture, is_root, run, spanprof};

#[test]
fn without_arguments_it_helps_and_ends_with_2() {
    let finished = run(&mut spanprof());
    assert_eq!(finished.code, Some(2));
    for word in ["record", "attach", "show", "doctor", "demo"] {
        assert!(finished.errors.contains(word), "{finished:?}");
    }
}

#[test]
fn help_names_examples_and_exit_codes() {
    let finished = run(spanprof().arg("--help"));
    assert_eq!(finished.code, Some(0));
    for line in [
        "spanprof record --name orders-consumer --seconds 30",
        "3  nothing matched the selector",
        "4  not allowed",
    ] {
        assert!(finished.output.contains(line), "{}", finished.output);
    }
    let finished = run(spanprof().args(["record", "--help"]));
    assert_eq!(finished.code, Some(0));
    for line in
        ["A prime such as 97", "[default: ./spanprof-out]", "--cgroup", "-- ./consumer --topic orders"]
    {
        assert!(finished.output.contains(line), "{}", finished.output);
    }
}

#[test]
fn top_prints_one_picture_for_scripts() {
    if !can_capture("top_prints_one_picture_for_scripts") {
        return;
    }
    let cat = Cat::start();
    let finished = run(spanprof().args(["top", "--pid", &cat.id(), "--once", "0.5"]));
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.output.contains("no thread published a span"), "{finished:?}");
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_wrong() {
    for (arguments, words) in [
        (&["record"][..], "no process is selected"),
        (&["record", "--pid", "0"], "--pid"),
        (&["record", "--pid", "one"], "--pid"),
        (&["record", "--name", "orders("], "not a regular expression"),
        (&["record", "--cgroup", "/sys/fs/cgroup"], "not a control group"),
        (&["record", "--hz", "0", "--pid", "1"], "1..=10000"),
        (&["record", "--hz", "10001", "--pid", "1"], "1..=10000"),
        (&["record", "--seconds", "0", "--pid", "1"], "seconds"),
        (&["record", "--pid", "1", "--", "true"], "cannot be used with"),
        (&["top"], "no process is selected"),
        (&["top", "--pid", "1"], "--once 10 prints one picture"),
        (&["attach", "--pid", "1"], "--pyroscope URL or --dir DIR"),
        (&["attach", "--dir", "x"], "no process is selected"),
        (&["attach", "--dir", "x"], "take profiles with --receive"),
        (&["attach", "--receive", "x"], "--pyroscope URL or --dir DIR"),
        (&["attach", "--receive", "/", "--dir", "/tmp"], "/ is no socket: choose another path"),
        (&["attach", "--receive", "x", "--otlp-profiles", "localhost:4318"], "no address of a server"),
        (&["attach", "--pid", "1", "--dir", "x", "--tag", "novalue"], "KEY=VALUE"),
        (&["show", "x", "--span", "12"], "16 hex digits"),
        (&["show", "x", "--trace", "zz"], "32 hex digits"),
        (&["nonsense"], "nonsense"),
    ] {
        let finished = run(spanprof().args(arguments));
        assert_eq!(finished.code, Some(2), "{arguments:?}: {finished:?}");
        assert!(finished.errors.contains(words), "{arguments:?}: {}", finished.errors);
    }
}

#[test]
fn a_pid_that_nobody_has_and_a_name_that_matches_nothing_end_with_3() {
    let finished = run(spanprof().args(["record", "--pid", "4194304"]));
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(finished.errors.contains("no process has the id 4194304"), "{finished:?}");

    let finished = run(spanprof().args(["record", "--name", "^no-such-name-anywhere$"]));
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(finished.errors.contains("no process matches --name"), "{finished:?}");

    let finished = run(spanprof().args(["doctor", "--pid", "4194304"]));
    assert_eq!(finished.code, Some(3), "{finished:?}");
}

#[test]
fn a_machine_without_types_is_told_and_ends_with_1() {
    let machine = tempfile::tempdir().unwrap();
    let status = machine.path().join("proc/self/status");
    std::fs::create_dir_all(status.parent().unwrap()).unwrap();
    std::fs::write(status, "CapEff:\t000001ffffffffff\n").unwrap();

    let finished = run(spanprof().arg("doctor").arg("--system-root").arg(machine.path()));
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.output.contains("bpf: refused, because") && finished.output.contains("btf/vmlinux"));

    let cat = Cat::start();
    let finished = run(spanprof().args(["record", "--pid", &cat.id(), "--system-root"]).arg(machine.path()));
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.errors.contains("/sys/kernel/btf/vmlinux is missing"), "{finished:?}");
    assert!(finished.errors.contains("spanprof doctor"), "{finished:?}");
}

#[test]
fn without_privilege_it_ends_with_4_and_says_how_to_grant_it() {
    if !is_root("without_privilege_it_ends_with_4_and_says_how_to_grant_it") {
        return;
    }
    let cat = Cat::start();
    let finished = run(support::as_nobody(&["record", "--pid", &cat.id()], &[]).as_mut());
    assert_eq!(finished.code, Some(4), "{finished:?}");
    for words in ["CAP_BPF is missing", "CAP_PERFMON is missing", "setcap"] {
        assert!(finished.errors.contains(words), "{finished:?}");
    }
    let finished = run(support::as_nobody(&["doctor"], &[]).as_mut());
    assert_eq!(finished.code, Some(4), "{finished:?}");
    assert!(finished.output.contains("setcap"), "{finished:?}");
}

#[test]
fn another_users_process_needs_one_more_capability() {
    if !can_capture("another_users_process_needs_one_more_capability") {
        return;
    }
    // cap_perfmon and cap_bpf: enough to capture, not enough to read what belongs to root.
    let cat = Cat::start();
    let finished = run(support::as_nobody(&["record", "--pid", &cat.id()], &[38, 39]).as_mut());
    assert_eq!(finished.code, Some(4), "{finished:?}");
    assert!(finished.errors.contains("CAP_SYS_PTRACE"), "{finished:?}");
}

#[test]
fn doctor_speaks_json() {
    let cat = Cat::start();
    let finished = run(spanprof().args(["doctor", "--json", "--pid", &cat.id()]));
    let report: serde_json::Value = serde_json::from_str(&finished.output).unwrap();
    assert!(report["machine"]["kernel_release"].is_string(), "{report}");
    assert!(report["ladder"][0]["refused"].is_array(), "{report}");
    assert_eq!(report["process"]["service"], "cat");
    assert_eq!(report["chosen"].is_string(), finished.code == Some(0), "{finished:?}");
}

#[test]
fn a_command_is_recorded_to_its_end_and_gives_its_status() {
    if !can_capture("a_command_is_recorded_to_its_end_and_gives_its_status") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo done; exit 7";
    let finished = run(spanprof().args(["record", "--out"]).arg(&out).args(["--", "sh", "-c", script]));
    assert_eq!(finished.code, Some(7), "{finished:?}");
    assert_eq!(finished.output, "done\n", "its standard output is its own");
    let summary = support::summary(&out);
    assert!(summary.totals["cpu"] > 0, "{summary:?}");
    for name in ["profile.pb.gz", "cpu.svg", "off_cpu.svg", "report.html"] {
        assert!(out.join(name).metadata().is_ok_and(|file| file.len() > 0), "{name}");
    }
    let shown = run(spanprof().args(["show", "--by", "function"]).arg(&out));
    assert_eq!(shown.code, Some(0));
    assert!(shown.output.contains("RUN_QUEUE") && shown.output.lines().count() > 1, "{shown:?}");

    let finished = run(spanprof().args(["record", "--out"]).arg(&out).args(["--", "sh", "-c", "kill -9 $$"]));
    assert_eq!(finished.code, Some(128 + 9), "{finished:?}");
    let finished = run(spanprof().args(["record", "--out"]).arg(&out).args(["--", "no-such-program-here"]));
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.errors.contains("no-such-program-here"), "{finished:?}");
}

#[test]
fn an_interrupt_ends_the_recording_and_keeps_it() {
    if !can_capture("an_interrupt_ends_the_recording_and_keeps_it") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let cat = Cat::start();
    let mut recording = Recording::start(&["--pid", &cat.id(), "--seconds", "600"], directory.path());
    recording.wait_for("recording 1 process");
    recording.signal(libc::SIGINT);
    let finished = recording.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.errors.contains("interrupted"), "{finished:?}");
    assert!(support::summary(directory.path()).seconds < 600.0);
    assert!(cat.still_answers(), "the target never notices");
}

#[test]
fn a_second_interrupt_leaves_at_once_with_whole_files() {
    if !can_capture("a_second_interrupt_leaves_at_once_with_whole_files") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // The command ignores the interrupt, so that the recording waits for it after the first one.
    let script = "trap '' INT; echo $$; exec sleep 600";
    let mut recording = Recording::start(&["--", "sh", "-c", script], directory.path());
    let command: i32 = recording.output_line().parse().unwrap();
    recording.signal(libc::SIGINT);
    recording.wait_for("waiting for the command to end");
    recording.signal(libc::SIGINT);
    let finished = recording.finish();
    // SAFETY: the command is still our descendant and nobody collected it.
    unsafe { libc::kill(command, libc::SIGKILL) };
    assert_eq!(finished.code, Some(130), "{finished:?}");
    support::summary(directory.path());
}

#[test]
fn a_target_that_is_killed_in_mid_capture_leaves_what_was_seen() {
    if !can_capture("a_target_that_is_killed_in_mid_capture_leaves_what_was_seen") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let cat = Cat::start();
    let mut recording = Recording::start(&["--pid", &cat.id(), "--seconds", "600"], directory.path());
    recording.wait_for("recording 1 process");
    let id = cat.id();
    drop(cat);
    let finished = recording.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.errors.contains("every target ended"), "{finished:?}");
    let summary = support::summary(directory.path());
    assert_eq!(summary.targets[0].pid.to_string(), id);
}

#[test]
fn a_full_disk_keeps_the_profile_and_says_so() {
    if !can_capture("a_full_disk_keeps_the_profile_and_says_so") {
        return;
    }
    let disk = support::SmallDisk::mount(64 << 10);
    let out = disk.path().join("out");
    let finished = run(spanprof().args(["record", "--out"]).arg(&out).args(["--", "true"]));
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.errors.contains("no space left for"), "{finished:?}");
    assert!(finished.errors.contains("the profile alone was saved"), "{finished:?}");
    let shown = run(spanprof().arg("show").arg(&out));
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let left: Vec<_> = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["profile.pb.gz"], "nothing half-written stays");
}

#[test]
fn attach_writes_windows_until_its_targets_end() {
    if !can_capture("attach_writes_windows_until_its_targets_end") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let cat = Cat::start();
    let mut attach = spanprof();
    attach.args(["attach", "--pid", &cat.id(), "--window", "0.2", "--dir"]).arg(directory.path());
    let mut recording = Recording::of(attach);
    recording.wait_for("attached to 1 process");
    drop(cat);
    let finished = recording.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.errors.contains("every target ended"), "{finished:?}");
    assert!(finished.errors.contains("1 window arrived"), "{finished:?}");
    let written = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(written, 1, "{finished:?}");
}

#[test]
fn attach_tells_a_refusal_once_and_ends_well() {
    if !can_capture("attach_tells_a_refusal_once_and_ends_well") {
        return;
    }
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut connection in server.incoming().flatten() {
            std::thread::spawn(move || support::refuse(&mut connection));
        }
    });
    let cat = Cat::start();
    let mut attach = spanprof();
    attach.args(["attach", "--pid", &cat.id(), "--window", "0.2", "--pyroscope", &url]);
    let mut recording = Recording::of(attach);
    recording.wait_for("warning: the server refused");
    recording.signal(libc::SIGTERM);
    let finished = recording.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let told = finished.errors.matches("the server refused").count();
    assert_eq!(told, 1, "{finished:?}");
    assert!(finished.errors.contains("no room for this here"), "the server's own words: {finished:?}");
    assert!(finished.errors.contains("lost"), "{finished:?}");
}

#[test]
fn show_says_what_it_cannot_read() {
    let directory = tempfile::tempdir().unwrap();
    let finished = run(spanprof().arg("show").arg(directory.path().join("nothing.pb.gz")));
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.errors.contains("nothing.pb.gz") && finished.errors.contains("No such file"));
    let nonsense = directory.path().join("nonsense");
    std::fs::write(&nonsense, "nonsense").unwrap();
    let finished = run(spanprof().arg("show").arg(&nonsense));
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.errors.contains("pprof"), "{finished:?}");
}

#[test]
fn show_knows_of_stored_windows_what_it_knows_of_a_recording() {
    let directory = tempfile::tempdir().unwrap();
    let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let file = support::recording(directory.path());
    let mut profile = spanprof_exporter::pprof::decode(&std::fs::read(file).unwrap()).unwrap();
    let ids = SpanIds { trace_id: trace.into(), span_id: span.into() };
    let facts = SpanFacts {
        wall_ns: Some(500_000_000),
        batch_size: 32,
        head_of_line_ns: 40_000_000,
        ..SpanFacts::default()
    };
    profile.span_facts.insert(ids, facts);
    profile.wakers.insert(
        trace,
        span,
        vec![WokenBy { cause: "worker-2 in orders::release".into(), ..WokenBy::interrupt(7) }],
    );
    let windows = directory.path().join("windows");
    let written = spanprof_exporter::directory::WindowDirectory::new(&windows, 1 << 20).unwrap();
    drop(written.write(&profile).unwrap());

    let shown = run(spanprof().args(["show", "--span", span]).arg(&windows));
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.output.contains("woken by worker-2 in orders::release"), "{shown:?}");
    assert!(
        shown.output.contains("in a batch of 32: stood in line behind its neighbours for 40.0 ms"),
        "{shown:?}"
    );
    let json = run(spanprof().args(["show", "--json"]).arg(&windows));
    let rows: serde_json::Value = serde_json::from_str(&json.output).unwrap();
    assert_eq!((&rows[0]["wall_ns"], &rows[0]["batch_size"]), (&500_000_000.into(), &32.into()), "{json:?}");
}

#[test]
fn show_lists_spans_functions_and_folded_stacks() {
    let directory = tempfile::tempdir().unwrap();
    let file = support::recording(directory.path());
    let shown = run(spanprof().arg("show").arg(&file));
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let lines: Vec<&str> = shown.output.lines().collect();
    let expected = [
        "SPAN              DESTINATION      CPU   OFF_CPU",
        "  WAIT     MAIN CAUSE",
        "00f067aa0ba902b7  orders       12.0 ms  430.0 ms",
        "  unknown  97 % blocked in orders::reserve",
        "1111111111111111  orders       38.0 ms      0 ns",
        "  -        100 % running orders::parse",
    ];
    assert_eq!(lines, expected, "{shown:?}");

    let by_cpu = run(spanprof().args(["show", "--type", "cpu"]).arg(&file));
    assert!(by_cpu.output.lines().nth(2).unwrap().starts_with("1111111111111111"), "{by_cpu:?}");

    let json = run(spanprof().args(["show", "--json", "--by", "trace"]).arg(&file));
    let traces: serde_json::Value = serde_json::from_str(&json.output).unwrap();
    assert_eq!(traces[0]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(traces[0]["off_cpu_ns"], 430_000_000);

    let one = ["show", "--span", "00F067AA0BA902B7", "--type", "off_cpu", "--folded"];
    let folded = run(spanprof().args(one).arg(&file));
    assert_eq!(folded.output, "consumer::run;orders::reserve 430000000\n");

    let limited = run(spanprof().args(["show", "--limit", "1"]).arg(&file));
    assert!(limited.output.ends_with("… 1 more (--limit 0 shows all)\n"), "{limited:?}");

    let nobody = run(spanprof().args(["show", "--span", "2222222222222222"]).arg(&file));
    assert_eq!(nobody.code, Some(3), "{nobody:?}");
}

#[test]
fn show_has_columns_for_tasks_where_a_recording_has_their_times() {
    let directory = tempfile::tempdir().unwrap();
    let without = run(spanprof().arg("show").arg(support::recording(directory.path())));
    assert!(!without.output.contains("SUSPENDED"), "{without:?}");
    let file = support::recording_with_tasks(directory.path());
    let shown = run(spanprof().args(["show", "--type", "suspended"]).arg(&file));
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let lines: Vec<&str> = shown.output.lines().collect();
    assert!(!lines[0].contains("RUN_QUEUE"), "nothing waited for a CPU: {shown:?}");
    assert!(lines[0].contains("SUSPENDED   READY"), "{shown:?}");
    assert!(lines[2].starts_with("1111111111111111") && lines[2].contains("70.0 ms"), "{shown:?}");
    assert_eq!(lines.len(), 4, "the other span has no such time: {shown:?}");
    let folded = run(spanprof().args(["show", "--type", "ready", "--folded"]).arg(&file));
    assert_eq!(folded.output, "consumer::run;orders::parse 3000000\n");
    let json = run(spanprof().args(["show", "--json", "--type", "ready"]).arg(&file));
    let spans: serde_json::Value = serde_json::from_str(&json.output).unwrap();
    assert_eq!((&spans[0]["suspended_ns"], &spans[0]["ready_ns"]), (&70_000_000.into(), &3_000_000.into()));
}

#[test]
fn ten_slow_messages_read_well_in_80_columns() {
    let directory = tempfile::tempdir().unwrap();
    let file = support::recording_of_slow_messages(directory.path());
    let shown = run(spanprof().arg("show").arg(&file));
    let lines: Vec<&str> = shown.output.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{}", shown.output);
    assert_eq!(lines[0], "SPAN              DESTINATION                           CPU   OFF_CPU  RUN_QUEUE");
    assert_eq!(lines[1], "  WAIT          MAIN CAUSE");
    let rows: Vec<&&str> = lines.iter().filter(|line| line.starts_with("00000000000000")).collect();
    assert_eq!(rows.len(), 10, "{}", shown.output);
    assert!(rows.iter().all(|row| row.contains("process orders.created.eu-west-…")), "{}", shown.output);
    assert!(lines[3].starts_with("  lock          90 % waiting for a lock in orders::"), "{}", shown.output);
    for by in ["trace", "destination", "function"] {
        let shown = run(spanprof().args(["show", "--by", by]).arg(&file));
        assert!(shown.output.lines().all(|line| line.chars().count() <= 80), "{}", shown.output);
        assert!(shown.output.contains("WAIT") && shown.output.contains("lock"), "{}", shown.output);
    }
    let json = run(spanprof().args(["show", "--json"]).arg(&file));
    let spans: serde_json::Value = serde_json::from_str(&json.output).unwrap();
    assert_eq!(spans[0]["main_wait"], "lock");
}

#[test]
fn show_reads_a_pipe_and_survives_a_reader_that_leaves() {
    let directory = tempfile::tempdir().unwrap();
    let file = support::recording(directory.path());
    let mut child =
        spanprof().args(["show", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // The reader leaves before anything was written.
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all(&std::fs::read(file).unwrap()).unwrap();
    let status = child.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(0), None));
}

#[cfg(not(feature = "demo"))]
#[test]
fn a_build_without_the_demo_says_how_to_get_it() {
    let finished = run(spanprof().arg("demo"));
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.errors.ends_with("--features demo\n"), "{finished:?}");
}

#[cfg(not(feature = "demo-rocketmq"))]
#[test]
fn a_build_without_the_demo_on_rocketmq_says_how_to_get_it() {
    let finished = run(spanprof().args(["demo", "--broker", "rocketmq"]));
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.errors.starts_with("error: this build has no demo on RocketMQ"), "{finished:?}");
    assert!(finished.errors.ends_with("--features demo-rocketmq\n"), "{finished:?}");
}

#[cfg(not(feature = "demo-kafka"))]
#[test]
fn a_build_without_the_demo_on_kafka_says_how_to_get_it() {
    let finished = run(spanprof().args(["demo", "--broker", "kafka"]));
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.errors.starts_with("error: this build has no demo on Kafka"), "{finished:?}");
    assert!(finished.errors.ends_with("--features demo-kafka\n"), "{finished:?}");
}

#[test]
fn the_summary_is_part_of_the_library() {
    // Scripts in Rust read it through the same type that wrote it.
    let summary: Summary =
        serde_json::from_str(&serde_json::to_string(&Summary::default()).unwrap()).unwrap();
    assert_eq!(summary, Summary::default());
}
