//! The sums of a profile whose sums are known.

mod fixture;

use fixture::{BUSY_SPAN, SLOW_SPAN, TRACE, profile};
use spanprof_exporter::analysis::{Times, destinations, functions, spans, traces};
use spanprof_exporter::{Profile, SampleFilter, SampleKind};

#[test]
fn spans_are_summed_and_explained() {
    let spans = spans(&profile());
    assert_eq!(spans.len(), 2);
    let slow = &spans[0];
    assert_eq!((slow.span_id.as_str(), slow.trace_id.as_deref()), (SLOW_SPAN, Some(TRACE)));
    assert_eq!((slow.cpu_ns, slow.off_cpu_ns, slow.run_queue_ns), (12_000_000, 430_000_000, 38_000_000));
    assert_eq!(slow.main_kind, SampleKind::OffCpu);
    assert_eq!(slow.main_cause, "waiting for a lock in orders::reserve (std::sync::Mutex::lock)");
    assert!((slow.main_share - 430.0 / 480.0).abs() < 1e-9, "{}", slow.main_share);
    assert_eq!(slow.span_name.as_deref(), Some("process orders"));
    assert_eq!((slow.service.as_deref(), slow.pid), (Some("consumer"), Some(4242)));
    assert_eq!(slow.thread.as_deref(), Some("worker-1"));
    assert_eq!(slow.destination.as_deref(), Some("orders"));
    assert_eq!(slow.consumer_group.as_deref(), Some("billing"));
    assert_eq!(slow.operation.as_deref(), Some("process"));
    let busy = &spans[1];
    assert_eq!((busy.span_id.as_str(), busy.cpu_ns, busy.total_ns()), (BUSY_SPAN, 20_000_000, 20_000_000));
    assert_eq!(busy.main_cause, "running orders::parse (core::str::Chars::next)");
}

#[test]
fn traces_and_destinations_are_summed() {
    let traces = traces(&profile());
    assert_eq!(traces.len(), 1);
    assert_eq!((traces[0].trace_id.as_str(), traces[0].spans), (TRACE, 2));
    assert_eq!(traces[0].services, ["consumer"]);
    let times =
        Times { cpu_ns: 32_000_000, off_cpu_ns: 430_000_000, run_queue_ns: 38_000_000, ..Times::default() };
    assert_eq!(traces[0].times, times);

    let destinations = destinations(&profile());
    assert_eq!(destinations.len(), 2);
    assert_eq!((destinations[0].destination.as_deref(), destinations[0].spans), (Some("orders"), 2));
    assert_eq!(destinations[0].times, times);
    assert_eq!(
        (destinations[1].destination.as_deref(), destinations[1].service.as_deref()),
        (None, Some("producer"))
    );
    assert_eq!(destinations[1].times.total_ns(), 105_000_000);
}

#[test]
fn functions_split_own_time_from_total() {
    let profile = profile();
    let functions = functions(&profile, &SampleFilter::default());
    let of = |name: &str| functions.iter().find(|function| &*function.function == name).expect(name);
    assert_eq!(of("syscall").own.off_cpu_ns, 430_000_000);
    assert_eq!(of("orders::handle").own.total_ns(), 0);
    assert_eq!(of("orders::handle").total.total_ns(), 500_000_000);
    assert_eq!(of("orders::reserve").total.run_queue_ns, 38_000_000);
    assert!(of("syscall").is_runtime && !of("orders::reserve").is_runtime);
    // What no stack covers is in no function, and only that.
    let own: u64 = functions.iter().map(|function| function.own.total_ns()).sum();
    let all: u64 = SampleKind::ALL.into_iter().map(|kind| profile.total(kind)).sum();
    assert_eq!(own, all - 1_000_000);
}

#[test]
fn times_of_tasks_belong_to_their_span() {
    let spans = spans(&fixture::profile_with_tasks());
    let slow = spans.iter().find(|span| span.span_id == SLOW_SPAN).unwrap();
    assert_eq!((slow.suspended_ns, slow.ready_ns), (200_000_000, 1_500_000));
    assert_eq!(slow.total_ns(), 681_500_000, "all kinds together");
    assert_eq!(slow.times().of(SampleKind::Suspended), 200_000_000);
    assert_eq!(slow.main_kind, SampleKind::OffCpu);
    let destinations = destinations(&fixture::profile_with_tasks());
    assert_eq!(
        (destinations[0].times.suspended_ns, destinations[0].times.ready_ns),
        (200_000_000, 1_500_000)
    );
}

#[test]
fn one_span_alone() {
    let only = functions(&profile(), &SampleFilter::span(BUSY_SPAN));
    assert!(only.iter().all(|function| function.total.total_ns() == 20_000_000), "{only:?}");
}

#[test]
fn nothing_gives_nothing() {
    let empty = Profile::default();
    assert!(spans(&empty).is_empty() && traces(&empty).is_empty() && destinations(&empty).is_empty());
    assert!(functions(&empty, &SampleFilter::default()).is_empty());
}
