//! Classes of spans that stay on their threads, and others that leave them.

use std::time::Duration;

use super::super::fold::{FoldKey, Sums};
use super::*;
use crate::spans::{Class, FinishedSpan, IndexLimits, KeepingOptions, Messaging, SeenSpan, SpanKind};

const PERIOD: u64 = 10_000_000;
const MILLISECOND: u64 = 1_000_000;
const THREAD: ThreadKey = ThreadKey { process: 1, thread: 2 };
const OTHER: ThreadKey = ThreadKey { process: 1, thread: 3 };

fn id(number: u64) -> ActiveSpan {
    ActiveSpan { trace_id: [1; 16], span_id: number.to_be_bytes() }
}

/// A window of one thread, and what tracers told.
struct Window {
    fold: Fold,
    keeping: Keeping,
    spans: Vec<ActiveSpan>,
    /// When it closes.
    until: u64,
}

impl Window {
    fn new() -> Window {
        let options = KeepingOptions { threshold: Some(Duration::ZERO), ..KeepingOptions::default() };
        let keeping = Keeping::new(options, IndexLimits::default(), Instant::now());
        Window { fold: Fold::default(), keeping, spans: Vec::new(), until: u64::MAX }
    }

    /// A span on the thread: its waits and samples, and its CPU time in truth.
    fn saw(&mut self, span: ActiveSpan, waited: u64, samples: u64, cpu: u64) {
        self.saw_on(THREAD, span, waited, samples, cpu);
        self.spans.push(span);
    }

    /// The same on a thread, of a span that is known.
    fn saw_on(&mut self, thread: ThreadKey, span: ActiveSpan, waited: u64, samples: u64, cpu: u64) {
        let key = FoldKey { thread, stack: None, span: Some(span) };
        let sums = Sums { samples, off_cpu: waited, run_queue: 0, blocks: u64::from(waited > 0) };
        self.fold.sums.insert(key, sums);
        self.fold.threads.entry(thread).or_default().cpu += cpu;
    }

    fn told(&mut self, span: ActiveSpan, begin: u64, wall: u64) {
        self.finished(span, None, begin, wall);
    }

    fn told_child(&mut self, span: ActiveSpan, parent: ActiveSpan, begin: u64, wall: u64) {
        self.finished(span, Some(parent.span_id), begin, wall);
    }

    fn finished(&mut self, span: ActiveSpan, parent: Option<[u8; 8]>, begin: u64, wall: u64) {
        let finished = FinishedSpan {
            span,
            parent,
            kind: if parent.is_none() { SpanKind::Consumer } else { SpanKind::Internal },
            start_unix_ns: begin,
            end_unix_ns: begin + wall,
            failed: false,
            class: Class { name: "process orders".into(), ..Class::default() },
            messaging: Messaging::default(),
            links: Vec::new(),
        };
        self.keeping.finish(finished, Instant::now());
    }

    /// What is settled, and the exact CPU time of each span.
    fn settle(&mut self, balance: &mut Balance) -> (Settled, Vec<u64>) {
        let mut weights = Weights::new(&self.fold, PERIOD);
        let sums = sums_by_span(&self.fold, &weights);
        let class = self.keeping.class(&Class::default());
        let seen: Vec<_> = sums
            .iter()
            .map(|(span, sums)| SeenSpan {
                span: *span,
                class,
                seen: Duration::from_nanos(sums.seen()),
                samples: sums.samples(),
            })
            .collect();
        let kept = self.keeping.choose(&seen, Duration::from_nanos(PERIOD), Instant::now());
        assert_eq!(kept.len(), self.spans.len());
        let mut settled = balance.settle(&sums, &kept, &self.keeping, self.until, &mut weights);
        settled.remainders.sort_by_key(|remainder| remainder.span);
        let exact = self.spans.iter().map(|span| {
            let of_samples = sums[span].estimate(*span, &weights);
            let unsampled = weights.unsampled().into_iter().find(|(_, of, _)| *of == Some(*span));
            unsampled.map_or(of_samples, |(_, _, cpu)| cpu)
        });
        let exact = exact.collect();
        (settled, exact)
    }
}

/// Spans of 25 ms on the CPU and 30 ms blocked, as samples by chance hit them: 2 or 3 times.
fn computing(window: &mut Window, suspended: u64) {
    for number in 1..=200 {
        window.saw(id(number), 30 * MILLISECOND, 2 + number % 2, 25 * MILLISECOND);
        window.told(id(number), 1_000, 55 * MILLISECOND + suspended);
    }
}

#[test]
fn spans_that_stay_on_their_thread_have_exact_cpu_times() {
    let mut window = Window::new();
    computing(&mut window, 0);
    let (settled, exact) = window.settle(&mut Balance::new(1_000));
    assert_eq!(settled.remainders, []);
    assert_eq!(exact, vec![25 * MILLISECOND; 200]);
    assert_eq!(settled.told[&id(7)], Told { wall: 55 * MILLISECOND, children: 0 });
}

#[test]
fn spans_that_leave_their_thread_were_suspended() {
    let mut window = Window::new();
    computing(&mut window, 100 * MILLISECOND);
    let (settled, _) = window.settle(&mut Balance::new(1_000));
    assert_eq!(settled.remainders.len(), 200);
    assert!(settled.remainders.iter().all(|left| left.kind == SampleKind::Suspended));
    let all: u64 = settled.remainders.iter().map(|left| left.nanoseconds).sum();
    assert_eq!(all, 200 * 100 * MILLISECOND, "samples' errors cancel out");
}

#[test]
fn a_single_span_proves_nothing() {
    let mut window = Window::new();
    window.saw(id(1), 30 * MILLISECOND, 0, 0);
    window.told(id(1), 1_000, 55 * MILLISECOND);
    let (settled, _) = window.settle(&mut Balance::new(1_000));
    let unknown = Remainder {
        span: id(1),
        process: 1,
        kind: SampleKind::Unknown,
        is_before_capture: false,
        nanoseconds: 25 * MILLISECOND,
    };
    assert_eq!(settled.remainders, [unknown]);
}

#[test]
fn who_contradicts_its_class_stays_unknown() {
    let mut window = Window::new();
    computing(&mut window, 0);
    // 400 ms that no sample hit were not spent computing.
    window.saw(id(999), 30 * MILLISECOND, 0, 0);
    window.told(id(999), 1_000, 430 * MILLISECOND);
    let (settled, _) = window.settle(&mut Balance::new(1_000));
    let left: Vec<_> = settled.remainders.iter().map(|left| (left.span, left.kind)).collect();
    assert_eq!(left, [(id(999), SampleKind::Unknown)]);
}

#[test]
fn what_was_before_the_capture_is_unknown_and_proves_nothing() {
    let mut window = Window::new();
    computing(&mut window, 0);
    window.saw(id(999), 30 * MILLISECOND, 0, 0);
    window.told(id(999), 0, 3_000_000 * MILLISECOND);
    // One that was recorded in its second half, and in that half computed as its class does.
    window.saw(id(998), 30 * MILLISECOND, 2, 25 * MILLISECOND);
    let began = 55 * MILLISECOND;
    for number in 1..=200 {
        window.told(id(number), began, 55 * MILLISECOND);
    }
    window.told(id(998), 0, 110 * MILLISECOND);
    let (settled, exact) = window.settle(&mut Balance::new(began));
    let left: Vec<_> = settled
        .remainders
        .iter()
        .map(|left| (left.span, left.kind, left.is_before_capture, left.nanoseconds / MILLISECOND))
        .collect();
    let unknown = SampleKind::Unknown;
    let expected =
        [(id(998), unknown, true, 55), (id(999), unknown, true, 55), (id(999), unknown, false, 2_999_915)];
    assert_eq!(left, expected);
    assert_eq!((exact[0], exact[201]), (25 * MILLISECOND, 25 * MILLISECOND));
}

#[test]
fn what_ends_after_the_window_is_the_next_one_s() {
    let mut balance = Balance::new(1_000);
    let mut first = Window { until: 500 * MILLISECOND, ..Window::new() };
    first.saw(id(1), 300 * MILLISECOND, 0, 0);
    first.told(id(1), 1_000, 600 * MILLISECOND);
    let (settled, _) = first.settle(&mut balance);
    assert!(settled.remainders.is_empty() && settled.told.is_empty());
    let mut second = Window::new();
    second.saw(id(1), 300 * MILLISECOND, 0, 0);
    second.told(id(1), 1_000, 600 * MILLISECOND);
    let (settled, _) = second.settle(&mut balance);
    assert!(settled.remainders.is_empty() && settled.told.contains_key(&id(1)));
}

#[test]
fn what_earlier_windows_saw_is_not_missing() {
    let mut balance = Balance::new(1_000);
    let mut first = Window::new();
    first.saw(id(1), 300 * MILLISECOND, 0, 0);
    assert_eq!(first.settle(&mut balance).0.remainders, []);
    let mut second = Window::new();
    second.saw(id(1), 100 * MILLISECOND, 0, 0);
    second.told(id(1), 1_000, 400 * MILLISECOND);
    assert_eq!(second.settle(&mut balance).0.remainders, []);
}

#[test]
fn a_span_that_goes_on_on_another_thread_is_as_exact_as_its_class() {
    let mut window = Window::new();
    computing(&mut window, 0);
    window.saw_on(OTHER, id(7), MILLISECOND, 0, 0);
    window.told(id(7), 1_000, 55 * MILLISECOND);
    let (settled, exact) = window.settle(&mut Balance::new(1_000));
    assert_eq!(settled.remainders, []);
    assert_eq!((exact[5], exact[6]), (25 * MILLISECOND, 24 * MILLISECOND));
}

#[test]
fn no_span_ran_longer_than_it_was() {
    let mut window = Window::new();
    // Hit by chance, and the only one of its class.
    window.saw(id(1), 0, 1, 10 * MILLISECOND);
    window.told(id(1), 1_000, MILLISECOND / 4);
    let (settled, exact) = window.settle(&mut Balance::new(1_000));
    assert_eq!((settled.remainders, exact), (vec![], vec![MILLISECOND / 4]));
}

#[test]
fn what_samples_say_by_chance_on_two_threads_is_no_more_than_the_span_was() {
    let mut window = Window::new();
    // 430 ms of computing, of which 400 ms on a thread that a sample hits too often.
    window.saw(id(1), 5 * MILLISECOND, 3, 30 * MILLISECOND);
    window.saw_on(OTHER, id(1), 0, 44, 440 * MILLISECOND);
    window.told(id(1), 1_000, 435 * MILLISECOND);
    let (settled, exact) = window.settle(&mut Balance::new(1_000));
    assert_eq!(settled.remainders, []);
    assert_eq!(exact, [430 * MILLISECOND], "what is left is the threads' without the span");
}

#[test]
fn spans_that_compute_on_two_threads_at_once_take_more_than_their_wall_time() {
    let mut window = Window::new();
    for number in 1..=200 {
        window.saw(id(number), 0, 5, 50 * MILLISECOND);
        window.saw_on(OTHER, id(number), 0, 3, 30 * MILLISECOND);
        window.told(id(number), 1_000, 55 * MILLISECOND);
    }
    let (settled, exact) = window.settle(&mut Balance::new(1_000));
    assert_eq!((settled.remainders, exact), (vec![], vec![80 * MILLISECOND; 200]));
}

#[test]
fn a_wait_that_outlasts_its_span_is_the_thread_s() {
    let mut window = Window::new();
    window.saw(id(1), 70 * MILLISECOND, 1, 10 * MILLISECOND);
    window.told(id(1), 1_000, 57 * MILLISECOND);
    let (settled, exact) = window.settle(&mut Balance::new(1_000));
    assert_eq!((settled.remainders, exact), (vec![], vec![0]));
    assert_eq!(settled.overruns, HashMap::from([(id(1), 13 * MILLISECOND)]));
}

#[test]
fn a_wait_that_outlasts_its_span_is_its_thread_s_on_two_threads_too() {
    let mut window = Window::new();
    computing(&mut window, 0);
    window.saw(id(999), 3 * MILLISECOND, 0, 0);
    window.saw_on(OTHER, id(999), 2 * MILLISECOND, 0, 0);
    window.told(id(999), 1_000, 4 * MILLISECOND);
    let (settled, _) = window.settle(&mut Balance::new(1_000));
    assert_eq!(settled.overruns, HashMap::from([(id(999), MILLISECOND)]));
    // Where all the class's spans wait on two threads at once, all of it stands.
    let mut window = Window::new();
    for number in 1..=50 {
        window.saw(id(number), 30 * MILLISECOND, 0, 0);
        window.saw_on(OTHER, id(number), 20 * MILLISECOND, 0, 0);
        window.told(id(number), 1_000, 31 * MILLISECOND);
    }
    assert_eq!(window.settle(&mut Balance::new(1_000)).0.overruns, HashMap::new());
}

#[test]
fn who_waits_beside_its_children_has_no_time_twice() {
    let mut window = Window::new();
    computing(&mut window, 0);
    // 20 ms of its 55 a child was open, in 10 of which the span waited itself.
    window.saw(id(999), 45 * MILLISECOND, 0, 0);
    window.told(id(999), 1_000, 55 * MILLISECOND);
    window.saw(id(1_000), 20 * MILLISECOND, 0, 0);
    window.told_child(id(1_000), id(999), 1_000, 20 * MILLISECOND);
    let (settled, _) = window.settle(&mut Balance::new(1_000));
    assert_eq!(settled.told[&id(999)], Told { wall: 55 * MILLISECOND, children: 10 * MILLISECOND });
}
