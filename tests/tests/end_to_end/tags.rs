//! Every sample's tag against its own stack, which says which span it ran under.

use spanprof_exporter::SampleKind;

use crate::capturing::{capture, in_full, turn};
use crate::samples::{Sample, samples};
use crate::truth::{Truth, number};

/// What the span of a sample must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// A span of this kind.
    Kind(u8),
    /// A span of this kind or, as it is about to change, what was there before.
    Changing,
    /// No span.
    None,
    /// The stack doesn't say.
    Unknown,
}

/// Observations and times by what became of their tag.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    judged: u64,
    inside: u64,
    tagged: u64,
    inside_ns: u64,
    tagged_ns: u64,
}

#[test]
fn no_tag_is_wrong_and_hardly_one_is_missing() {
    let Some(_turn) = turn("no_tag_is_wrong_and_hardly_one_is_missing") else { return };
    assert_tags(6, 4999, 20_000);
}

#[test]
#[ignore = "takes half a minute; the test above is its short form"]
fn no_tag_is_wrong_among_a_hundred_thousand() {
    let Some(_turn) = turn("no_tag_is_wrong_among_a_hundred_thousand") else { return };
    assert_tags(30, 4999, 100_000);
}

fn assert_tags(seconds: u64, hz: u32, at_least: u64) {
    let truth = Truth::start(env!("CARGO_BIN_EXE_truth_tags"), seconds, &[]);
    let (told, window) = capture(&in_full(hz), truth);
    assert!(number(&told["task_thread_hops"]) > 0, "tasks hop: {told}");
    let all = samples(&window.profile);
    let mut judged = 0;
    for kind in SampleKind::ALL {
        let mut tally = Tally::default();
        for sample in all.iter().filter(|sample| sample.kind == kind) {
            let expected = expected(sample);
            let found = sample.span().map(kind_of);
            match (expected, found) {
                (Expected::Changing | Expected::Unknown, _) => continue,
                (Expected::Kind(kind), Some(found)) => assert_eq!(kind, found, "{}", describe(sample)),
                (Expected::None, Some(_)) => panic!("a span where there is none: {}", describe(sample)),
                (_, None) => {}
            }
            tally.judged += sample.count;
            if matches!(expected, Expected::Kind(_)) {
                tally.inside += sample.count;
                tally.inside_ns += sample.nanoseconds;
                if found.is_some() {
                    tally.tagged += sample.count;
                    tally.tagged_ns += sample.nanoseconds;
                }
            }
        }
        eprintln!("{}: {tally:?}", kind.as_str());
        // A block counts once, whatever part of it was blocked and what part runnable.
        judged += if kind == SampleKind::RunQueue { 0 } else { tally.judged };
        if kind == SampleKind::RunQueue {
            // Sums below 20 microseconds may give up their span for room, which preemptions often are: what has no
            // span must be those and nothing else.
            let untagged = tally.inside - tally.tagged;
            let nanoseconds = tally.inside_ns - tally.tagged_ns;
            assert!(nanoseconds <= untagged * 20_000 && untagged <= tally.inside / 100, "{tally:?}");
        } else {
            let share = tally.tagged as f64 / tally.inside as f64;
            assert!(share >= 0.999, "{}: {share} of {tally:?}", kind.as_str());
        }
    }
    eprintln!("{judged} judged; losses: {:?}", window.summary.losses);
    assert!(judged >= at_least, "only {judged} observations");
}

fn describe(sample: &Sample<'_>) -> String {
    let (kind, count) = (sample.kind.as_str(), sample.count);
    format!("{count} {kind} under {:?} in {:#?}", sample.span(), sample.functions())
}

/// What the function nearest to the leaf says that knows it.
fn expected(sample: &Sample<'_>) -> Expected {
    for function in sample.functions() {
        let name = function.rsplit("::").next().unwrap_or(function);
        let kind = || name.rsplit('_').next().and_then(|digits| digits.parse().ok());
        if name == "work_without_span" {
            return Expected::None;
        }
        if name.starts_with("work_under_span_") || name.starts_with("poll_under_span_") {
            return kind().map_or(Expected::Unknown, Expected::Kind);
        }
        if name.starts_with("enter_span_") || name.starts_with("poll_span_") {
            return Expected::Changing;
        }
    }
    Expected::Unknown
}

/// The kind that a span's id names in its first byte.
fn kind_of(span: &str) -> u8 {
    u8::from_str_radix(&span[..2], 16).expect("an id in hexadecimal").wrapping_sub(1)
}
