//! What arrives at a Pyroscope server: types, labels, ids, splitting.

mod fixture;

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use fixture::{BUSY_SPAN, SLOW_SPAN, TRACE};
use spanprof_exporter::pyroscope::{Credentials, PushReport, PyroscopeConfig, PyroscopeSink};
use spanprof_exporter::stand_in::{StandIn, StandInConfig};
use spanprof_exporter::{Label, Location, Profile, SampleKey, SampleKind, label};

const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
const OFF_CPU: &str = "off_cpu:off_cpu:nanoseconds::";
const RUN_QUEUE: &str = "run_queue:run_queue:nanoseconds::";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

fn recent() -> Profile {
    let mut profile = fixture::profile();
    profile.start_unix_nanoseconds = now();
    profile
}

async fn pushed(profile: &Profile, change: impl FnOnce(&mut PyroscopeConfig)) -> (StandIn, PushReport) {
    let server = StandIn::start(StandInConfig::default()).unwrap();
    let mut config = PyroscopeConfig::new(server.url());
    change(&mut config);
    let report = PyroscopeSink::new(config).unwrap().push(profile).await;
    (server, report)
}

#[tokio::test]
async fn three_profiles_arrive_under_the_names_that_grafana_knows() {
    let profile = recent();
    let (server, report) = pushed(&profile, |_| {}).await;
    assert_eq!(report.dropped.total(), 0, "{report:?}");
    // Two services on CPU and off it, one in the run queue.
    assert_eq!((report.pushed, report.retried, report.bad_ids), (5, 0, 0));
    assert_eq!(server.profile_types().into_iter().collect::<Vec<_>>(), [OFF_CPU, CPU, RUN_QUEUE]);
    assert_eq!(server.requests().len(), 5, "one series per request");
    for kind in SampleKind::ALL {
        let of_kind = |type_id: &str| type_id.split(':').nth(1) == Some(kind.as_str());
        let stored = server.profiles();
        let samples = stored.iter().filter(|p| of_kind(&p.type_id)).flat_map(|p| &p.samples);
        let sum: i64 = samples.map(|sample| sample.value).sum();
        assert_eq!(sum as u64, profile.total(kind), "{kind:?}");
    }
    for stored in server.profiles() {
        let expected = if stored.type_id == CPU { 10_101_010 } else { 0 };
        assert_eq!(stored.period, expected);
        assert_eq!(stored.time_nanoseconds as u64, profile.start_unix_nanoseconds);
    }
}

#[tokio::test]
async fn times_of_tasks_are_profiles_of_their_own_without_a_period() {
    let mut profile = fixture::profile_with_tasks();
    profile.start_unix_nanoseconds = now();
    let (server, report) = pushed(&profile, |_| {}).await;
    assert_eq!((report.pushed, report.dropped.total()), (7, 0), "{report:?}");
    for (id, sum) in [("suspended", 200_000_000), ("ready", 1_500_000)] {
        let id = format!("{id}:{id}:nanoseconds::");
        let stacks = server.stacks(&id, SLOW_SPAN);
        assert_eq!(stacks.iter().map(|(_, value)| value).sum::<i64>(), sum, "{id}");
        assert_eq!(stacks[0].0[0], "orders::handle_async::{closure#0}");
        assert!(server.profiles().iter().filter(|p| p.type_id == id).all(|p| p.period == 0));
    }
}

#[tokio::test]
async fn one_span_s_stacks_are_found_by_its_id() {
    let (server, _) = pushed(&recent(), |_| {}).await;
    let waiting = server.stacks(OFF_CPU, SLOW_SPAN);
    assert_eq!(waiting.len(), 1);
    let (stack, value) = &waiting[0];
    assert_eq!(*value, 430_000_000);
    assert_eq!(stack[..3], ["start_thread", "orders::handle", "orders::reserve"]);
    assert_eq!(stack.last().unwrap(), "syscall");
    assert_eq!(server.stacks(RUN_QUEUE, SLOW_SPAN).iter().map(|(_, v)| v).sum::<i64>(), 38_000_000);
    assert_eq!(server.stacks(CPU, BUSY_SPAN).iter().map(|(_, v)| v).sum::<i64>(), 20_000_000);
    assert_eq!(server.trace_stacks(CPU, TRACE).iter().map(|(_, v)| v).sum::<i64>(), 32_000_000);
}

#[tokio::test]
async fn few_labels_become_series_and_none_is_hidden() {
    let (server, _) = pushed(&recent(), |config| {
        config.tags = vec![("region".into(), "eu".into())];
    })
    .await;
    let mut names = BTreeSet::new();
    for stored in server.profiles() {
        assert_eq!(stored.hidden_labels, [""; 0]);
        assert_eq!(stored.labels["region"], "eu");
        assert_eq!(stored.labels.keys().collect::<Vec<_>>(), ["__name__", "region", "service_name"]);
        names.extend(stored.samples.iter().flat_map(|sample| sample.labels.keys().cloned()));
    }
    let expected = [
        "messaging_consumer_group_name",
        "messaging_destination_name",
        "messaging_operation_name",
        "span_name",
        "wait",
    ];
    assert_eq!(names.into_iter().collect::<Vec<_>>(), expected);
    let services: BTreeSet<_> = server.profiles().iter().map(|p| p.labels["service_name"].clone()).collect();
    assert_eq!(services.into_iter().collect::<Vec<_>>(), ["consumer", "producer"]);
}

#[tokio::test]
async fn samples_without_a_stack_keep_their_time() {
    let (server, _) = pushed(&recent(), |_| {}).await;
    let stored = server.profiles();
    let lost = stored.iter().flat_map(|p| &p.samples).find(|sample| sample.stack == ["[no stack]"]);
    assert_eq!(lost.map(|sample| sample.value), Some(1_000_000));
}

#[tokio::test]
async fn long_stacks_keep_the_leaf_that_the_server_would_cut() {
    let mut profile = Profile::default();
    profile.start_unix_nanoseconds = now();
    let locations = (0..1_200).map(|depth| {
        let frames = vec![fixture::native(&format!("f{depth}"))];
        profile.intern_location(Location { module: None, address: depth, frames })
    });
    let locations = locations.collect();
    let (stack, labels) = (profile.intern_stack(locations), profile.intern_labels(vec![]));
    profile.add(SampleKey { stack, labels, kind: SampleKind::Cpu }, 9, 1);
    let (server, _) = pushed(&profile, |_| {}).await;
    let stack = &server.profiles()[0].samples[0].stack;
    assert_eq!(stack.len(), 1_000);
    assert_eq!((stack[0].as_str(), stack[99].as_str()), ("f1199", "f1100"));
    assert_eq!((stack[100].as_str(), stack[101].as_str()), ("[frames left out]", "f898"));
    assert_eq!(stack[999], "f0");
}

#[tokio::test]
async fn distinct_values_are_capped_over_the_sink_s_life() {
    let server = StandIn::start(StandInConfig::default()).unwrap();
    let config = PyroscopeConfig { distinct_values: 3, ..PyroscopeConfig::new(server.url()) };
    let sink = PyroscopeSink::new(config).unwrap();
    for window in 0..2 {
        let mut profile = with_samples(5, |number, labels| {
            labels.push(Label::text(label::DESTINATION, format!("topic-{}", number + window * 2)));
        });
        profile.start_unix_nanoseconds = now();
        let report = sink.push(&profile).await;
        assert_eq!((report.dropped.total(), report.capped_values), (0, if window == 0 { 2 } else { 4 }));
    }
    let stored = server.profiles();
    let labels = stored.iter().flat_map(|p| &p.samples).map(|s| &s.labels["messaging_destination_name"]);
    let values: BTreeSet<_> = labels.cloned().collect();
    assert_eq!(values.into_iter().collect::<Vec<_>>(), ["other", "topic-0", "topic-1", "topic-2"]);
}

#[tokio::test]
async fn bad_ids_are_left_off_and_counted() {
    let ids = ["00f067aa0ba902b", "zzf067aa0ba902b7", "0000000000000000", "", "00F067AA0BA902B7"];
    let profile = with_samples(ids.len(), |number, labels| {
        labels.push(Label::text(label::SPAN_ID, ids[number]));
    });
    let (server, report) = pushed(&profile, |_| {}).await;
    assert_eq!((report.bad_ids, report.dropped.total()), (4, 0));
    let stored = server.profiles();
    let mut found: Vec<_> = stored[0].samples.iter().map(|sample| sample.span_id.clone()).collect();
    found.sort();
    found.dedup();
    assert_eq!(found, [None, Some(SLOW_SPAN.to_owned())], "a valid id is sent in lower case");
    let sum: i64 = stored[0].samples.iter().map(|sample| sample.value).sum();
    assert_eq!(sum, 5_000, "time under a bad id is not lost");
}

#[tokio::test]
async fn many_samples_are_split_below_the_limits_and_none_is_lost() {
    let mut profile = with_samples(40_000, |number, labels| {
        labels.push(Label::text(label::SPAN_ID, format!("{:016x}", number + 1)));
    });
    profile.start_unix_nanoseconds = now();
    let (server, report) = pushed(&profile, |_| {}).await;
    assert_eq!((report.dropped.total(), report.samples), (0, 40_000), "{report:?}");
    assert!(report.pushed >= 3);
    let stored = server.profiles();
    assert!(stored.iter().all(|p| p.samples.len() <= 16_000 && p.raw_bytes <= 2_000_000));
    let spans: BTreeSet<_> = stored.iter().flat_map(|p| &p.samples).map(|s| s.span_id.clone()).collect();
    assert_eq!(spans.len(), 40_000);
}

#[tokio::test]
async fn large_profiles_are_split_by_bytes_and_what_is_too_large_alone_is_counted() {
    let mut profile = with_samples(40, |number, labels| {
        labels.push(Label::text(label::SPAN_ID, format!("{:016x}", number + 1)));
    });
    profile.start_unix_nanoseconds = now();
    // One stack whose names alone take more than a message may.
    let frames = (0..400).map(|n| fixture::rust(&format!("f{n}::{}", "x".repeat(200)), n)).collect();
    let giant = profile.intern_location(Location { module: None, address: 1, frames });
    let (stack, labels) = (profile.intern_stack(vec![giant]), profile.intern_labels(vec![]));
    profile.add(SampleKey { stack, labels, kind: SampleKind::Cpu }, 7, 1);
    let (server, report) = pushed(&profile, |config| config.bytes_per_profile = 1_000).await;
    assert_eq!((report.dropped.too_large, report.dropped.total(), report.samples), (1, 1, 40), "{report:?}");
    assert!(server.profiles().iter().all(|p| p.raw_bytes <= 1_000));
}

#[tokio::test]
async fn tenant_and_credentials_are_sent() {
    let (server, _) = pushed(&recent(), |config| {
        config.tenant = Some("team-a".into());
        config.credentials = Credentials::Bearer { token: "t0ken".into() };
    })
    .await;
    let request = &server.requests()[0];
    assert_eq!(request.tenant.as_deref(), Some("team-a"));
    assert_eq!(request.authorization.as_deref(), Some("Bearer t0ken"));
    let (server, _) = pushed(&recent(), |config| {
        config.credentials = Credentials::Basic { user: "me".into(), password: "secret".into() };
    })
    .await;
    assert_eq!(server.requests()[0].authorization.as_deref(), Some("Basic bWU6c2VjcmV0"));
}

#[tokio::test]
async fn nothing_seen_is_nothing_sent() {
    let (server, report) = pushed(&Profile::default(), |_| {}).await;
    assert_eq!(report, PushReport::default());
    assert_eq!(server.requests().len(), 0);
}

/// One CPU sample of 1,000 ns per number, each with labels of its own.
fn with_samples(count: usize, labels_of: impl Fn(usize, &mut Vec<Label>)) -> Profile {
    let mut profile = Profile::default();
    profile.start_unix_nanoseconds = now();
    let frames = vec![fixture::native("work")];
    let location = profile.intern_location(Location { module: None, address: 0, frames });
    let stack = profile.intern_stack(vec![location]);
    for number in 0..count {
        let mut labels = Vec::new();
        labels_of(number, &mut labels);
        let labels = profile.intern_labels(labels);
        profile.add(SampleKey { stack, labels, kind: SampleKind::Cpu }, 1_000, 1);
    }
    profile
}
