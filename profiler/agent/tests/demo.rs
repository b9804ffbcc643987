//! `spanprof demo` from the command to the table, on each broker that this build has.

#![cfg(feature = "demo")]

#[path = "../../../exporter/tests/page/browser.rs"]
#[allow(dead_code)]
mod browser;
mod support;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use browser::{Browser, Theme};
use spanprof_agent::summary::{SpanTime, Summary};
use support::{Finished, run, spanprof};

/// What clocks take that are read one after the other, and what a thread's own doesn't tell of interrupts.
const CLOCKS_NS: u64 = 200_000;

/// Enough for messages of each cause at the demo's rate, and to tell that they stay on their threads.
const SECONDS: &str = "10";

#[test]
fn the_demo_ends_with_where_the_time_went() {
    ends_with_the_table("embedded");
}

#[cfg(feature = "demo-rocketmq")]
#[test]
fn on_rocketmq_it_ends_with_the_same() {
    let jars = spanprof_brokers::RocketMqVersion::Newest.fetch();
    if spanprof_brokers::require("on_rocketmq_it_ends_with_the_same", jars).is_some() {
        ends_with_the_table("rocketmq");
    }
}

#[cfg(feature = "demo-kafka")]
#[test]
fn on_kafka_it_ends_with_the_same() {
    let jars = spanprof_brokers::Kafka::fetch();
    if spanprof_brokers::require("on_kafka_it_ends_with_the_same", jars).is_some() {
        ends_with_the_table("kafka");
    }
}

/// Two demos at once would wait for each other's CPUs.
static TURN: Mutex<()> = Mutex::new(());

/// From outside where the machine allows it, and from inside elsewhere: the table is the same.
fn ends_with_the_table(broker: &str) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let out = tempfile::tempdir().unwrap();
    let demo = ["demo", "--broker", broker, "--seconds", SECONDS, "--out"];
    let finished = run(spanprof().args(demo).arg(out.path()));
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let lines: Vec<&str> = finished.output.lines().collect();
    for [wait, found, told] in [
        ["lock", "waiting for a lock", "waiting for a contended lock"],
        ["socket", "waiting for a socket", "waiting for a slow socket"],
        ["sleep", "sleeping in spanprof_demo::notify::throttle", "sleeping"],
    ] {
        // A cause that is too long for its line goes on in the next, broken anywhere.
        let joined = |rows: &[&str]| rows.concat().split_whitespace().collect::<String>();
        let agrees = |rows: &[&str]| {
            let beneath = rows[1].split_whitespace().any(|word| word == wait);
            rows[0].ends_with(told) && beneath && joined(&rows[1..]).contains(&joined(&[found]))
        };
        assert!(lines.windows(3).any(agrees), "{found}: {finished:?}");
    }
    let of_table = lines.iter().skip_while(|line| !line.starts_with("SLOW MESSAGE"));
    assert!(of_table.clone().count() > 2, "{finished:?}");
    assert!(of_table.clone().all(|line| line.chars().count() <= 80), "{finished:?}");
    let summary = std::fs::read(out.path().join("summary.json")).unwrap();
    check_equations(&serde_json::from_slice(&summary).unwrap(), &finished);
    for file in ["profile.pb.gz", "cpu.svg", "off_cpu.svg", "report.html", "summary.json"] {
        assert_ne!(std::fs::metadata(out.path().join(file)).unwrap().len(), 0, "{file}");
    }
    few_clicks_lead_to_the_cause(&out.path().join("report.html"));
}

/// The functions in which the demo makes messages slow.
const INJECTED: [&str; 5] = [
    "orders::checksum",
    "inventory::lock",
    "payments::ask_payment_service",
    "notify::throttle",
    "audit::write_journal",
];

/// From the front of the page to one message, to its frame in the flame graph: two clicks.
fn few_clicks_lead_to_the_cause(page: &Path) {
    let Some(mut browser) = Browser::start("few_clicks_lead_to_the_cause") else { return };
    browser.dress(1280, 900, Theme::Light);
    browser.open(page, "");
    browser.screenshot("demo-front.png");
    // One that was under way when the recording began has its cause there, and says so.
    let told_whole = (1..=5).find_map(|row| {
        browser.open(page, "");
        browser.click(&format!("#slowest tbody tr:nth-child({row}) td.col-name"));
        Some(browser.text("#selection")).filter(|message| !message.contains("before the capture began"))
    });
    browser.screenshot("demo-message.png");
    let message = told_whole.expect("of the five slowest one began in the recording");
    let function = INJECTED.into_iter().find(|function| message.contains(function));
    let function = function.unwrap_or_else(|| panic!("no injected cause is told: {message}"));
    let frame = "(() => { const box = document.querySelector('.chart').getBoundingClientRect(); return [box.x, box.y]; })()";
    let corner = browser.evaluate(frame);
    let (x, y) = (corner[0].as_f64().unwrap(), corner[1].as_f64().unwrap());
    // The widest frames stand at the left, one row below the other; a click tells where the frame is.
    let told = (1..14).any(|row| {
        browser.click_at(x + 12.0, y + 21.0 * (f64::from(row) + 0.5));
        browser.text("#detail").contains(function)
    });
    assert!(told, "{function} is a frame of the message's flame graph");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Where it was recorded from outside, the times of each of the consumer's spans make up what its tracer says, and next to nothing is
/// unknown.
fn check_equations(summary: &Summary, finished: &Finished) {
    if summary.backend.name == "embedded" {
        return;
    }
    let (mut told, mut wall, mut unknown) = (0, 0, 0);
    // The producers' spans are short and end on other threads: their CPU time is as exact as samples are.
    let of_consumer = |span: &&SpanTime| span.service.as_deref() == Some("demo-consumer");
    for span in summary.spans.iter().filter(of_consumer) {
        let Some(of_span) = span.wall_ns else { continue };
        let known = span.cpu_ns + span.off_cpu_ns + span.run_queue_ns + span.suspended_ns + span.ready_ns;
        let sum = known + span.children_ns + span.unknown_ns;
        assert!(sum.abs_diff(of_span) <= of_span / 100 + CLOCKS_NS, "{sum} of {of_span} ns: {span:?}");
        told += 1;
        wall += of_span;
        unknown += span.unknown_ns;
    }
    assert!(told > 20, "{told} of {} spans were told: {finished:?}", summary.spans.len());
    eprintln!("{told} spans took {wall} ns, of which {unknown} ns are unknown");
    let line = finished.output.lines().find(|line| line.starts_with("accounted for: "));
    let share = line.and_then(|line| line.strip_prefix("accounted for: ")?.split_once(" %"));
    let share: f64 = share.unwrap_or_else(|| panic!("no line: {finished:?}")).0.parse().unwrap();
    assert!(share >= 98.0, "{share} %: {finished:?}");
}

#[cfg(feature = "demo-rocketmq")]
#[test]
fn without_java_the_demo_on_rocketmq_says_how_to_get_it() {
    says_how_to_get_java("rocketmq", "RocketMQ 5");
}

#[cfg(feature = "demo-kafka")]
#[test]
fn without_java_the_demo_on_kafka_says_how_to_get_it() {
    says_how_to_get_java("kafka", "Kafka 4");
}

/// In one sentence what is missing, and the command that gets it.
#[cfg(any(feature = "demo-rocketmq", feature = "demo-kafka"))]
fn says_how_to_get_java(broker: &str, title: &str) {
    let empty = tempfile::tempdir().unwrap();
    let mut demo = spanprof();
    demo.args(["demo", "--broker", broker, "--out"]).arg(empty.path());
    demo.env_remove("JAVA_HOME").env("PATH", empty.path()).env("SPANPROF_BROKERS", empty.path());
    let finished = run(&mut demo);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let [sentence, help] = finished.errors.lines().collect::<Vec<_>>()[..] else {
        panic!("two lines: {finished:?}");
    };
    assert!(sentence.starts_with(&format!("error: cannot start {title}")), "{sentence}");
    assert!(sentence.contains("Java 17"), "{sentence}");
    assert!(help.starts_with("help: get it by: sudo apt-get install"), "{help}");
}
