use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;
use spanprof_symbolizer::{Frame, FrameKind};

use super::*;
use crate::idle::{BLOCKED_BEFORE_CAPTURE, WAITING_WITHOUT_SPAN};
use crate::{Label, SampleKey, label};

fn frame(function: &str, line: u32, kind: FrameKind) -> Frame {
    Frame {
        function: function.into(),
        system_name: function.into(),
        file: Some(Arc::from("a.rs")),
        line,
        kind,
    }
}

/// Adds time to a stack, given root first, one location each.
fn add(profile: &mut Profile, stack: &[Frame], labels: &[Label], kind: SampleKind, nanoseconds: u64) {
    let locations = stack
        .iter()
        .rev()
        .map(|frame| {
            profile.intern_location(Location { module: None, address: 0, frames: vec![frame.clone()] })
        })
        .collect();
    let stack = profile.intern_stack(locations);
    let labels = profile.intern_labels(labels.to_vec());
    profile.add(SampleKey { stack, labels, kind }, nanoseconds, 1);
}

fn read(profile: &Profile) -> Value {
    serde_json::from_str(&to_json(profile, &PageDetails::default())).expect("the page's data is JSON")
}

fn column(data: &Value, table: &str, name: &str) -> Vec<i64> {
    data[table][name].as_array().unwrap().iter().map(|value| value.as_i64().unwrap()).collect()
}

fn text(data: &Value, position: i64) -> &str {
    data["strings"][position as usize].as_str().unwrap()
}

#[test]
fn stacks_are_a_tree_with_parents_first_and_inlined_functions_inside() {
    let mut profile = Profile::default();
    let inlined = Location {
        module: None,
        address: 1,
        frames: vec![frame("inner", 3, FrameKind::Rust), frame("outer", 2, FrameKind::Rust)],
    };
    let main = Location { module: None, address: 0, frames: vec![frame("main", 1, FrameKind::Rust)] };
    let (inlined, main) = (profile.intern_location(inlined), profile.intern_location(main));
    let labels = profile.intern_labels(vec![]);
    for stack in [vec![inlined, main], vec![main]] {
        let stack = profile.intern_stack(stack);
        profile.add(SampleKey { stack, labels, kind: SampleKind::Cpu }, 5, 1);
    }
    let data = read(&profile);
    let parent = column(&data, "nodes", "parent");
    assert!(parent.iter().enumerate().all(|(node, parent)| *parent < node as i64));
    assert_eq!(parent, [-1, 0, 1]);
    let names: Vec<&str> = column(&data, "nodes", "function")
        .iter()
        .map(|function| text(&data, column(&data, "functions", "name")[*function as usize]))
        .collect();
    assert_eq!(names, ["main", "outer", "inner"]);
    assert_eq!(column(&data, "nodes", "line"), [1, 2, 3]);
    assert_eq!(column(&data, "samples", "node"), [2, 0]);
}

#[test]
fn call_sites_of_one_function_share_it_and_kinds_of_code_are_flagged() {
    let mut profile = Profile::default();
    for line in [1, 2] {
        let stack = [
            frame("tokio::runtime::park", 0, FrameKind::Rust),
            frame("own", line, FrameKind::Rust),
            frame("schedule", 0, FrameKind::Kernel),
            frame("[stack truncated]", 0, FrameKind::Synthetic),
        ];
        add(&mut profile, &stack, &[], SampleKind::OffCpu, 1);
    }
    let data = read(&profile);
    assert_eq!(column(&data, "functions", "flags"), [1, 0, 2, 4]);
    assert_eq!(column(&data, "nodes", "parent").len(), 7);
}

#[test]
fn a_span_is_one_row_however_late_its_name_was_known() {
    let mut profile = Profile::default();
    let own = [frame("own", 1, FrameKind::Rust)];
    let id = [Label::text(label::SPAN_ID, "00000000000000a0"), Label::text(label::TRACE_ID, "0af7")];
    add(&mut profile, &own, &id, SampleKind::Cpu, 1);
    let named: Vec<Label> = id.iter().cloned().chain([Label::text(label::SPAN_NAME, "process")]).collect();
    add(&mut profile, &own, &named, SampleKind::OffCpu, 7);
    for nanoseconds in [2, 3] {
        add(&mut profile, &own, &[Label::text(label::DESTINATION, "orders")], SampleKind::Cpu, nanoseconds);
    }
    add(&mut profile, &own, &[], SampleKind::Cpu, 4);
    let data = read(&profile);
    assert_eq!(column(&data, "spans", "span_id").len(), 2, "one with an id, one folded");
    let single = column(&data, "spans", "span_id").iter().position(|id| *id >= 0).unwrap();
    assert_eq!(text(&data, column(&data, "spans", "name")[single]), "process");
    assert_eq!(column(&data, "spans", "kind")[single], 1);
    assert_eq!(text(&data, column(&data, "spans", "cause")[single]), "blocked in own");
    assert_eq!(data["spans"]["share"][single], 0.875);
    assert_eq!(column(&data, "samples", "span").iter().filter(|span| **span < 0).count(), 1);
}

#[test]
fn idle_threads_are_marked_and_nothing_else() {
    let mut profile = Profile::default();
    let waiting = [frame(WAITING_WITHOUT_SPAN, 0, FrameKind::Synthetic)];
    let thread = |id| vec![Label::number(label::THREAD_ID, id)];
    for id in [7, 8] {
        add(&mut profile, &waiting, &thread(id), SampleKind::OffCpu, 5);
    }
    let before = [frame(BLOCKED_BEFORE_CAPTURE, 0, FrameKind::Synthetic)];
    // A trace without a span is no row of the page, and still not idle.
    let traced = [thread(7), vec![Label::text(label::TRACE_ID, "0af7")]].concat();
    add(&mut profile, &waiting, &traced, SampleKind::OffCpu, 11);
    add(&mut profile, &before, &thread(7), SampleKind::OffCpu, 13);
    add(&mut profile, &[frame("own", 1, FrameKind::Rust)], &thread(7), SampleKind::OffCpu, 17);
    let data = read(&profile);
    let nanoseconds = column(&data, "samples", "nanoseconds");
    let mut times: Vec<i64> = data["idle_samples"]
        .as_array()
        .unwrap()
        .iter()
        .map(|at| nanoseconds[at.as_u64().unwrap() as usize])
        .collect();
    times.sort_unstable();
    assert_eq!(times, [5, 5]);
    assert_eq!(nanoseconds.iter().sum::<i64>(), 51);
}

#[test]
fn causes_are_those_of_the_command_line() {
    let mut profile = Profile::default();
    let stack =
        [frame("orders::reserve", 1, FrameKind::Rust), frame("std::sync::Mutex::lock", 1, FrameKind::Rust)];
    let labels = [Label::text(label::SPAN_ID, "00000000000000a0"), Label::text(label::WAIT, "futex")];
    add(&mut profile, &stack, &labels, SampleKind::OffCpu, 9);
    let data = read(&profile);
    let cause = text(&data, column(&data, "spans", "cause")[0]);
    assert_eq!(cause, crate::analysis::spans(&profile)[0].main_cause);
}

#[test]
fn long_names_are_cut_and_say_so() {
    let mut profile = Profile::default();
    let long = "é".repeat(64 * 1024);
    add(&mut profile, &[frame(&long, 1, FrameKind::Native)], &[], SampleKind::Cpu, 1);
    let data = read(&profile);
    let shown = text(&data, column(&data, "functions", "name")[0]);
    assert!(shown.starts_with(&"é".repeat(LONGEST_TEXT)) && shown.ends_with("… (131072 bytes)"), "{shown}");
    assert!(shown.chars().count() < LONGEST_TEXT + 30);
}

#[test]
fn details_are_carried() {
    let loss = |amount| super::super::Loss { cause: "<lost>".into(), amount };
    let losses = vec![loss(LossAmount::Count(u64::MAX)), loss(LossAmount::Nanoseconds(7))];
    let details =
        PageDetails { title: "<b>".into(), source: "source".into(), losses, ..PageDetails::default() };
    let json = to_json(&Profile::default(), &details);
    assert!(!json.contains('<'));
    let data: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(data["title"], "<b>");
    assert_eq!(data["losses"][0], serde_json::json!(["<lost>", u64::MAX, "count"]));
    assert_eq!(data["losses"][1], serde_json::json!(["<lost>", 7, "nanoseconds"]));
}

proptest! {
    /// Whatever is in a profile, the page's sums per kind are the profile's, names survive as they were, and
    /// the block cannot be ended from inside.
    #[test]
    fn sums_and_names_survive(
        samples in prop::collection::vec(
            (prop::collection::vec("[<>/a-c\"'&\\\\\u{0}\u{2028}\u{202e}]{1,9}", 0..5), "[<s!-]{0,4}", 0..SampleKind::ALL.len(), 0_u64..1 << 40),
            0..40,
        )
    ) {
        let mut profile = Profile::default();
        for (stack, span, kind, nanoseconds) in &samples {
            let stack: Vec<Frame> = stack.iter().map(|name| frame(name, 1, FrameKind::Rust)).collect();
            let labels = [Label::text(label::SPAN_ID, span.as_str()), Label::text(label::THREAD_NAME, span.as_str())];
            add(&mut profile, &stack, &labels, SampleKind::ALL[*kind], *nanoseconds);
        }
        let json = to_json(&profile, &PageDetails::default());
        prop_assert!(!json.contains('<'));
        let data: Value = serde_json::from_str(&json).unwrap();
        let kinds = column(&data, "samples", "kind");
        let times = column(&data, "samples", "nanoseconds");
        for kind in SampleKind::ALL {
            let sum: i64 = kinds.iter().zip(&times).filter(|(of, _)| **of == i64::from(position_of(kind))).map(|(_, time)| time).sum();
            prop_assert_eq!(sum as u64, profile.total(kind));
        }
        let names: Vec<&str> = column(&data, "functions", "name").into_iter().map(|name| text(&data, name)).collect();
        for location in profile.locations() {
            prop_assert!(names.contains(&&*location.frames[0].function));
        }
        for table in ["nodes", "samples", "spans", "threads", "functions"] {
            let lengths: Vec<usize> = data[table].as_object().unwrap().values().map(|column| column.as_array().unwrap().len()).collect();
            prop_assert!(lengths.windows(2).all(|pair| pair[0] == pair[1]), "{} {:?}", table, lengths);
        }
    }
}
