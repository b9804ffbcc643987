use std::io;

use spanprof_exporter::stored::WindowMemory;
use spanprof_exporter::{Label, SampleKey, SampleKind, label};

use super::*;

fn profile(seconds: u64, destination: &str) -> Profile {
    let mut profile = Profile::default();
    profile.start_unix_nanoseconds = seconds * 1_000_000_000 + 500_000_000;
    profile.duration_nanoseconds = 10_000_000_000;
    let stack = profile.intern_stack(vec![]);
    let labels = profile.intern_labels(vec![Label::text(label::DESTINATION, destination)]);
    profile.add(SampleKey { stack, labels, kind: SampleKind::Cpu }, 7, 1);
    profile
}

fn archive(seconds: impl IntoIterator<Item = u64>, bounds: Bounds) -> Archive {
    let memory = WindowMemory::new(1 << 20);
    for seconds in seconds {
        memory.write(&profile(seconds, "orders")).unwrap();
    }
    Archive::new(Arc::new(memory), bounds)
}

fn range(from: u64, to: u64) -> Range {
    Range { from_ns: from * 1_000_000_000, to_ns: to * 1_000_000_000 }
}

fn seconds(chosen: &Chosen) -> Vec<u64> {
    chosen.windows.iter().map(|window| window.seconds).collect()
}

#[test]
fn a_range_has_the_windows_that_it_meets_and_their_sum() {
    let archive = archive([100, 110, 120, 130], Bounds::alone());
    let chosen = archive.choose(range(115, 130));
    assert_eq!((seconds(&chosen), chosen.left_out, chosen.unreadable), (vec![120, 110], 0, 0));
    let merged = archive.merged(&chosen);
    assert_eq!(merged.total(SampleKind::Cpu), 14);
    assert_eq!(merged.start_unix_nanoseconds, 110_500_000_000);
    assert_eq!(seconds(&archive.choose(Range::ALL)), [130, 120, 110, 100]);
    assert_eq!(archive.choose(range(200, 300)), Chosen::default());
}

#[test]
fn the_newest_win_and_the_others_are_counted() {
    let by_number = archive(100..110, Bounds { windows: 3, ..Bounds::alone() }).choose(Range::ALL);
    assert_eq!((seconds(&by_number), by_number.left_out), (vec![109, 108, 107], 7));
    let by_size = archive(100..110, Bounds { bytes: 1, ..Bounds::alone() }).choose(Range::ALL);
    assert_eq!((seconds(&by_size), by_size.left_out), (vec![109], 9), "one is always read");
}

#[test]
fn windows_and_lines_are_listed_as_they_were_kept() {
    let memory = WindowMemory::new(1 << 20);
    let noted = [profile(100, "orders"), profile(110, "<audit>")]
        .map(|profile| (memory.write(&profile).unwrap(), profile));
    let archive = Archive::new(Arc::new(memory), Bounds::alone());
    archive.note(noted[1].0, &noted[1].1);
    let json: serde_json::Value = serde_json::from_str(&archive.windows_json(Range::ALL)).unwrap();
    assert_eq!(json["windows"][0]["from"], 100_500);
    assert_eq!(json["windows"][1]["to"], 120_500);
    assert_eq!((&json["oldest"], &json["newest"]), (&json!(100_500), &json!(120_500)));
    assert_eq!(
        (&json["unread"], &json["unreadable"], &json["without_series"]),
        (&json!(0), &json!(0), &json!(0))
    );
    let mut lines: Vec<_> = json["series"].as_array().unwrap().iter().collect();
    lines.sort_by_key(|line| line["destination"].as_str().unwrap().to_owned());
    assert_eq!(lines[0]["destination"], "<audit>");
    assert_eq!(lines[1]["points"], json!([[100_500, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0]]));
    let json: serde_json::Value = serde_json::from_str(&archive.windows_json(range(0, 50))).unwrap();
    assert_eq!((&json["windows"], &json["series"]), (&json!([]), &json!([])));
}

#[test]
fn what_is_no_profile_is_counted_and_in_nobody_s_way() {
    let memory = WindowMemory::new(1 << 20);
    memory.write(&profile(100, "orders")).unwrap();
    memory.write_encoded(110_000_000_000, b"rubbish".to_vec()).unwrap();
    let archive = Archive::new(Arc::new(memory), Bounds::alone());
    let chosen = archive.choose(Range::ALL);
    assert_eq!((seconds(&chosen), chosen.unreadable), (vec![100], 1));
    let json: serde_json::Value = serde_json::from_str(&archive.windows_json(Range::ALL)).unwrap();
    assert_eq!((json["unreadable"].clone(), json["windows"].as_array().unwrap().len()), (json!(1), 1));
}

/// A place that is gone.
struct Gone;

impl WindowStore for Gone {
    fn list(&self) -> io::Result<Vec<StoredWindow>> {
        Err(io::Error::other("gone"))
    }

    fn read(&self, _: &StoredWindow) -> io::Result<Option<Vec<u8>>> {
        Err(io::Error::other("gone"))
    }
}

#[test]
fn a_place_that_is_gone_holds_nothing() {
    let archive = Archive::new(Arc::new(Gone), Bounds::alone());
    assert_eq!(archive.choose(Range::ALL), Chosen::default());
    let json: serde_json::Value = serde_json::from_str(&archive.windows_json(Range::ALL)).unwrap();
    assert_eq!((&json["windows"], &json["oldest"]), (&json!([]), &json!(null)));
}

#[test]
fn what_is_known_stays_bounded_and_forgets_what_is_gone() {
    let mut state = State::default();
    let window = |seconds| StoredWindow { seconds, number: 1, bytes: 1 };
    let overview = |names: std::ops::Range<u32>| {
        let class = |number: u32| SpanClass { name: number.to_string().into(), ..SpanClass::default() };
        let point = Point { count: 1, ..Point::default() };
        Overview { begin_ns: 0, end_ns: 1, classes: names.map(|number| (class(number), point)).collect() }
    };
    for seconds in 0..1_000 {
        state.learn(window(seconds), Some(overview(0..100)));
    }
    assert_eq!(state.points, MOST_POINTS);
    let kept = |state: &State, seconds| state.known[&window(seconds)].as_ref().unwrap().points.is_some();
    assert_eq!(
        [kept(&state, 0), kept(&state, 499), kept(&state, 500), kept(&state, 999)],
        [false, false, true, true]
    );
    let more = MOST_CLASSES as u32 + 9;
    state.learn(window(1_000), Some(overview(100..100 + more)));
    let newest = state.known[&window(1_000)].as_ref().unwrap().points.as_ref().unwrap();
    let without_room = u64::from(more) - (MOST_CLASSES as u64 - 101);
    assert_eq!(newest[0], (0, Point { count: without_room, ..Point::default() }));
    assert!(state.classes.len() == MOST_CLASSES && state.points <= MOST_POINTS);
    state.learn(window(999), Some(overview(0..1)));
    state.forget_all_but(&[window(999)]);
    assert_eq!((state.known.len(), state.points), (1, 1));
    state.learn(window(999), None);
    assert_eq!(state.points, 0);
}
