//! The examples run, write profiles that show what they do, and the handlers of one that had no profiler stay as they were.

use std::path::Path;
use std::process::Command;

use spanprof_exporter::{Profile, SampleKind, pprof};

fn profile_of(program: &str) -> Profile {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(program).env("SPANPROF_DIRECTORY", folder.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "no notes");
    let mut whole = Profile::default();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        whole.absorb(&pprof::decode(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap());
    }
    whole
}

/// Nanoseconds of a kind under a function and within spans.
fn under(profile: &Profile, kind: SampleKind, function: &str) -> u64 {
    let has_function = |location: &_| {
        profile.location(*location).frames.iter().any(|frame| frame.function.contains(function))
    };
    let samples = profile.samples().into_iter().filter(|(key, _)| {
        key.kind == kind
            && profile.labels(key.labels).iter().any(|label| &*label.key == "span_id")
            && profile.stack(key.stack).iter().any(has_function)
    });
    samples.map(|(_, value)| value.nanoseconds).sum()
}

#[test]
fn the_asynchronous_consumer_shows_its_waits_and_its_work() {
    let profile = profile_of(env!("CARGO_BIN_EXE_tokio_consumer"));
    // 40 orders, of which each waits 20 ms in its handler and 10 ms in a function that this awaits.
    let reserve = under(&profile, SampleKind::Suspended, "reserve");
    let all = under(&profile, SampleKind::Suspended, "process");
    assert!(reserve >= 40 * 10_000_000, "{reserve}");
    assert!(all - reserve >= 40 * 20_000_000, "{all} with {reserve}");
    assert!(profile.total(SampleKind::Cpu) > 0);
}

#[test]
fn the_thread_pool_shows_who_waits_for_the_lock() {
    let profile = profile_of(env!("CARGO_BIN_EXE_thread_pool_consumer"));
    // 60 times 5 ms under a lock that four threads want.
    let waiting = under(&profile, SampleKind::OffCpu, "");
    assert!(waiting >= 60 * 5_000_000, "{waiting}");
    let labels = profile.label_sets().iter().flatten();
    let destinations = labels.filter(|label| &*label.key == "messaging.destination.name").count();
    assert!(destinations > 0, "the topic is a label");
}

#[test]
fn no_handler_changes() {
    let source = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin").join(name);
        std::fs::read_to_string(path).unwrap()
    };
    let handlers = |text: &str| text[text.find("#[tracing::instrument").unwrap()..].to_owned();
    let (before, after) = (source("tokio_consumer_before.rs"), source("tokio_consumer.rs"));
    assert_eq!(handlers(&before), handlers(&after));
    let code = |text: &str| text.lines().filter(|line| !line.starts_with("//!")).count();
    assert_eq!(code(&after) - code(&before), 2, "a use and a start");
}
