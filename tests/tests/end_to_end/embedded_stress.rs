//! Everything at once that a profiler inside a process can break, while the process profiles itself 999 times a second.

use serde_json::Value;

use crate::capturing::wait_for_turn;
use crate::self_profiled::Folder;
use crate::truth::{Truth, list, number};

#[test]
fn a_service_survives_its_own_profile() {
    let _turn = wait_for_turn();
    assert_survives(20, 2_000);
}

#[test]
#[ignore = "takes ten minutes; the test above is its short form"]
fn a_service_survives_its_own_profile_for_ten_minutes_and_100_000_threads() {
    let _turn = wait_for_turn();
    assert_survives(600, 100_000);
}

fn assert_survives(seconds: u64, brief_threads: u64) {
    let folder = Folder::new();
    let arguments = ["--directory", folder.path(), "--hertz", "999"];
    let mut truth = Truth::start(env!("CARGO_BIN_EXE_stress_embedded"), seconds, &arguments);
    truth.begin();
    // A worker that hangs or finds an error ends the program, so that there is no truth.
    let told = truth.wait();
    eprintln!("{told}");
    assert_eq!(list(&told["notes"]), [] as [Value; 0], "this machine allows everything");
    for (worker, rounds) in told["rounds"].as_object().expect("rounds by worker") {
        assert!(number(rounds) > seconds, "{worker} made {rounds} rounds in {seconds} s");
    }
    assert!(number(&told["brief_threads"]) >= brief_threads, "{told}");
    assert!(number(&told["libraries_unmapped"]) > 0, "{told}");
    let profiles = folder.read();
    eprintln!("{} windows; losses: {:#?}", profiles.windows(), profiles.losses());
    assert!(profiles.windows() as u64 >= seconds / 2, "{} windows in {seconds} s", profiles.windows());
    assert!(profiles.samples().iter().any(|sample| sample.passes("plugin_leaf")), "no sample of the plug-in");
}
