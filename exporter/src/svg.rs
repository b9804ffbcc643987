//! Flame graphs as SVG, one per kind of time.
//!
//! Drawn by `inferno`, so that they look and search like every flame graph. Each kind has its own colours,
//! so that a picture of waiting is not taken for one of computing.

mod differential;

use inferno::flamegraph::color::{BasicPalette, MultiPalette, Palette};
use inferno::flamegraph::{Options, from_lines};

use crate::filter::SampleFilter;
use crate::folded::{FoldedRoot, folded_for};
use crate::idle::{IdleSamples, IdleThreads};
use crate::profile::{Profile, SampleKind};

pub use differential::{DifferencePart, differential_flame_graph};

/// Why a flame graph could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum SvgError {
    /// The drawing library refused a stack.
    #[error("the {} flame graph could not be drawn: {source}", kind.as_str())]
    Drawing {
        /// The kind of time.
        kind: SampleKind,
        /// The library's reason.
        source: std::io::Error,
    },
    /// More time than 64 bits of nanoseconds hold, 584 years: the profile is damaged.
    #[error("the {} time adds up to more than 584 years: the profile is damaged", kind.as_str())]
    TooMuchTime {
        /// The kind of time.
        kind: SampleKind,
    },
    /// The same of a difference, whose kinds of time are together.
    #[error("the differential flame graph could not be drawn: {0}")]
    Difference(std::io::Error),
}

/// Totals below this are written in microseconds, above in milliseconds: numbers people can compare.
const MICROSECONDS_BELOW: u64 = 20_000_000;

/// Idle time from here on is written in seconds: nobody compares it with anything.
const SECONDS_FROM: u64 = 10_000_000_000;

/// Draws one kind of time over the samples that the filter means; none where there is no such time.
///
/// The subtitle says the kind and the total, and how much of idle threads was left out. Equal profiles
/// give equal pictures.
///
/// Errors: [`SvgError`], for damaged profiles only.
pub fn flame_graph(
    profile: &Profile,
    kind: SampleKind,
    filter: &SampleFilter,
    idle: IdleThreads,
    title: &str,
) -> Result<Option<String>, SvgError> {
    let text = folded_for(profile, kind, filter, idle, FoldedRoot::ServiceIfSeveral);
    if text.is_empty() {
        return Ok(None);
    }
    let mut numbers = text.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    let total = numbers.try_fold(0_u64, u64::checked_add).ok_or(SvgError::TooMuchTime { kind })?;
    let (unit, factor) = unit_for(total);
    let mut options = Options::default();
    options.title = title.to_owned();
    let mut subtitle = format!("{}: {:.0} {unit}", described(kind), total as f64 * factor);
    if let Some(note) = hidden_note(profile, kind, filter, idle) {
        subtitle = format!("{subtitle}; {note}");
    }
    options.subtitle = Some(subtitle);
    options.count_name = unit.to_owned();
    options.factor = factor;
    options.colors = palette(kind);
    options.deterministic = true;
    let mut svg = Vec::new();
    from_lines(&mut options, text.lines(), &mut svg).map_err(|source| SvgError::Drawing { kind, source })?;
    Ok(Some(String::from_utf8_lossy(&svg).into_owned()))
}

/// The unit for a total, and what a nanosecond is in it.
const fn unit_for(total: u64) -> (&'static str, f64) {
    if total < MICROSECONDS_BELOW { ("µs", 1e-3) } else { ("ms", 1e-6) }
}

/// What was left out of a picture, in words: "idle threads hidden (78.6 s)"; none where that is nothing.
pub(crate) fn hidden_note(
    profile: &Profile,
    kind: SampleKind,
    filter: &SampleFilter,
    idle: IdleThreads,
) -> Option<String> {
    // Idle samples have no span, so whoever asks for one span or trace misses none of them.
    let is_hidden = idle == IdleThreads::Hidden && *filter == SampleFilter::default();
    let hidden = if is_hidden { IdleSamples::of(profile).times(profile).of(kind) } else { 0 };
    let (unit, factor) = unit_for(hidden);
    match hidden {
        0 => None,
        SECONDS_FROM.. => Some(format!("idle threads hidden ({:.1} s)", hidden as f64 * 1e-9)),
        _ => Some(format!("idle threads hidden ({:.0} {unit})", hidden as f64 * factor)),
    }
}

const fn described(kind: SampleKind) -> &'static str {
    match kind {
        SampleKind::Cpu => "running on CPU",
        SampleKind::OffCpu => "blocked",
        SampleKind::RunQueue => "ready to run, waiting for a CPU",
        SampleKind::Suspended => "awaiting, without a thread",
        SampleKind::Ready => "woken, waiting to be polled",
        SampleKind::Unknown => "time of spans that was not seen",
    }
}

const fn palette(kind: SampleKind) -> Palette {
    match kind {
        SampleKind::Cpu => Palette::Multi(MultiPalette::Rust),
        SampleKind::OffCpu => Palette::Basic(BasicPalette::Blue),
        SampleKind::RunQueue => Palette::Basic(BasicPalette::Yellow),
        SampleKind::Suspended => Palette::Basic(BasicPalette::Aqua),
        SampleKind::Ready => Palette::Basic(BasicPalette::Purple),
        SampleKind::Unknown => Palette::Basic(BasicPalette::Green),
    }
}
