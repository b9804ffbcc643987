mod clients;

use std::sync::Arc;

use proptest::prelude::*;
use spanprof_symbolizer::FrameKind;

use super::*;
use crate::profile::{LabelValue, Location, SampleKey};

/// A stack of names, leaf first: `k:` marks the kernel's, `c:` C and C++, `j:` Java, brackets notes; all others are Rust.
fn stack(profile: &mut Profile, names: &[&str]) -> StackId {
    let locations = names.iter().map(|name| {
        let (kind, name) = match name.split_at_checked(2) {
            Some(("k:", name)) => (FrameKind::Kernel, name),
            Some(("c:", name)) => (FrameKind::Native, name),
            Some(("j:", name)) => (FrameKind::Jvm, name),
            _ if name.starts_with('[') => (FrameKind::Synthetic, *name),
            _ => (FrameKind::Rust, *name),
        };
        let function: Arc<str> = Arc::from(name);
        let frame = Frame { system_name: function.clone(), function, file: None, line: 0, kind };
        profile.intern_location(Location { module: None, address: 0, frames: vec![frame] })
    });
    let locations = locations.collect();
    profile.intern_stack(locations)
}

fn is_queue(kind: SampleKind) -> bool {
    matches!(kind, SampleKind::RunQueue | SampleKind::Ready)
}

fn waited(names: &[&str], kind: SampleKind, activity: Activity) -> Option<Wait> {
    let mut profile = Profile::default();
    let stack = stack(&mut profile, names);
    wait_of(&profile, stack, kind, activity)
}

/// The kernel's frames above a system call that blocked, and the C library's below it.
fn futex<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    let kernel = ["k:__schedule", "k:schedule", "k:futex_do_wait", "k:do_futex", "k:__x64_sys_futex"];
    [&kernel, rest].concat()
}

fn epoll<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    let kernel = ["k:__schedule", "k:ep_poll", "k:do_epoll_wait", "k:__x64_sys_epoll_wait"];
    [&kernel, &["c:epoll_wait"][..], rest].concat()
}

fn poll<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    let kernel = ["k:__schedule", "k:poll_schedule_timeout", "k:do_sys_poll", "k:__x64_sys_poll"];
    [&kernel, &["c:__GI___poll"][..], rest].concat()
}

#[test]
fn what_no_client_explains() {
    use Activity::*;
    let worker = "<tokio::runtime::scheduler::multi_thread::park::Parker>::park";
    let receive = [
        "syscall",
        "<std::sync::mpmc::list::Channel<T>>::recv",
        "<std::sync::mpsc::Receiver<T>>::recv",
        "orders::next",
    ];
    for (names, activity, expected) in [
        (epoll(&["<mio::poll::Poll>::poll", worker]), Idle, Wait::QueueEmpty),
        (
            futex(&["syscall", "parking_lot::condvar::Condvar::wait_until_internal", worker]),
            Untold,
            Wait::QueueEmpty,
        ),
        (
            futex(&["syscall", "parking_lot::condvar::Condvar::wait_until_internal", worker]),
            Span,
            Wait::Condition,
        ),
        (futex(&receive), Idle, Wait::QueueEmpty),
        (futex(&receive), Span, Wait::Channel),
        (futex(&receive), Untold, Wait::Channel),
        (futex(&receive), Receiving, Wait::LongPoll),
        (
            futex(&["syscall", "<crossbeam_channel::flavors::array::Channel<T>>::send", "orders::hand_over"]),
            Idle,
            Wait::FlowControl,
        ),
        (
            futex(&[
                "<parking_lot_core::parking_lot::ThreadParker>::park",
                "parking_lot::raw_mutex::RawMutex::lock_slow",
                "orders::f",
            ]),
            Asking,
            Wait::Lock,
        ),
        (epoll(&["orders::serve"]), Untold, Wait::Events),
        (epoll(&["orders::serve"]), Idle, Wait::QueueEmpty),
        // A futex that no function explains may be anything, also what the operation waits for.
        (futex(&["syscall", "orders::spin"]), Span, Wait::Unknown),
        (futex(&["syscall", "orders::spin"]), Asking, Wait::BrokerReply),
        (futex(&["c:[unknown]+0x7f00"]), Untold, Wait::Unknown),
        (vec!["k:futex_lock_pi", "k:__x64_sys_futex", "orders::spin"], Asking, Wait::Lock),
        (vec!["k:do_exit"], Span, Wait::Unknown),
        (vec!["[blocked since before the capture]"], Receiving, Wait::Unknown),
        (vec!["[waiting without a span]"], Idle, Wait::Unknown),
        (vec![], Asking, Wait::Unknown),
    ] {
        assert_eq!(waited(&names, SampleKind::OffCpu, activity), Some(expected), "{activity:?} {names:?}");
    }
}

#[test]
fn the_run_queue_is_one_and_running_is_no_wait() {
    for activity in [Activity::Untold, Activity::Idle, Activity::Span, Activity::Asking, Activity::Receiving]
    {
        assert_eq!(waited(&["orders::f"], SampleKind::RunQueue, activity), Some(Wait::RunQueue));
        assert_eq!(waited(&["orders::f"], SampleKind::Ready, activity), Some(Wait::RunQueue));
        assert_eq!(waited(&["orders::f"], SampleKind::Cpu, activity), None);
    }
}

#[test]
fn operations_are_those_of_our_conventions() {
    for (operation, expected) in [
        (Some("send"), Activity::Asking),
        (Some("publish"), Activity::Asking),
        (Some("commit"), Activity::Asking),
        (Some("ack"), Activity::Asking),
        (Some("poll"), Activity::Receiving),
        (Some("receive"), Activity::Receiving),
        (Some("process"), Activity::Span),
        (Some("create"), Activity::Span),
        (None, Activity::Span),
    ] {
        assert_eq!(Activity::in_span(operation), expected, "{operation:?}");
    }
    assert_eq!(Activity::of(&[]), Activity::Untold);
    assert_eq!(Activity::of(&[Label::text(label::OPERATION, "poll")]), Activity::Receiving);
    assert_eq!(Activity::of(&[Label::text(label::SPAN_ID, "00000000000000a0")]), Activity::Span);
}

#[test]
fn values_are_short_distinct_and_read_back() {
    for (position, wait) in Wait::ALL.into_iter().enumerate() {
        assert_eq!(wait as usize, position, "the order of declaration");
        assert_eq!(Wait::named(wait.as_str()), Some(wait));
        assert!(wait.as_str().len() <= 12, "{wait:?} has a column");
        assert!(wait.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
    }
    assert_eq!(Wait::named("futex"), None);
    let table = include_str!("../waits.rs");
    assert!(Wait::ALL.iter().all(|wait| table.contains(&format!("//! | `{}` |", wait.as_str()))));
}

#[test]
fn a_label_is_believed_and_another_tool_s_word_is_a_hint() {
    let mut profile = Profile::default();
    let names = ["orders::spin"];
    let stack = stack(&mut profile, &names);
    let told = |word| wait_told(&profile, stack, SampleKind::OffCpu, Activity::Span, word);
    for (word, expected) in [
        (Some("long_poll"), Wait::LongPoll),
        (Some("recvfrom"), Wait::Socket),
        (Some("clock_nanosleep"), Wait::Sleep),
        (Some("futex"), Wait::Unknown),
        (Some("something else"), Wait::Unknown),
        (None, Wait::Unknown),
    ] {
        assert_eq!(told(word), Some(expected), "{word:?}");
    }
    assert_eq!(wait_told(&profile, stack, SampleKind::Cpu, Activity::Span, Some("lock")), None);
    let queued = wait_told(&profile, stack, SampleKind::RunQueue, Activity::Span, Some("futex"));
    assert_eq!(queued, Some(Wait::RunQueue));
}

#[test]
fn labels_are_added_and_times_stay() {
    let mut profile = Profile::default();
    let lock = stack(&mut profile, &["std::sync::poison::mutex::Mutex<T>::lock", "orders::reserve"]);
    let socket = stack(&mut profile, &["recv", "orders::charge"]);
    let plain = profile.intern_labels(vec![Label::text(label::SPAN_ID, "00000000000000a0")]);
    let mut labels = WaitLabels::default();
    for (stack, kind, nanoseconds) in [
        (lock, SampleKind::OffCpu, 430),
        (lock, SampleKind::RunQueue, 38),
        (socket, SampleKind::OffCpu, 7),
        (lock, SampleKind::Cpu, 12),
    ] {
        for _ in 0..3 {
            let extended = labels.extend(&mut profile, plain, stack, kind, Activity::Span);
            profile.add(SampleKey { stack, labels: extended, kind }, nanoseconds, 1);
        }
    }
    let totals = SampleKind::ALL.map(|kind| profile.total(kind));
    assert_eq!(totals.iter().sum::<u64>(), 3 * (430 + 38 + 7 + 12));
    assert_eq!(profile.total(SampleKind::OffCpu), 3 * 437);
    assert_eq!(profile.label_sets().len(), 4, "one without, and one for each of lock, socket and run queue");
    for (sample, _) in profile.samples() {
        let told = text(profile.labels(sample.labels), label::WAIT);
        let found = wait_of(&profile, sample.stack, sample.kind, Activity::Span);
        assert_eq!(told, found.map(Wait::as_str), "{sample:?}");
    }
}

proptest! {
    /// Whatever names a stack has, there is an answer, and labels stay bounded.
    #[test]
    fn classification_is_total(
        stacks in prop::collection::vec(prop::collection::vec(("(k:|c:|j:|\\[)?", ".{0,40}"), 0..6), 1..6),
        word in prop::option::of(".{0,12}"),
        operation in prop::option::of("[a-z_]{0,8}"),
    ) {
        let mut profile = Profile::default();
        let mut labels = WaitLabels::default();
        let plain = profile.intern_labels(vec![]);
        let activities = [Activity::Untold, Activity::Idle, Activity::in_span(operation.as_deref())];
        for names in &stacks {
            let names: Vec<String> = names.iter().map(|(mark, name)| format!("{mark}{name}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let stack = stack(&mut profile, &names);
            for kind in SampleKind::ALL {
                for activity in activities {
                    let wait = wait_told(&profile, stack, kind, activity, word.as_deref());
                    prop_assert_eq!(wait.is_some(), is_waiting_in_place(kind) || is_queue(kind));
                    let extended = labels.extend(&mut profile, plain, stack, kind, activity);
                    let is_known = |label: &Label| match &label.value {
                        LabelValue::Text(value) => Wait::named(value).is_some(),
                        LabelValue::Number(_) => false,
                    };
                    prop_assert!(profile.labels(extended).iter().all(is_known));
                }
            }
        }
        prop_assert!(profile.label_sets().len() <= 1 + Wait::ALL.len());
    }
}
