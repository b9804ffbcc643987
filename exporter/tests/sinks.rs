//! All ways out at once, as a service's upload thread uses them.

mod fixture;

use std::net::TcpListener;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use spanprof_exporter::local::LocalReceiver;
use spanprof_exporter::otlp::OtlpConfig;
use spanprof_exporter::pprof::decode;
use spanprof_exporter::pyroscope::{Dropped, PyroscopeConfig};
use spanprof_exporter::sinks::{DirectoryConfig, ShipReport, Sinks, SinksConfig, SinksError};
use spanprof_exporter::stand_in::{Answer, StandIn, StandInConfig};
use spanprof_exporter::{Profile, SampleKey, SampleKind};

/// Longer than anything here takes, so that a slow machine changes nothing.
const LONG: Duration = Duration::from_secs(60);

/// A self-profile: its samples name no service.
fn profile() -> Profile {
    let mut profile = Profile::default();
    profile.start_unix_nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let (stack, labels) = (profile.intern_stack(vec![]), profile.intern_labels(vec![]));
    for (kind, nanoseconds) in [(SampleKind::Cpu, 5), (SampleKind::Suspended, 7)] {
        profile.add(SampleKey { stack, labels, kind }, nanoseconds, 1);
    }
    profile
}

fn resource() -> Vec<(String, String)> {
    vec![("service.version".to_owned(), "1.2".to_owned())]
}

#[test]
fn one_call_reaches_every_destination() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = LocalReceiver::bind(directory.path().join("agent.sock")).unwrap();
    let server = StandIn::start(StandInConfig::default()).unwrap();
    let mut sinks = Sinks::new(SinksConfig {
        pyroscope: Some(PyroscopeConfig::new(server.url())),
        otlp: Some(OtlpConfig::new(server.url())),
        directory: Some(DirectoryConfig { path: directory.path().join("windows"), limit: 1 << 20 }),
        local_agent: Some(receiver.path().to_owned()),
    })
    .unwrap();
    for window in 1..=2_usize {
        let report = sinks.ship(&profile(), "orders", &resource(), Instant::now() + LONG);
        let expected = ShipReport { pushed: 6, bytes: report.bytes, ..ShipReport::default() };
        assert_eq!(report, expected);
        let stored = server.profiles();
        assert_eq!(stored.len(), 2 * window);
        assert!(stored.iter().all(|profile| profile.labels["service_name"] == "orders"));
        assert_eq!(server.otlp_requests().len(), 2 * window);
        let received = receiver.next(LONG).unwrap();
        let expected = [("service.name", "orders"), ("service.version", "1.2")];
        assert_eq!(received.resource, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
    let mut files = std::fs::read_dir(directory.path().join("windows")).unwrap();
    let read = decode(&std::fs::read(files.next().unwrap().unwrap().path()).unwrap()).unwrap();
    assert_eq!((read.total(SampleKind::Cpu), read.total(SampleKind::Suspended)), (5, 7));
    let (key, _) = read.samples()[0];
    assert_eq!(read.labels(key.labels)[0].value.as_text(), Some("orders"));
}

#[test]
fn a_deadline_ends_what_is_under_way_and_everything_is_counted() {
    // One server stores and never answers, another is not there, an agent neither.
    let freezing = StandInConfig { always: Some(Answer::StoreAndFreeze), ..StandInConfig::default() };
    let frozen = StandIn::start(freezing).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let directory = tempfile::tempdir().unwrap();
    let mut sinks = Sinks::new(SinksConfig {
        pyroscope: Some(PyroscopeConfig::new(frozen.url())),
        otlp: Some(OtlpConfig::new(nobody)),
        directory: Some(DirectoryConfig { path: directory.path().to_owned(), limit: 10 }),
        local_agent: Some(directory.path().join("agent.sock")),
    })
    .unwrap();
    // The configured patience is 30 s and a request's timeout 10 s: only the deadline can end it before.
    let report = sinks.ship(&profile(), "orders", &resource(), Instant::now() + Duration::from_millis(700));
    let expected = Dropped { timed_out: 2, unreachable: 3, too_large: 1, ..Dropped::default() };
    assert_eq!((report.pushed, report.dropped), (0, expected), "{report:?}");
    assert!(report.first_error.unwrap().starts_with("the directory: a window of"), "the first in order");
    // A deadline that has passed already tries nothing for long.
    let report = sinks.ship(&profile(), "orders", &resource(), Instant::now());
    assert_eq!((report.pushed, report.dropped.total()), (0, 6), "{report:?}");
}

#[test]
fn nothing_is_shipped_where_nothing_was_seen_or_nobody_waits() {
    let mut nowhere = Sinks::new(SinksConfig::default()).unwrap();
    assert!(nowhere.is_empty());
    assert_eq!(nowhere.ship(&profile(), "orders", &[], Instant::now() + LONG), ShipReport::default());
    let server = StandIn::start(StandInConfig::default()).unwrap();
    let config =
        SinksConfig { pyroscope: Some(PyroscopeConfig::new(server.url())), ..SinksConfig::default() };
    let mut sinks = Sinks::new(config).unwrap();
    assert!(!sinks.is_empty());
    let report = sinks.ship(&Profile::default(), "orders", &[], Instant::now() + LONG);
    assert_eq!((report, server.requests().len()), (ShipReport::default(), 0));
}

#[test]
fn a_wrong_setting_does_not_cost_the_right_ones() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let config = SinksConfig {
        pyroscope: Some(PyroscopeConfig::new("localhost:4040")),
        otlp: Some(OtlpConfig::new("http://localhost:1")),
        directory: Some(DirectoryConfig { path: file.join("below"), limit: 1 << 20 }),
        local_agent: Some("".into()),
    };
    assert!(matches!(Sinks::new(config.clone()), Err(SinksError::Directory(_))));
    let (sinks, errors) = Sinks::of_what_works(config);
    assert!(!sinks.is_empty());
    let words: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(words.len(), 3, "{words:?}");
    assert!(
        words[2].starts_with("profiles can't go to Pyroscope: \"localhost:4040\" is no address"),
        "{words:?}"
    );
}
