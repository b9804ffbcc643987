//! OTLP profiles: golden bytes, the protocol's rules, what arrives, what is retried.

#[path = "../fixture/mod.rs"]
mod fixture;
mod grpc;
mod rules;

use std::path::Path;
use std::time::Duration;

use fixture::{BUSY_SPAN, SLOW_SPAN, TRACE, profile_with_tasks};
use proptest::prelude::*;
use rules::{Read, read};
use spanprof_exporter::otlp::{ConfigError, OtlpConfig, OtlpSink, PushReport, encode};
use spanprof_exporter::stand_in::{Answer, StandIn, StandInConfig};
use spanprof_exporter::{Label, Location, Module, Profile, SampleKey, SampleKind, label};
use spanprof_symbolizer::FrameKind;

fn resource() -> Vec<(String, String)> {
    [("service.name", "billing"), ("service.instance.id", "7"), ("deployment.environment.name", "test")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec()
}

fn reads(profile: &Profile) -> Vec<Read> {
    encode(profile, &resource()).iter().map(|bytes| read(bytes)).collect()
}

/// The bytes on the wire, one request after the other with its length before it. `SPANPROF_BLESS=1` writes the
/// file anew.
#[test]
fn the_bytes_do_not_change_unnoticed() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tasks.otlp");
    let mut written = Vec::new();
    for request in encode(&profile_with_tasks(), &resource()) {
        written.extend_from_slice(&(request.len() as u32).to_le_bytes());
        written.extend_from_slice(&without_version(&request));
    }
    if std::env::var_os("SPANPROF_BLESS").is_some() {
        std::fs::write(&golden, &written).unwrap();
    }
    assert!(written == std::fs::read(&golden).unwrap(), "the output differs from {}", golden.display());
}

/// A release must not change the file: the version becomes dots of the same length.
fn without_version(request: &[u8]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    let at =
        request.windows(version.len()).position(|window| window == version).expect("the scope's version");
    let mut bytes = request.to_vec();
    bytes[at..at + version.len()].fill(b'.');
    bytes
}

#[test]
fn each_kind_of_each_service_is_one_profile_by_the_rules() {
    let profile = profile_with_tasks();
    let reads = reads(&profile);
    let of = |service: &str, kind: &str| {
        let meant = |read: &&Read| read.resource["service.name"] == service && read.kind.0 == kind;
        reads.iter().find(meant).unwrap_or_else(|| panic!("{kind} of {service}"))
    };
    assert_eq!(reads.len(), 7, "five kinds of the consumer, two of the producer");
    for read in &reads {
        assert_eq!(read.kind.1, "nanoseconds");
        assert_eq!(read.resource["service.instance.id"], "7");
        assert_eq!(read.resource["deployment.environment.name"], "test");
        assert_eq!((read.begin, read.duration), (1_795_505_400_000_000_000, 10_000_000_000));
        assert_eq!(read.comments, ["made by hand", "samples lost: 0"]);
    }
    for kind in SampleKind::ALL {
        let sum: i64 = reads
            .iter()
            .filter(|read| read.kind.0 == kind.as_str())
            .flat_map(|read| &read.samples)
            .map(|sample| sample.value)
            .sum();
        assert_eq!(sum as u64, profile.total(kind), "{kind:?}");
    }
    let pair = |name: &str| (name.to_owned(), "nanoseconds".to_owned());
    assert_eq!(of("consumer", "cpu").period, (pair("cpu"), 10_101_010));
    assert_eq!(of("consumer", "off_cpu").period, ((String::new(), String::new()), 0));
    assert_eq!(of("consumer", "run_queue").period, (pair("run_queue"), 1));
    assert_eq!(of("consumer", "suspended").period, (pair("suspended"), 1));
    assert_eq!(of("consumer", "ready").period, (pair("ready"), 1));

    let waiting = &of("consumer", "off_cpu").samples;
    assert_eq!((waiting.len(), waiting[0].value), (1, 430_000_000));
    assert_eq!(waiting[0].link, Some((TRACE.to_owned(), SLOW_SPAN.to_owned())));
    assert_eq!(waiting[0].attributes["messaging.destination.name"], "orders");
    assert_eq!(waiting[0].attributes["wait"], "futex");
    assert!(
        !waiting[0].attributes.contains_key("pid") && !waiting[0].attributes.contains_key("service.name")
    );
    assert_eq!(waiting[0].stack[0], "syscall");
    assert_eq!(waiting[0].stack[3..], ["orders::reserve", "orders::handle", "start_thread"]);
    assert_eq!(of("consumer", "off_cpu").mapped_files.iter().next().unwrap(), "/usr/bin/orders");
    let spans: Vec<_> = of("consumer", "cpu").samples.iter().map(|sample| sample.link.clone()).collect();
    let link = |span: &str| Some((TRACE.to_owned(), span.to_owned()));
    assert_eq!(spans, [link(SLOW_SPAN), link(BUSY_SPAN)]);
    let without_stack = of("producer", "cpu").samples.iter().find(|sample| sample.value == 1_000_000);
    assert_eq!(without_stack.unwrap().stack, ["[no stack]"]);
}

#[test]
fn samples_that_name_no_service_are_the_resource_s() {
    let mut profile = Profile::default();
    let (stack, labels) = (profile.intern_stack(vec![]), profile.intern_labels(vec![]));
    profile.add(SampleKey { stack, labels, kind: SampleKind::Cpu }, 9, 1);
    assert_eq!(reads(&profile)[0].resource["service.name"], "billing");
    assert_eq!(read(&encode(&profile, &[])[0]).resource["service.name"], "unknown_service");
}

#[test]
fn long_stacks_keep_their_leaf_and_what_becomes_equal_by_it_is_one_sample() {
    let mut profile = Profile::default();
    let mut add = |middle: u64| {
        let locations = (0..1_200).map(|depth| {
            let name = if depth == 1_000 { format!("middle{middle}") } else { format!("f{depth}") };
            let frames = vec![fixture::native(&name)];
            profile.intern_location(Location { module: None, address: depth, frames })
        });
        let locations = locations.collect();
        let (stack, labels) = (profile.intern_stack(locations), profile.intern_labels(vec![]));
        profile.add(SampleKey { stack, labels, kind: SampleKind::Cpu }, 9, 1);
    };
    add(1);
    add(2);
    let read = &reads(&profile)[0];
    assert_eq!((read.samples.len(), read.samples[0].value), (1, 18));
    let stack = &read.samples[0].stack;
    assert_eq!((stack.len(), stack[0].as_str(), stack[898].as_str()), (1_000, "f0", "f898"));
    assert_eq!((stack[899].as_str(), stack[999].as_str()), ("[frames left out]", "f1199"));
}

#[test]
fn ids_that_can_t_be_meant_make_no_link() {
    let mut profile = Profile::default();
    let stack = profile.intern_stack(vec![]);
    for (trace, span) in [(TRACE, SLOW_SPAN), (TRACE, "zz"), ("00000000000000000000000000000000", SLOW_SPAN)]
    {
        let labels = vec![Label::text(label::TRACE_ID, trace), Label::text(label::SPAN_ID, span)];
        let labels = profile.intern_labels(labels);
        profile.add(SampleKey { stack, labels, kind: SampleKind::Cpu }, 9, 1);
    }
    let read = &reads(&profile)[0];
    let linked: Vec<_> = read.samples.iter().map(|sample| (sample.link.is_some(), sample.value)).collect();
    assert_eq!(linked, [(true, 9), (false, 18)]);
}

fn impatient(url: String) -> OtlpConfig {
    OtlpConfig {
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(4),
        ..OtlpConfig::new(url)
    }
}

async fn pushed(script: Vec<Answer>) -> (StandIn, PushReport) {
    let server = StandIn::start(StandInConfig { script, ..StandInConfig::default() }).unwrap();
    let sink = OtlpSink::new(OtlpConfig { concurrent_requests: 1, ..impatient(server.url()) }).unwrap();
    let report = sink.push(&profile_with_tasks(), &resource()).await;
    (server, report)
}

#[tokio::test]
async fn all_of_it_arrives_compressed_as_protobuf() {
    let (server, report) = pushed(vec![]).await;
    assert_eq!((report.pushed, report.retried, report.dropped.total()), (7, 0, 0), "{report:?}");
    assert_eq!(server.otlp_requests(), encode(&profile_with_tasks(), &resource()));
    let plain: usize = server.otlp_requests().iter().map(Vec::len).sum();
    assert!((report.bytes as usize) < plain && report.samples == 9, "{report:?}");
}

#[tokio::test]
async fn what_can_pass_later_is_tried_again_and_nothing_else() {
    let busy = |status| Answer::Status(status, "busy".into());
    let (server, report) = pushed(vec![busy(429), busy(503), Answer::Close, busy(502)]).await;
    assert_eq!((report.pushed, report.retried, report.dropped.total()), (7, 4, 0), "{report:?}");
    assert_eq!(server.otlp_requests().len(), 7);

    let (server, report) = pushed(vec![busy(400), busy(404), busy(500)]).await;
    assert_eq!((report.pushed, report.retried), (4, 0), "{report:?}");
    assert_eq!((report.dropped.rejected, report.dropped.misconfigured), (2, 1), "{report:?}");
    assert!(report.first_error.unwrap().contains("400"));
    assert_eq!(server.otlp_requests().len(), 4);
}

#[tokio::test]
async fn a_partial_success_is_a_refusal() {
    // ExportProfilesServiceResponse { partial_success: { rejected_profiles: 1, error_message: "no room" } }
    let refused = "\n\u{b}\u{8}\u{1}\u{12}\u{7}no room";
    let (_, report) = pushed(vec![Answer::Status(200, refused.into())]).await;
    assert_eq!((report.pushed, report.dropped.rejected), (6, 1), "{report:?}");
    assert_eq!(report.first_error.unwrap(), "the server refused the profile: no room");
    // A message without refused profiles is a warning.
    let warned = "\n\u{9}\u{12}\u{7}no room";
    let (_, report) = pushed(vec![Answer::Status(200, warned.into())]).await;
    assert_eq!((report.pushed, report.dropped.total()), (7, 0), "{report:?}");
}

#[tokio::test]
async fn large_profiles_are_split_and_what_is_too_large_alone_is_counted() {
    let mut profile = Profile::default();
    let stack = profile.intern_stack(vec![]);
    for number in 0..200 {
        let labels = [(label::TRACE_ID, TRACE.to_owned()), (label::SPAN_ID, format!("{:016x}", number + 1))];
        let labels = labels.map(|(key, value)| Label::text(key, value)).to_vec();
        let labels = profile.intern_labels(labels);
        profile.add(SampleKey { stack, labels, kind: SampleKind::Cpu }, 1_000, 1);
    }
    let frames = (0..400).map(|n| fixture::rust(&format!("f{n}::{}", "x".repeat(200)), n)).collect();
    let giant = profile.intern_location(Location { module: None, address: 1, frames });
    let (stack, labels) = (profile.intern_stack(vec![giant]), profile.intern_labels(vec![]));
    profile.add(SampleKey { stack, labels, kind: SampleKind::Cpu }, 7, 1);
    let server = StandIn::start(StandInConfig::default()).unwrap();
    let config = OtlpConfig { bytes_per_request: 1_000, samples_per_profile: 50, ..impatient(server.url()) };
    let report = OtlpSink::new(config).unwrap().push(&profile, &resource()).await;
    assert_eq!((report.samples, report.dropped.too_large, report.dropped.total()), (200, 1, 1), "{report:?}");
    let requests = server.otlp_requests();
    assert!(requests.len() >= 4 && requests.iter().all(|bytes| bytes.len() <= 1_000));
    let sum: i64 = requests.iter().flat_map(|bytes| read(bytes).samples).map(|sample| sample.value).sum();
    assert_eq!(sum, 200_000);
}

#[test]
fn addresses_are_checked_before_anything_is_sent() {
    for bad in ["localhost:4318", "ftp://x", "http://u:p@x"] {
        assert!(matches!(OtlpSink::new(OtlpConfig::new(bad)), Err(ConfigError::Url { .. })), "{bad}");
    }
}

type AnySample = (Vec<usize>, Vec<(usize, String)>, usize, u64);

fn any_sample() -> impl Strategy<Value = AnySample> {
    let labels =
        prop::collection::vec((0..6_usize, "[0-9a-f]{0,2}|[0-9a-f]{16}|[0-9a-f]{32}|\\PC{0,4}"), 0..5);
    (prop::collection::vec(0..5_usize, 0..6), labels, 0..SampleKind::ALL.len(), 0..(i64::MAX as u64 / 64))
}

proptest! {
    /// Whatever a profile holds, what is sent keeps the rules and the sums.
    #[test]
    fn the_rules_hold_for_any_profile(
        names in prop::collection::vec("[a-z\\PC]{0,4}", 5),
        modules in prop::collection::vec((any::<u8>(), any::<u8>(), "[0-9a-f]{0,4}"), 2),
        samples in prop::collection::vec(any_sample(), 0..25),
    ) {
        let keys = [label::TRACE_ID, label::SPAN_ID, label::WAIT, label::DESTINATION, label::SERVICE_NAME, "other"];
        let mut profile = Profile::default();
        let modules: Vec<_> = modules
            .into_iter()
            .map(|(start, end, build_id)| {
                let (start, end) = (start.into(), end.into());
                let module = Module { start, end, file_offset: 0, path: "/bin/x".into(), build_id: build_id.into() };
                profile.intern_module(module)
            })
            .collect();
        let kinds = [FrameKind::Rust, FrameKind::Kernel, FrameKind::Synthetic, FrameKind::Native, FrameKind::Jvm];
        let locations: Vec<_> = names
            .iter()
            .zip(kinds)
            .enumerate()
            .map(|(number, (name, kind))| {
                let frames = vec![fixture::frame(name, name, None, kind)];
                let module = modules.get(number % 3).copied();
                profile.intern_location(Location { module, address: number as u64 / 2, frames })
            })
            .collect();
        for (stack, labels, kind, nanoseconds) in &samples {
            let stack = profile.intern_stack(stack.iter().map(|at| locations[*at]).collect());
            let labels = labels.iter().map(|(key, value)| Label::text(keys[*key], value.as_str())).collect();
            let labels = profile.intern_labels(labels);
            profile.add(SampleKey { stack, labels, kind: SampleKind::ALL[*kind] }, *nanoseconds, 1);
        }
        let reads = reads(&profile);
        for kind in SampleKind::ALL {
            let of_kind = reads.iter().filter(|read| read.kind.0 == kind.as_str());
            let sum: u64 = of_kind.flat_map(|read| &read.samples).map(|sample| sample.value as u64).sum();
            prop_assert_eq!(sum, profile.total(kind));
        }
    }
}
