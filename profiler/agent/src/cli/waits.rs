//! Who made a recording's spans wait, for `show`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;
use spanprof_exporter::{Profile, WokenBy};

use super::units::nanoseconds;
use crate::summary::{SpanTime, Summary};

/// The largest summary that is read.
const MAX_SUMMARY: u64 = 64 << 20;
/// Frames of a waker that are shown, from the leaf.
const SHOWN_FRAMES: usize = 8;

/// The chains of a recording's spans.
#[derive(Debug, Default)]
pub(super) struct Waits {
    spans: Vec<SpanTime>,
}

impl Waits {
    /// What the profile knows; where it knows nothing, as one of an older spanprof, what its summary does.
    pub(super) fn of(profile: &Profile, file: &Path) -> Waits {
        match profile.wakers.is_empty() && profile.span_facts.is_empty() {
            true => Waits::beside(file),
            false => Waits { spans: SpanTime::slowest(profile, usize::MAX) },
        }
    }

    /// Reads the summary in the directory of a recording. Of any other file, and where there is none that can be read,
    /// nothing is known.
    fn beside(file: &Path) -> Waits {
        let summary = || -> Option<Summary> {
            let mut bytes = Vec::new();
            let file = File::open(file.join("summary.json")).ok()?;
            file.take(MAX_SUMMARY).read_to_end(&mut bytes).ok()?;
            serde_json::from_slice(&bytes).ok()
        };
        match file.is_dir() {
            true => Waits { spans: summary().unwrap_or_default().spans },
            false => Waits::default(),
        }
    }

    /// Puts each span's chain into its row, and what its tracer told.
    pub(super) fn add_to(&self, rows: &mut Value) {
        for row in rows.as_array_mut().into_iter().flatten() {
            let (trace, span) = (row["trace_id"].as_str(), row["span_id"].as_str());
            let known = self
                .spans
                .iter()
                .find(|known| Some(known.span_id.as_str()) == span && known.trace_id.as_deref() == trace);
            let chain = known.map(|span| span.woken_by.as_slice()).filter(|chain| !chain.is_empty());
            if let Some(Ok(chain)) = chain.map(serde_json::to_value) {
                row["woken_by"] = chain;
            }
            if let Some(known) = known.filter(|span| span.wall_ns.is_some()) {
                row["wall_ns"] = known.wall_ns.into();
                row["children_ns"] = known.children_ns.into();
                row["coverage"] = known.coverage.into();
            }
            if let Some(known) = known.filter(|span| span.batch_size > 0) {
                row["batch_size"] = known.batch_size.into();
                row["head_of_line_ns"] = known.head_of_line_ns.into();
            }
        }
    }

    /// The chain of a span as lines; none where nothing is known.
    pub(super) fn lines(&self, span_id: &str) -> String {
        let span = self.spans.iter().find(|span| span.span_id == span_id);
        let mut text = String::new();
        text.extend(span.and_then(wall));
        text.extend(span.and_then(batch));
        for (position, link) in span.iter().flat_map(|span| &span.woken_by).enumerate() {
            text.push_str(&line(position, link));
        }
        text
    }
}

/// How long it took by its tracer's word.
fn wall(span: &SpanTime) -> Option<String> {
    let (wall, coverage) = (span.wall_ns?, span.coverage?);
    let children = match span.children_ns {
        0 => String::new(),
        time => format!(", {} of it in its own children", nanoseconds(time)),
    };
    Some(format!("\ntook {}{children}; {:.1} % is accounted for\n", nanoseconds(wall), 100.0 * coverage))
}

/// What a message had to do with its neighbours.
fn batch(span: &SpanTime) -> Option<String> {
    let [shared, behind] = [span.shared_ns, span.head_of_line_ns].map(nanoseconds);
    match span.batch_size {
        0 => None,
        size => Some(format!(
            "\nin a batch of {size}: stood in line behind its neighbours for {behind}; its share of what was done for all \
             is {shared}\n"
        )),
    }
}

fn line(position: usize, link: &WokenBy) -> String {
    let begin = match position {
        0 => "\nwoken by ",
        _ => "who waited for ",
    };
    let mut text = format!("{begin}{}, {}\n", link.words(), nanoseconds(link.nanoseconds));
    for frame in link.frames.iter().take(SHOWN_FRAMES) {
        text.push_str(&format!("    {frame}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn waits() -> Waits {
        let by = |nanoseconds, cause: &str, span: &str| WokenBy {
            nanoseconds,
            cause: cause.into(),
            span_id: Some(span.into()),
            frames: vec!["unlock".into(), "orders::release".into()],
            ..WokenBy::default()
        };
        let woken_by = vec![by(5_000_000, "b in orders::release", "2"), WokenBy::interrupt(4_000_000)];
        Waits { spans: vec![SpanTime { span_id: "1".into(), woken_by, ..SpanTime::default() }] }
    }

    #[test]
    fn a_chain_is_read_from_the_top() {
        let lines = waits().lines("1");
        let expected = "\nwoken by b in orders::release (span 2), 5.0 ms\n    unlock\n    orders::release\n\
                        who waited for a timer or a device, 4.0 ms\n";
        assert_eq!(lines, expected);
        assert_eq!(waits().lines("2"), "");
    }

    #[test]
    fn a_message_of_a_batch_says_what_it_waited_for_others() {
        let span = SpanTime {
            span_id: "1".into(),
            shared_ns: 1_200_000,
            batch_size: 32,
            head_of_line_ns: 40_000_000,
            ..SpanTime::default()
        };
        let expected = "\nin a batch of 32: stood in line behind its neighbours for 40.0 ms; its share of what was done for \
                        all is 1.2 ms\n";
        assert_eq!(Waits { spans: vec![span] }.lines("1"), expected);
    }

    #[test]
    fn a_span_that_was_told_of_says_how_long_it_took() {
        let told = SpanTime {
            span_id: "1".into(),
            wall_ns: Some(400_000_000),
            coverage: Some(0.995),
            ..SpanTime::default()
        };
        let with_children = SpanTime { children_ns: 30_000_000, span_id: "2".into(), ..told.clone() };
        let waits = Waits { spans: vec![told, with_children] };
        assert_eq!(waits.lines("1"), "\ntook 400.0 ms; 99.5 % is accounted for\n");
        assert!(waits.lines("2").contains("took 400.0 ms, 30.0 ms of it in its own children; 99.5 %"));
    }

    #[test]
    fn rows_of_known_spans_have_their_chain() {
        let mut rows = json!([{"trace_id": null, "span_id": "1"}, {"trace_id": null, "span_id": "9"}]);
        waits().add_to(&mut rows);
        assert_eq!(rows[0]["woken_by"][0]["span_id"], "2");
        assert!(rows[1].get("woken_by").is_none());
    }
}
