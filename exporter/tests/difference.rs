//! Differences of messages and recordings whose truth is known.

use std::sync::Arc;

use proptest::prelude::*;
use spanprof_exporter::analysis::{Difference, Messages, Side, Sums, messages};
use spanprof_exporter::idle::WAITING_WITHOUT_SPAN;
use spanprof_exporter::svg::{DifferencePart, differential_flame_graph};
use spanprof_exporter::{Label, Location, Profile, SampleKey, SampleKind, label};
use spanprof_symbolizer::{Frame, FrameKind};

const MILLISECOND: u64 = 1_000_000;

#[derive(Default)]
struct Maker(Profile);

impl Maker {
    /// Adds time to a stack (leaf first).
    fn add(&mut self, stack: &[&str], labels: Vec<Label>, kind: SampleKind, nanoseconds: u64) {
        let locations = stack.iter().map(|name| {
            let name: Arc<str> = (*name).into();
            let frame = Frame {
                function: name.clone(),
                system_name: name.clone(),
                file: None,
                line: 0,
                kind: if name.starts_with('[') { FrameKind::Synthetic } else { FrameKind::Rust },
            };
            self.0.intern_location(Location { module: None, address: 0, frames: vec![frame] })
        });
        let stack = locations.collect();
        let stack = self.0.intern_stack(stack);
        let labels = self.0.intern_labels(labels);
        self.0.add(SampleKey { stack, labels, kind }, nanoseconds, 1);
    }

    /// 3 slow messages that waited 400 ms for a lock, 100 normal ones that waited 1 ms, and 2 that failed. Each parsed
    /// 2 ms; the slow ones waited for a CPU for 8 ms, too.
    fn orders() -> Maker {
        let mut maker = Maker::default();
        let lock = ["std::sync::poison::mutex::Mutex<T>::lock", "orders::reserve", "orders::handle"];
        for (first, count, kept, waited) in
            [(0, 3, Some("slow"), 400), (100, 100, None, 1), (300, 2, Some("failed"), 3)]
        {
            for number in first..first + count {
                let labels = || span(number, kept);
                maker.add(&lock, labels(), SampleKind::OffCpu, waited * MILLISECOND);
                let parse = ["orders::parse", "orders::handle"];
                maker.add(&parse, labels(), SampleKind::Cpu, 2 * MILLISECOND);
                if kept == Some("slow") {
                    maker.add(&lock, labels(), SampleKind::RunQueue, 8 * MILLISECOND);
                }
            }
        }
        maker
    }
}

fn span(number: u64, kept: Option<&str>) -> Vec<Label> {
    let mut labels = vec![
        Label::text(label::TRACE_ID, format!("{number:032x}")),
        Label::text(label::SPAN_ID, format!("{number:016x}")),
        Label::text(label::SERVICE_NAME, "consumer"),
        Label::text(label::DESTINATION, "orders"),
        Label::text(label::CONSUMER_GROUP, "billing"),
        Label::text(label::OPERATION, "process"),
    ];
    labels.extend(kept.map(|kept| Label::text(label::KEPT, kept)));
    labels
}

fn slow<'a>(messages: &'a Messages<'a>) -> Difference<'a> {
    Difference { subject: &messages.slow, baseline: &messages.normal }
}

#[test]
fn slow_messages_wait_for_the_lock() {
    let profile = Maker::orders().0;
    let classes = messages(&profile);
    assert_eq!(classes.len(), 1);
    let class = &classes[0].class;
    let texts = [&class.destination, &class.consumer_group, &class.operation, &class.service];
    assert_eq!(texts.map(|text| text.as_deref().unwrap()), ["orders", "billing", "process", "consumer"]);
    let amounts = [&classes[0].slow, &classes[0].normal, &classes[0].failed].map(Side::amount);
    assert_eq!(amounts, [3.0, 100.0, 2.0]);

    let difference = slow(&classes[0]);
    assert_eq!(difference.more(difference.total()), (410 - 3) as f64 * 1e6);
    let kinds: Vec<_> =
        difference.by_kind().iter().map(|(kind, sums)| (*kind, difference.more(*sums) / 1e6)).collect();
    assert_eq!(kinds, [(SampleKind::Cpu, 0.0), (SampleKind::OffCpu, 399.0), (SampleKind::RunQueue, 8.0)]);
    let causes = difference.causes();
    let said: Vec<_> =
        causes.iter().map(|cause| (cause.cause.as_str(), difference.more(cause.sums) / 1e6)).collect();
    assert_eq!(
        said,
        [
            ("waiting for a lock in orders::reserve (std::sync::Mutex::lock)", 399.0),
            ("ready to run but not running in orders::reserve (std::sync::Mutex::lock)", 8.0),
            ("running orders::parse", 0.0),
        ]
    );
    assert_eq!(causes[0].sums, Sums { subject_ns: 1_200 * MILLISECOND, baseline_ns: 100 * MILLISECOND });
    assert_eq!(causes[0].kind, SampleKind::OffCpu);
}

#[test]
fn functions_of_the_application_come_before_the_runtimes() {
    let profile = Maker::orders().0;
    let classes = messages(&profile);
    let difference = slow(&classes[0]);
    let functions = difference.functions();
    let said: Vec<_> = functions
        .iter()
        .map(|of| {
            let [total, own] = [of.total, of.own].map(|sums| difference.more(sums) / 1e6);
            (&*of.function, of.is_runtime, total, own)
        })
        .collect();
    assert_eq!(
        said,
        [
            ("orders::handle", false, 407.0, 0.0),
            ("orders::reserve", false, 407.0, 0.0),
            ("orders::parse", false, 0.0, 0.0),
            ("std::sync::poison::mutex::Mutex<T>::lock", true, 407.0, 407.0),
        ]
    );
}

#[test]
fn a_span_found_slow_in_its_last_window_is_slow_in_all() {
    let mut windows = Vec::new();
    for (kept, waited) in [(None, 30), (Some("slow"), 70)] {
        let mut maker = Maker::default();
        maker.add(&["orders::reserve"], span(7, kept), SampleKind::OffCpu, waited * MILLISECOND);
        windows.push(maker.0);
    }
    windows.reverse();
    for _ in 0..2 {
        windows.reverse();
        let mut whole = Profile::default();
        windows.iter().for_each(|window| whole.absorb(window));
        let classes = messages(&whole);
        assert_eq!((classes.len(), classes[0].slow.amount(), classes[0].normal.amount()), (1, 1.0, 0.0));
        assert_eq!(classes[0].slow.times().off_cpu_ns, 100 * MILLISECOND);
    }
}

#[test]
fn a_span_whose_destination_one_window_does_not_know_is_in_one_class() {
    let mut maker = Maker::default();
    maker.add(&["orders::parse"], span(7, None), SampleKind::Cpu, MILLISECOND);
    let mut without = span(7, None);
    without.retain(|label| !label.key.starts_with("messaging."));
    maker.add(&["orders::reserve"], without, SampleKind::OffCpu, 90 * MILLISECOND);
    let classes = messages(&maker.0);
    assert_eq!((classes.len(), classes[0].class.destination.as_deref()), (1, Some("orders")));
    assert_eq!(classes[0].normal.times().total_ns(), 91 * MILLISECOND);
}

#[test]
fn names_tell_spans_apart_only_where_no_destination_does() {
    let mut maker = Maker::default();
    for (number, destination) in [(1, Some("orders")), (2, Some("orders")), (3, None), (4, None)] {
        let mut labels = vec![
            Label::text(label::SPAN_ID, format!("{number:016x}")),
            Label::text(label::SPAN_NAME, format!("order {number}")),
        ];
        labels.extend(destination.map(|destination| Label::text(label::DESTINATION, destination)));
        maker.add(&["orders::handle"], labels, SampleKind::Cpu, 1);
    }
    // Neither without an id, nor kept for a reason that nobody knows, nor without time.
    maker.add(&["orders::handle"], vec![Label::text(label::DESTINATION, "orders")], SampleKind::Cpu, 1);
    maker.add(&["orders::handle"], span(5, Some("by chance")), SampleKind::Cpu, 1);
    maker.add(&["orders::handle"], span(6, None), SampleKind::Cpu, 0);
    let classes = messages(&maker.0);
    let found = classes.iter().map(|messages| {
        let class = &messages.class;
        (class.destination.as_deref(), class.span_name.as_deref(), messages.normal.amount())
    });
    let found: Vec<_> = found.collect();
    assert_eq!(
        found,
        [(None, Some("order 3"), 1.0), (None, Some("order 4"), 1.0), (Some("orders"), None, 2.0)]
    );
}

#[test]
fn recordings_are_compared_by_the_second_without_idle_threads() {
    let recording = |parsed: u64, idle: u64| {
        let mut maker = Maker::default();
        maker.add(&["orders::parse"], span(1, None), SampleKind::Cpu, parsed * MILLISECOND);
        maker.add(
            &["payments::ask"],
            vec![Label::text(label::DESTINATION, "payments")],
            SampleKind::OffCpu,
            40 * MILLISECOND,
        );
        let thread = vec![Label::number(label::THREAD_ID, 7)];
        maker.add(&[WAITING_WITHOUT_SPAN], thread, SampleKind::OffCpu, idle * MILLISECOND);
        maker.0
    };
    let (before, after) = (recording(1_000, 9_000), recording(1_000, 4_000));
    let sides = [(&before, 10.0), (&after, 5.0)]
        .map(|(profile, seconds)| Side::of_recording(profile, seconds, None, None));
    let difference = Difference { subject: &sides[1], baseline: &sides[0] };
    let said: Vec<_> = difference
        .causes()
        .iter()
        .map(|cause| (cause.cause.clone(), difference.more(cause.sums) / 1e6))
        .collect();
    assert_eq!(said, [("running orders::parse".into(), 100.0), ("blocked in payments::ask".into(), 4.0)]);
    let only = Side::of_recording(&before, 10.0, Some("orders"), Some("billing"));
    assert_eq!((only.times().cpu_ns, only.times().off_cpu_ns), (1_000 * MILLISECOND, 0));
    assert_eq!(Side::of_recording(&before, 10.0, None, Some("nobody")).times().total_ns(), 0);
}

#[test]
fn the_flame_graph_is_red_where_slow_messages_spend_more() {
    let profile = Maker::orders().0;
    let classes = messages(&profile);
    let part = DifferencePart { name: "orders; billing".into(), difference: slow(&classes[0]) };
    let draw = |parts: &[_]| differential_flame_graph(parts, "slow", "red: more", "message").unwrap();
    let svg = draw(&[part]).unwrap();
    assert!(svg.contains("orders: billing (410,000 µs per message, 100.00%; 0.00%)"), "{svg}");
    let tile = |title: &str| {
        let start = svg.find(&format!("<title>{title}")).unwrap_or_else(|| panic!("{title}: {svg}"));
        svg[start..].split("</g>").next().unwrap().to_owned()
    };
    let blocked = tile("[off_cpu] (400,000 µs per message, 97.56%; +97.32%)");
    assert!(blocked.contains("fill=\"rgb(255,100,100)\""), "{blocked}");
    let running = tile("[cpu] (2,000 µs per message, 0.49%; 0.00%)");
    assert!(running.contains("fill=\"rgb(250,250,250)\""), "{running}");

    let none = Side::of_recording(&profile, 1.0, Some("nothing"), None);
    let nothing = Difference { subject: &none, baseline: &classes[0].normal };
    assert_eq!(draw(&[DifferencePart { name: "nothing".into(), difference: nothing }]), None);
    assert_eq!(draw(&[]), None);
}

#[test]
fn the_flame_graph_survives_times_that_cannot_be() {
    for (nanoseconds, can_be) in [(u64::MAX, false), (1 << 62, true), (1, true)] {
        let mut maker = Maker::default();
        for (number, kept) in [(1, Some("slow")), (2, None)] {
            maker.add(&["a"], span(number, kept), SampleKind::Cpu, nanoseconds);
            maker.add(&["b 7"], span(number, kept), SampleKind::OffCpu, 3);
        }
        let classes = messages(&maker.0);
        let parts = [DifferencePart { name: "7".into(), difference: slow(&classes[0]) }];
        let drawn = differential_flame_graph(&parts, "", "", "message");
        assert_eq!(drawn.is_ok(), can_be, "{nanoseconds}");
    }
}

/// Any sample: which span (none: without an id), which label `kept`, which destination, stack, kind and time.
fn samples() -> impl Strategy<Value = Vec<(Option<u64>, usize, usize, usize, usize, u64)>> {
    let sample = (
        proptest::option::of(0..8_u64),
        0..4_usize,
        0..3_usize,
        0..5_usize,
        0..SampleKind::ALL.len(),
        0..u64::MAX >> 16,
    );
    proptest::collection::vec(sample, 0..60)
}

proptest! {
    #[test]
    fn parts_add_up_to_the_whole(samples in samples()) {
        const KEPT: [Option<&str>; 4] = [None, Some("slow"), Some("failed"), Some("unheard of")];
        const DESTINATIONS: [&str; 3] = ["orders", "payments", "audit"];
        const STACKS: [&[&str]; 5] =
            [&["a", "main"], &["a", "a", "main"], &["std::thread::sleep", "b"], &["[note]"], &["b"]];
        let mut maker = Maker::default();
        let (mut all, mut unknown): (u128, Vec<u64>) = (0, Vec::new());
        for (number, kept, destination, stack, kind, nanoseconds) in &samples {
            let mut labels = vec![Label::text(label::DESTINATION, DESTINATIONS[*destination])];
            if let Some(number) = number {
                labels.push(Label::text(label::SPAN_ID, format!("{number:016x}")));
                labels.extend(KEPT[*kept].map(|kept| Label::text(label::KEPT, kept)));
                if *kept == 3 {
                    unknown.push(*number);
                }
            }
            maker.add(STACKS[*stack], labels, SampleKind::ALL[*kind], *nanoseconds);
        }
        for (number, .., nanoseconds) in &samples {
            if number.is_some_and(|number| !unknown.contains(&number)) {
                all += u128::from(*nanoseconds);
            }
        }
        let classes = messages(&maker.0);
        let mut seen = 0_u128;
        for messages in &classes {
            for side in [&messages.normal, &messages.slow, &messages.failed] {
                seen += u128::from(side.times().total_ns());
                prop_assert_eq!(side.amount() > 0.0, side.times().total_ns() > 0);
            }
            for subject in [&messages.slow, &messages.failed] {
                let difference = Difference { subject, baseline: &messages.normal };
                let total = difference.total();
                let kinds: Vec<Sums> = difference.by_kind().iter().map(|(_, sums)| *sums).collect();
                let causes: Vec<Sums> = difference.causes().iter().map(|cause| cause.sums).collect();
                let own: Vec<Sums> = difference.functions().iter().map(|function| function.own).collect();
                for parts in [kinds, causes, own] {
                    // Times over as many messages as the other side has: what both means are divided by.
                    let more = |sums: Sums| {
                        i128::from(sums.subject_ns) * messages.normal.amount() as i128
                            - i128::from(sums.baseline_ns) * subject.amount() as i128
                    };
                    prop_assert_eq!(parts.iter().map(|sums| more(*sums)).sum::<i128>(), more(total));
                    let of = |side: fn(&Sums) -> u64| parts.iter().map(side).sum::<u64>();
                    prop_assert_eq!(of(|sums| sums.subject_ns), total.subject_ns);
                    prop_assert_eq!(of(|sums| sums.baseline_ns), total.baseline_ns);
                }
            }
        }
        prop_assert_eq!(seen, all);
    }
}
