//! Who made whom wait, in a convoy that knows.

use serde_json::Value;
use spanprof_agent::summary::SpanTime;
use spanprof_exporter::SampleKind;

use crate::capturing::{capture, in_full, turn};
use crate::samples::{is, samples};
use crate::truth::{Truth, list, number, text};

#[test]
fn a_convoy_leads_from_who_waits_last_to_who_holds_the_first_lock() {
    let Some(_turn) = turn("a_convoy_leads_from_who_waits_last_to_who_holds_the_first_lock") else { return };
    let truth = Truth::start(env!("CARGO_BIN_EXE_truth_convoy"), 4, &[]);
    let (told, window) = capture(&in_full(99), truth);
    let [a, b, c, sleeper] = list(&told["threads"]) else { panic!("four threads: {told}") };
    assert!(number(&c["rounds"]) >= 10, "{told}");
    let spans = SpanTime::slowest(&window.profile, usize::MAX);
    let chain_of = |thread: &Value| {
        let span = spans.iter().find(|span| span.span_id == text(&thread["span_id"]));
        span.unwrap_or_else(|| panic!("no span of {thread}")).woken_by.clone()
    };

    let chain = chain_of(c);
    eprintln!("{chain:#?}");
    assert_eq!(chain.len(), 2, "{chain:#?}");
    for (link, thread) in chain.iter().zip([b, a]) {
        assert_eq!(link.tid.map(u64::from), thread["tid"].as_u64(), "{link:#?}");
        assert_eq!(link.thread.as_deref(), thread["name"].as_str());
        assert_eq!(link.span_id.as_deref(), thread["span_id"].as_str());
        assert_eq!(link.trace_id.as_deref(), thread["trace_id"].as_str());
        assert_eq!(link.service.as_deref(), Some("truth_convoy"));
        let function = text(&thread["function"]);
        assert!(link.frames.iter().any(|frame| is(frame, function)), "{function}: {:?}", link.frames);
        assert!(link.cause.contains(function), "{}", link.cause);
    }
    let chain = chain_of(b);
    assert_eq!(chain.len(), 1, "{chain:#?}");
    assert_eq!(chain[0].span_id.as_deref(), a["span_id"].as_str());
    let chain = chain_of(sleeper);
    assert_eq!(chain.len(), 1, "{chain:#?}");
    assert_eq!((chain[0].tid, chain[0].cause.as_str()), (None, "a timer or a device"));

    // Waits that are too short to be told of are the rest.
    let all = samples(&window.profile);
    for (thread, least) in [(b, 0.95), (c, 0.95), (sleeper, 0.8)] {
        let id = text(&thread["span_id"]);
        let blocked =
            all.iter().filter(|sample| sample.span() == Some(id) && sample.kind == SampleKind::OffCpu);
        let blocked: u64 = blocked.map(|sample| sample.nanoseconds).sum();
        let ours = chain_of(thread)[0].nanoseconds;
        eprintln!("{}: {ours} of {blocked} ns", text(&thread["name"]));
        assert!(ours <= blocked && ours as f64 >= blocked as f64 * least, "{id}: {ours} of {blocked}");
    }
    assert_eq!(window.summary.losses.get("wakers_not_taken"), None);
}
