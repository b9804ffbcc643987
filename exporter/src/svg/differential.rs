//! One flame graph of two sides: as wide as what is asked about, red where that is more, blue where it is less.
//!
//! All kinds of time are in one picture, as one answer: what ran and what blocked have the same callers. The kind is
//! the topmost frame, `[cpu]` or `[off_cpu]`, and has the colour, for only what has time of its own can be more or
//! less.

use std::collections::BTreeMap;
use std::fmt::Write;

use inferno::flamegraph::{Options, from_lines};

use super::SvgError;
use crate::analysis::Difference;
use crate::folded::joined;

/// Means below this, in nanoseconds, are drawn in nanoseconds, and in microseconds above.
const NANOSECONDS_BELOW: f64 = 1e6;

/// One tower of the picture.
#[derive(Debug, Clone)]
pub struct DifferencePart<'a> {
    /// The frame below all others: a destination, or a recording.
    pub name: String,
    /// What is compared.
    pub difference: Difference<'a>,
}

/// Draws the parts side by side, each stack as wide as the time that falls to one on the side that is asked about. None
/// where that side has no time. `one` is what it falls to: "message", "second". Equal profiles give equal pictures.
///
/// What is only on the other side has no width, and is not seen: the tables have it.
///
/// Errors: [`SvgError::Difference`], for damaged profiles only.
pub fn differential_flame_graph(
    parts: &[DifferencePart<'_>],
    title: &str,
    subtitle: &str,
    one: &str,
) -> Result<Option<String>, SvgError> {
    let mut means = BTreeMap::new();
    parts.iter().for_each(|part| add_means(part, &mut means));
    let largest = means.values().fold(0.0, |sum: f64, means| sum + means.subject.max(means.baseline));
    let (unit, factor) = if largest < NANOSECONDS_BELOW { ("ns", 1.0) } else { ("µs", 1e-3) };
    let mut text = String::new();
    let mut total = 0_u64;
    for (stack, means) in &means {
        let scaled = |mean: f64| (mean * factor).round() as u64;
        total = total.saturating_add(scaled(means.subject));
        // Writing into a string can't fail.
        let _ = writeln!(text, "{stack} {} {}", scaled(means.baseline), scaled(means.subject));
    }
    if total == 0 {
        return Ok(None);
    }
    // The library counts in 64 bits, and multiplies by up to 150 for its colours.
    if largest * factor > i64::MAX as f64 / 1e3 {
        let reason = "more time than there can be: the profile is damaged";
        return Err(SvgError::Difference(std::io::Error::other(reason)));
    }
    let mut options = Options::default();
    options.title = title.to_owned();
    options.subtitle = Some(subtitle.to_owned());
    options.count_name = format!("{unit} per {one}");
    options.deterministic = true;
    let mut svg = Vec::new();
    from_lines(&mut options, text.lines(), &mut svg).map_err(SvgError::Difference)?;
    Ok(Some(String::from_utf8_lossy(&svg).into_owned()))
}

/// What falls to one, in nanoseconds.
#[derive(Default)]
struct Means {
    subject: f64,
    baseline: f64,
}

/// Adds the stacks of one part.
fn add_means(part: &DifferencePart<'_>, stacks: &mut BTreeMap<String, Means>) {
    let Difference { subject, baseline } = part.difference;
    for (side, is_subject) in [(subject, true), (baseline, false)] {
        // Samples of one stack and kind, and of several threads, have one line.
        let mut sums: BTreeMap<_, u64> = BTreeMap::new();
        for (key, value) in side.samples() {
            let sum = sums.entry((key.stack, key.kind)).or_default();
            *sum = sum.saturating_add(value.nanoseconds);
        }
        for ((stack, kind), sum) in sums {
            let kind = format!("[{}]", kind.as_str());
            let means =
                stacks.entry(joined(side.profile(), stack, Some(&part.name), Some(&kind))).or_default();
            *(if is_subject { &mut means.subject } else { &mut means.baseline }) += side.mean(sum);
        }
    }
}
