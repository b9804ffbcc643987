//! What a sink does with a server that is down, starting, slow, strict or wrong.

mod fixture;

use std::net::TcpListener;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use spanprof_exporter::pyroscope::{ConfigError, PushReport, PyroscopeConfig, PyroscopeSink};
use spanprof_exporter::stand_in::{Answer, StandIn, StandInConfig};
use spanprof_exporter::{Label, Location, Profile, SampleKey, SampleKind, label};

/// One profile, so that one request tells all.
fn profile() -> Profile {
    let mut profile = Profile::default();
    profile.start_unix_nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let frames = vec![fixture::native("work")];
    let location = profile.intern_location(Location { module: None, address: 0, frames });
    let stack = profile.intern_stack(vec![location]);
    let labels = profile.intern_labels(vec![Label::text(label::SPAN_ID, fixture::SLOW_SPAN)]);
    profile.add(SampleKey { stack, labels, kind: SampleKind::OffCpu }, 1_000, 1);
    profile
}

/// Retries without noticeable pauses; budgets stay long, so that a slow machine changes nothing.
fn impatient(url: String) -> PyroscopeConfig {
    PyroscopeConfig {
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(4),
        ..PyroscopeConfig::new(url)
    }
}

async fn pushed(script: Vec<Answer>) -> (StandIn, PushReport) {
    let server = StandIn::start(StandInConfig { script, ..StandInConfig::default() }).unwrap();
    let report = PyroscopeSink::new(impatient(server.url())).unwrap().push(&profile()).await;
    (server, report)
}

fn stored(server: &StandIn) -> usize {
    server.stacks("off_cpu:off_cpu:nanoseconds::", fixture::SLOW_SPAN).len()
}

#[tokio::test]
async fn a_starting_server_is_waited_for() {
    let script = vec![Answer::Unavailable, Answer::Unavailable, Answer::Unavailable];
    let (server, report) = pushed(script).await;
    assert_eq!((report.pushed, report.retried, report.dropped.total()), (1, 3, 0), "{report:?}");
    assert_eq!(stored(&server), 1);
}

#[tokio::test]
async fn a_rate_limit_is_waited_out() {
    let (server, report) = pushed(vec![Answer::RateLimited, Answer::RateLimited]).await;
    assert_eq!((report.pushed, report.retried), (1, 2), "{report:?}");
    assert_eq!(stored(&server), 1);
}

#[tokio::test]
async fn proxies_that_miss_their_server_are_waited_for() {
    let script = vec![Answer::Status(502, "bad gateway".into()), Answer::Status(503, String::new())];
    let (_, report) = pushed(script).await;
    assert_eq!((report.pushed, report.retried), (1, 2), "{report:?}");
}

#[tokio::test]
async fn a_closed_connection_is_tried_again() {
    let (server, report) = pushed(vec![Answer::Close, Answer::Close]).await;
    assert_eq!((report.pushed, report.dropped.total()), (1, 0), "{report:?}");
    assert_eq!(stored(&server), 1);
}

#[tokio::test]
async fn a_connection_closed_after_storing_is_the_known_way_to_double() {
    // The client can't tell it from a restart; the server keeps both.
    let (server, report) = pushed(vec![Answer::StoreAndClose]).await;
    assert_eq!((report.pushed, report.retried), (1, 1), "{report:?}");
    assert_eq!(stored(&server), 2);
}

#[tokio::test]
async fn refusals_are_never_tried_again() {
    for (status, misconfigured) in
        [(400, 0), (413, 0), (422, 0), (401, 1), (403, 1), (404, 1), (405, 1), (415, 1), (501, 1), (302, 1)]
    {
        let (server, report) = pushed(vec![Answer::Status(status, "no".into())]).await;
        assert_eq!(server.requests().len(), 1, "{status} was tried again");
        assert_eq!(report.dropped.misconfigured, misconfigured, "{status}: {report:?}");
        assert_eq!(report.dropped.rejected, 1 - misconfigured, "{status}: {report:?}");
        let words = report.first_error.unwrap();
        assert!(words.contains(&status.to_string()) && words.ends_with(": no"), "{words}");
    }
}

#[tokio::test]
async fn a_500_for_a_profile_that_the_server_can_t_read_is_not_tried_again() {
    let (server, report) = pushed(vec![Answer::Status(500, "{\"code\":\"unknown\"}".into())]).await;
    assert_eq!((server.requests().len(), report.dropped.rejected), (1, 1), "{report:?}");
}

#[tokio::test]
async fn what_timed_out_may_be_stored_and_is_not_sent_twice() {
    let config = StandInConfig { script: vec![Answer::StoreAndFreeze], ..StandInConfig::default() };
    let server = StandIn::start(config).unwrap();
    let config = PyroscopeConfig { request_timeout: Duration::from_millis(300), ..impatient(server.url()) };
    let report = PyroscopeSink::new(config).unwrap().push(&profile()).await;
    assert!(server.wait_for_requests(1, Duration::from_secs(60)));
    assert_eq!((report.dropped.timed_out, report.dropped.total(), report.retried), (1, 1, 0), "{report:?}");
    assert_eq!((stored(&server), server.requests().len()), (1, 1));
}

#[tokio::test]
async fn a_gateway_s_timeout_is_a_timeout() {
    let (server, report) = pushed(vec![Answer::Status(504, String::new())]).await;
    assert_eq!((report.dropped.timed_out, server.requests().len()), (1, 1), "{report:?}");
}

#[tokio::test]
async fn an_absent_server_uses_up_the_budget_and_is_named() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config =
        PyroscopeConfig { retry_budget: Duration::from_secs(1), ..impatient(format!("http://{address}")) };
    let report = PyroscopeSink::new(config).unwrap().push(&profile()).await;
    assert_eq!((report.dropped.unreachable, report.dropped.total()), (1, 1), "{report:?}");
    let words = report.first_error.unwrap();
    assert!(words.contains("Connection refused"), "{words}");
}

#[tokio::test]
async fn a_server_that_keeps_limiting_uses_up_the_budget() {
    let config = StandInConfig { always: Some(Answer::RateLimited), ..StandInConfig::default() };
    let server = StandIn::start(config).unwrap();
    let config = PyroscopeConfig { retry_budget: Duration::from_secs(1), ..impatient(server.url()) };
    let report = PyroscopeSink::new(config).unwrap().push(&profile()).await;
    assert_eq!((report.dropped.rate_limited, report.dropped.total()), (1, 1), "{report:?}");
    assert!(report.first_error.unwrap().contains("push rate limit"));
}

#[tokio::test]
async fn a_restart_loses_nothing() {
    let first = StandIn::start(StandInConfig::default()).unwrap();
    let address = first.address();
    let sink = PyroscopeSink::new(impatient(first.url())).unwrap();
    assert_eq!(sink.push(&profile()).await.pushed, 1);
    drop(first);
    let pushing = tokio::spawn(async move { sink.push(&profile()).await });
    // Back on the same port, not ready at first.
    let script = vec![Answer::Unavailable, Answer::Unavailable];
    let second = loop {
        let config = StandInConfig { script: script.clone(), ..StandInConfig::default() };
        match StandIn::start_on(config, address) {
            Ok(server) => break server,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let report = pushing.await.unwrap();
    assert_eq!((report.pushed, report.dropped.total()), (1, 0), "{report:?}");
    assert_eq!(stored(&second), 1);
}

#[tokio::test]
async fn a_server_with_tenants_says_so() {
    let config = StandInConfig { multitenancy: true, ..StandInConfig::default() };
    let server = StandIn::start(config).unwrap();
    let report = PyroscopeSink::new(impatient(server.url())).unwrap().push(&profile()).await;
    assert_eq!(report.dropped.misconfigured, 1);
    assert!(report.first_error.unwrap().contains("no org id"));
    let config = PyroscopeConfig { tenant: Some("team-a".into()), ..impatient(server.url()) };
    assert_eq!(PyroscopeSink::new(config).unwrap().push(&profile()).await.pushed, 1);
}

#[tokio::test]
async fn a_window_from_long_ago_is_refused_once() {
    let server = StandIn::start(StandInConfig::default()).unwrap();
    let mut old = profile();
    old.start_unix_nanoseconds -= 2 * 3_600 * 1_000_000_000;
    let report = PyroscopeSink::new(impatient(server.url())).unwrap().push(&old).await;
    assert_eq!((report.dropped.rejected, server.requests().len()), (1, 1), "{report:?}");
    assert!(report.first_error.unwrap().contains("ingestion window"));
}

#[test]
fn configurations_that_can_t_work_are_refused_at_once() {
    let new = |config| PyroscopeSink::new(config).unwrap_err();
    let error = new(PyroscopeConfig::new("localhost:4040"));
    assert!(matches!(error, ConfigError::Url { .. }), "{error}");
    let config = PyroscopeConfig::new("http://localhost:4040");
    let error = new(PyroscopeConfig { tenant: Some("a\nb".into()), ..config.clone() });
    assert!(matches!(error, ConfigError::Header { what: "tenant" }), "{error}");
    let error = new(PyroscopeConfig { bytes_per_profile: 5_000_000, ..config.clone() });
    assert!(matches!(error, ConfigError::Number { .. }), "{error}");
    let error = new(PyroscopeConfig { tags: vec![("a b".into(), "x".into())], ..config });
    assert!(matches!(error, ConfigError::Tag { .. }), "{error}");
}
