//! Every sample's tag against its own stack, which says which span it ran under.

use spanprof_exporter::SampleKind;

use crate::capturing::{capture, in_full, turn};
use crate::samples::{Sample, samples};
use crate::truth::{Truth, number};

/// Functions of truth programs within which a span is published; their names end in its kind.
const UNDER_A_SPAN: [&str; 4] =
    ["work_under_span_", "poll_under_span_", "drop_under_span_", "block_under_span_"];
/// Functions within which it changes.
const CHANGING: [&str; 4] = ["enter_span_", "poll_span_", "block_span_", "drop_span"];

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
pub(crate) struct Tally {
    /// Observations whose stack says what their tag must be.
    pub(crate) judged: u64,
    /// Of these, those in a span.
    pub(crate) inside: u64,
    /// Of these, those that carry it.
    pub(crate) tagged: u64,
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
    for kind in SampleKind::OF_THREADS {
        let mut tally = Tally::default();
        for sample in all.iter().filter(|sample| sample.kind == kind) {
            judge(sample, &mut tally);
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

/// Counts a sample whose stack says what its tag must be.
///
/// # Panics
/// If it has another.
pub(crate) fn judge(sample: &Sample<'_>, tally: &mut Tally) {
    let expected = expected(sample);
    match (expected, sample.span().map(kind_of)) {
        (Expected::Changing | Expected::Unknown, _) => return,
        (Expected::Kind(kind), Some(found)) => assert_eq!(kind, found, "{}", describe(sample)),
        (Expected::None, Some(_)) => panic!("a span where there is none: {}", describe(sample)),
        (_, None) => {}
    }
    // Files keep no counts: there each line is one.
    let count = sample.count.max(1);
    tally.judged += count;
    if matches!(expected, Expected::Kind(_)) {
        tally.inside += count;
        tally.inside_ns += sample.nanoseconds;
        if sample.span().is_some() {
            tally.tagged += count;
            tally.tagged_ns += sample.nanoseconds;
        }
    }
}

fn describe(sample: &Sample<'_>) -> String {
    let (kind, count) = (sample.kind.as_str(), sample.count);
    format!("{count} {kind} under {:?} in {:#?}", sample.span(), sample.functions())
}

/// What the function nearest to the leaf says that knows it.
fn expected(sample: &Sample<'_>) -> Expected {
    for function in sample.functions() {
        let name = function.rsplit("::").next().unwrap_or(function);
        if name == "work_without_span" {
            return Expected::None;
        }
        if UNDER_A_SPAN.iter().any(|prefix| name.starts_with(prefix)) {
            let kind = name.rsplit('_').next().and_then(|digits| digits.parse().ok());
            return kind.map_or(Expected::Unknown, Expected::Kind);
        }
        if CHANGING.iter().any(|prefix| name.starts_with(prefix)) {
            return Expected::Changing;
        }
    }
    Expected::Unknown
}

/// The kind that a span's id names in its first byte.
fn kind_of(span: &str) -> u8 {
    u8::from_str_radix(&span[..2], 16).expect("an id in hexadecimal").wrapping_sub(1)
}
