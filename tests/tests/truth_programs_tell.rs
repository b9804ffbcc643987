//! Every truth program runs for a second and tells a truth that agrees with itself.
//!
//! A profiler is measured against these programs, so that an error in one would pass for an error of the profiler.

use std::process::Command;

use serde_json::Value;

fn tell(program: &str, arguments: &[&str]) -> Value {
    let output = Command::new(program).args(["--seconds", "1"]).args(arguments).output().expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {} {errors}", output.status);
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{program}: {text}");
    assert_eq!(lines[0], "ready", "{program}");
    serde_json::from_str(lines[1]).expect("the truth is JSON")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no whole number"))
}

#[test]
fn depth_is_as_asked_by_the_language_s_own_unwinder() {
    for depth in ["17", "117", "317", "1000"] {
        let truth = tell(env!("CARGO_BIN_EXE_truth_depth"), &["--depth", depth, "--blocks"]);
        assert_eq!(truth["frames"], truth["depth"]);
        assert_eq!(truth["depth"].to_string(), depth);
        assert!(number(&truth["blocks"]) > 0);
        assert!(number(&truth["blocked_wall_ns"]) >= number(&truth["blocks"]) * 1_000_000);
    }
}

#[test]
fn in_a_convoy_each_waits_as_long_as_the_one_before_works() {
    let truth = tell(env!("CARGO_BIN_EXE_truth_convoy"), &[]);
    let wall = |thread: usize| number(&truth["threads"][thread]["wall_ns"]);
    let rounds = number(&truth["threads"][0]["rounds"]);
    assert!(rounds > 0 && wall(0) >= rounds * 60_000_000, "{truth}");
    assert!(wall(1) >= wall(0) * 9 / 10 && wall(2) >= wall(0) * 9 / 10, "{truth}");
}

#[test]
fn a_depth_that_cannot_be_had_is_wrong_usage() {
    let status = Command::new(env!("CARGO_BIN_EXE_truth_depth")).args(["--depth", "2"]).status().unwrap();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn split_sums_are_the_threads_cpu() {
    let truth = tell(env!("CARGO_BIN_EXE_truth_split"), &[]);
    let threads = truth["threads"].as_array().unwrap();
    assert_eq!(threads.len(), 2);
    for thread in threads {
        let in_functions = number(&thread["spin_a_cpu_ns"]) + number(&thread["spin_b_cpu_ns"]);
        let all = number(&thread["thread_cpu_ns"]);
        assert!(in_functions <= all && in_functions >= all - all / 100, "{thread}");
    }
}

#[test]
fn waits_last_as_long_as_their_partners_make_them() {
    let truth = tell(env!("CARGO_BIN_EXE_truth_offcpu"), &["--milliseconds", "2"]);
    let threads = truth["threads"].as_array().unwrap();
    assert_eq!(threads.len(), 6);
    for thread in threads {
        let spans = thread["spans"].as_array().unwrap();
        let sum = |key: &str| spans.iter().map(|span| number(&span[key])).sum::<u64>();
        let rival = thread["function"] == "wait_for_core";
        assert!(sum("count") > 0, "{thread}");
        assert!(sum("wall_ns") <= number(&thread["wall_ns"]), "{thread}");
        if rival {
            assert!(sum("cpu_ns") >= sum("count") * 5_000_000, "{thread}");
        } else {
            assert!(sum("cpu_ns") < sum("wall_ns") / 2, "{thread}");
        }
        // The partner of a lock may begin its pause a moment before the wait begins.
        if thread["function"] == "wait_in_sleep" {
            assert!(sum("wall_ns") >= sum("count") * 2_000_000, "{thread}");
        }
        let ids: Vec<&str> = spans.iter().filter_map(|span| span["span_id"].as_str()).collect();
        assert!(ids.len() == 2 && ids[0] != ids[1] && ids.iter().all(|id| id.len() == 16), "{thread}");
    }
}

#[test]
fn tags_change_in_threads_and_in_tasks() {
    let truth = tell(env!("CARGO_BIN_EXE_truth_tags"), &[]);
    assert!(number(&truth["spans"]) > number(&truth["task_spans"]));
    assert!(number(&truth["task_polls"]) > number(&truth["task_spans"]));
    assert!(number(&truth["task_spans"]) > 0);
}

#[test]
fn spans_take_their_cpu_time_and_their_waits() {
    let truth = tell(env!("CARGO_BIN_EXE_truth_equation"), &[]);
    for name in ["stays", "leaves"] {
        let spans = truth[name].as_array().unwrap();
        assert!(!spans.is_empty());
        for span in spans {
            assert!(number(&span["cpu_ns"]) + number(&span["without_thread_ns"]) < number(&span["wall_ns"]));
        }
    }
}

#[test]
fn the_ping_pong_switches_twice_a_round_whoever_writes() {
    for (program, arguments, writer) in [
        (env!("CARGO_BIN_EXE_truth_pingpong"), &[] as &[&str], "ours"),
        (env!("CARGO_BIN_EXE_truth_pingpong"), &["--writer", "none"], "none"),
        (env!("CARGO_BIN_EXE_truth_pingpong_foreign"), &[], "foreign"),
        (env!("CARGO_BIN_EXE_truth_unrelated"), &[], "none"),
    ] {
        let truth = tell(program, arguments);
        let rounds = number(&truth["rounds"]);
        assert!(rounds > 0);
        assert!(number(&truth["switches"]) >= rounds * 19 / 10, "{truth}");
        assert_eq!(truth["writer"], writer);
    }
}

#[test]
fn both_writers_make_their_process_readable() {
    for program in [env!("CARGO_BIN_EXE_truth_pingpong"), env!("CARGO_BIN_EXE_truth_pingpong_foreign")] {
        let mut child = Command::new(program)
            .args(["--seconds", "60", "--hold"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).expect("a line");
        let found = spanprof_context::process::read(child.id());
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        assert_eq!(line, "ready\n");
        let found = found.expect("readable").expect("published");
        assert!(found.context.has_thread_records(), "{program}: {:?}", found.context);
        assert!(found.context.key_map().index(spanprof_context::Key::LocalRootSpanId).is_some(), "{program}");
    }
}

#[test]
fn glibc_signals_and_libraries() {
    let truth = tell(env!("CARGO_BIN_EXE_truth_malloc"), &[]);
    assert!(number(&truth["rounds"]) > 0);

    let truth = tell(env!("CARGO_BIN_EXE_truth_signal"), &[]);
    assert!(number(&truth["handled"]) > 0);
    assert!(number(&truth["handler_cpu_ns"]) >= number(&truth["handled"]) * 1_000_000);
    assert!(number(&truth["handler_cpu_ns"]) <= number(&truth["thread_cpu_ns"]));

    let truth = tell(env!("CARGO_BIN_EXE_truth_dlopen"), &["--cycle-milliseconds", "100"]);
    assert!(number(&truth["cycles"]) > 1);
    assert_eq!(truth["cycles"], truth["unmapped_after_close"]);
}

#[test]
fn processes_and_threads() {
    let truth = tell(env!("CARGO_BIN_EXE_truth_forkexec"), &["--rate", "100"]);
    assert!(number(&truth["children"]) > 0);
    assert_eq!(truth["failed"], 0);

    let truth = tell(env!("CARGO_BIN_EXE_truth_threads"), &["--threads", "200"]);
    assert!(number(&truth["rounds"]) > 0);
    assert!(number(&truth["work_cpu_ns"]) >= number(&truth["rounds"]) * 100_000);
}

#[test]
fn a_signal_ends_a_program_early_and_it_still_tells() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_truth_split"))
        .args(["--seconds", "600"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut output = std::io::BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut output, &mut line).expect("a line");
    let terminated = Command::new("kill").arg(child.id().to_string()).status().expect("kill runs");
    assert!(terminated.success());
    line.clear();
    std::io::BufRead::read_line(&mut output, &mut line).expect("a line");
    assert!(child.wait().expect("it ends").success());
    assert_eq!(serde_json::from_str::<Value>(&line).expect("the truth")["program"], "truth_split");
}
