//! What a request asks for: its path and its query, of which nothing is trusted.

use spanprof_exporter::{SampleFilter, SampleKind};

/// The longest path with query that is looked at, in bytes.
const LONGEST: usize = 8 << 10;
/// The longest destination or group that is looked for, in bytes.
const LONGEST_NAME: usize = 1_024;
/// The largest time, in milliseconds: what JavaScript holds exactly.
const LAST_MILLISECOND: u64 = (1 << 53) - 1;

/// A range of time, in nanoseconds since the Unix epoch; the end is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Range {
    /// Its begin.
    pub(super) from_ns: u64,
    /// Its end.
    pub(super) to_ns: u64,
}

impl Range {
    /// All of time.
    pub(super) const ALL: Range = Range { from_ns: 0, to_ns: u64::MAX };

    /// Whether a window is in it, at least with a part.
    pub(super) fn meets(&self, begin_ns: u64, end_ns: u64) -> bool {
        begin_ns < self.to_ns && end_ns.max(begin_ns.saturating_add(1)) > self.from_ns
    }
}

/// In which format something is downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Format {
    /// A pprof file.
    Pprof,
    /// Folded stacks.
    Folded,
    /// speedscope's JSON.
    Speedscope,
    /// A flame graph.
    Svg,
}

/// Something to download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Download {
    /// The format.
    pub(super) format: Format,
    /// The range of time.
    pub(super) range: Range,
    /// One kind of time; none for all, or for CPU time where the format holds one alone.
    pub(super) kind: Option<SampleKind>,
    /// Which samples.
    pub(super) filter: SampleFilter,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// The page itself.
    Page,
    /// What windows there are.
    Windows(Range),
    /// The profile of a range.
    Profile(Range),
    /// How the agent is.
    Health,
    /// Numbers for Prometheus.
    Metrics,
    /// A file.
    Export(Download),
}

/// Why a question is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Misunderstood {
    /// There is no such path.
    Unknown,
    /// The path with its query is longer than is looked at.
    TooLong,
    /// A parameter is not what it has to be, in words.
    Parameter(String),
}

impl Question {
    /// Reads a path and its query.
    pub(super) fn read(path: &str, query: Option<&str>) -> Result<Question, Misunderstood> {
        let query = query.unwrap_or_default();
        if path.len() + query.len() > LONGEST {
            return Err(Misunderstood::TooLong);
        }
        let export = |format| {
            let asked = Parameters::read(query, true)?;
            Ok(Question::Export(Download {
                format,
                range: asked.range()?,
                kind: asked.kind,
                filter: asked.filter,
            }))
        };
        let range = || Parameters::read(query, false)?.range();
        match path {
            // Its state is behind the `#`, which no browser sends; what else a link carries is not ours.
            "/" => Ok(Question::Page),
            "/api/windows" => Ok(Question::Windows(range()?)),
            "/api/profile" => Ok(Question::Profile(range()?)),
            "/metrics" => Ok(Question::Metrics),
            "/api/health" => Parameters::read(query, false).map(|_| Question::Health),
            "/export/pprof" => export(Format::Pprof),
            "/export/folded" => export(Format::Folded),
            "/export/speedscope" => export(Format::Speedscope),
            "/export/svg" => export(Format::Svg),
            _ => Err(Misunderstood::Unknown),
        }
    }
}

/// A query's parameters; an empty one is as none.
#[derive(Default)]
struct Parameters {
    from: Option<u64>,
    to: Option<u64>,
    kind: Option<SampleKind>,
    filter: SampleFilter,
}

impl Parameters {
    fn read(query: &str, with_filter: bool) -> Result<Parameters, Misunderstood> {
        let mut parameters = Parameters::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let once = match &*name {
                _ if value.is_empty() => true,
                "from" => set(&mut parameters.from, Some(milliseconds(&name, &value)?)),
                "to" => set(&mut parameters.to, Some(milliseconds(&name, &value)?)),
                "type" if with_filter => set(&mut parameters.kind, Some(kind(&value)?)),
                "trace" if with_filter => {
                    set(&mut parameters.filter.trace_id, Some(id::<32>(&name, &value)?))
                }
                "span" if with_filter => set(&mut parameters.filter.span_id, Some(id::<16>(&name, &value)?)),
                "destination" if with_filter => {
                    set(&mut parameters.filter.destination, Some(text(&name, &value)?))
                }
                "group" if with_filter => {
                    set(&mut parameters.filter.consumer_group, Some(text(&name, &value)?))
                }
                _ => return Err(wrong("a parameter is none of those that can be asked here")),
            };
            if !once {
                return Err(wrong("a parameter is given twice"));
            }
        }
        Ok(parameters)
    }

    fn range(&self) -> Result<Range, Misunderstood> {
        let nanoseconds = |milliseconds: u64| milliseconds.saturating_mul(1_000_000);
        let from_ns = self.from.map_or(Range::ALL.from_ns, nanoseconds);
        let to_ns = self.to.map_or(Range::ALL.to_ns, nanoseconds);
        match from_ns < to_ns {
            true => Ok(Range { from_ns, to_ns }),
            false => Err(wrong("from has to be before to")),
        }
    }
}

/// Whether a place was empty, which it is no more.
fn set<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    std::mem::replace(place, value).is_none()
}

fn milliseconds(name: &str, value: &str) -> Result<u64, Misunderstood> {
    let number = value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok()).flatten();
    let number = number.filter(|number| *number <= LAST_MILLISECOND);
    number.ok_or_else(|| wrong(&format!("{name} has to be a whole number of milliseconds since 1970")))
}

fn kind(value: &str) -> Result<SampleKind, Misunderstood> {
    let kinds = SampleKind::ALL.map(SampleKind::as_str).join(", ");
    let found = SampleKind::ALL.into_iter().find(|kind| kind.as_str() == value);
    found.ok_or_else(|| wrong(&format!("type has to be one of {kinds}")))
}

fn id<const DIGITS: usize>(name: &str, value: &str) -> Result<String, Misunderstood> {
    let valid = value.len() == DIGITS && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    valid
        .then(|| value.to_ascii_lowercase())
        .ok_or_else(|| wrong(&format!("{name} has to be {DIGITS} hex digits")))
}

fn text(name: &str, value: &str) -> Result<String, Misunderstood> {
    let fits = value.len() <= LONGEST_NAME;
    fits.then(|| value.to_owned())
        .ok_or_else(|| wrong(&format!("{name} is longer than {LONGEST_NAME} bytes")))
}

fn wrong(words: &str) -> Misunderstood {
    Misunderstood::Parameter(words.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_asked_is_understood() {
        let read = |path, query| Question::read(path, Some(query));
        assert_eq!(read("/", "a=b"), Ok(Question::Page));
        assert_eq!(Question::read("/metrics", None), Ok(Question::Metrics));
        assert_eq!(Question::read("/api/windows", None), Ok(Question::Windows(Range::ALL)));
        let range = Range { from_ns: 5_000_000, to_ns: 7_000_000 };
        assert_eq!(read("/api/profile", "to=7&from=5"), Ok(Question::Profile(range)));
        assert_eq!(read("/api/profile", "from=&to="), Ok(Question::Profile(Range::ALL)));
        let query = "type=off_cpu&span=00F067AA0BA902B7&destination=a%2Fb+c&group=%C3%BC";
        let Ok(Question::Export(download)) = read("/export/svg", query) else { panic!() };
        assert_eq!((download.format, download.kind), (Format::Svg, Some(SampleKind::OffCpu)));
        assert_eq!(download.filter.span_id.as_deref(), Some("00f067aa0ba902b7"));
        assert_eq!(download.filter.destination.as_deref(), Some("a/b c"));
        assert_eq!(download.filter.consumer_group.as_deref(), Some("ü"));
    }

    #[test]
    fn what_is_no_question_is_refused() {
        for query in [
            "from=NaN",
            "from=-1",
            "from=1e9",
            "from=1.5",
            "from=9007199254740992",
            "to=99999999999999999999",
            "from=%00",
            "from=5&to=5",
            "from=7&to=5",
            "from=1&from=2",
            "type=cpu",
            "other=1",
            "to=0",
        ] {
            let read = Question::read("/api/profile", Some(query));
            assert!(matches!(read, Err(Misunderstood::Parameter(_))), "{query}: {read:?}");
        }
        for query in ["type=wall", "trace=12", "span=zzzzzzzzzzzzzzzz", "span=1&span=2"] {
            let read = Question::read("/export/pprof", Some(query));
            assert!(matches!(read, Err(Misunderstood::Parameter(_))), "{query}: {read:?}");
        }
        let long = format!("destination={}", "x".repeat(LONGEST_NAME + 1));
        assert!(matches!(Question::read("/export/svg", Some(&long)), Err(Misunderstood::Parameter(_))));
        for path in [
            "",
            "//",
            "/index.html",
            "/api",
            "/api/profile/",
            "/export/../etc/passwd",
            "/%2e%2e/x",
            "/metrics/",
        ] {
            assert_eq!(Question::read(path, None), Err(Misunderstood::Unknown), "{path}");
        }
        let long = "x".repeat(64 << 10);
        assert_eq!(Question::read("/api/windows", Some(&long)), Err(Misunderstood::TooLong));
        assert_eq!(Question::read(&long, None), Err(Misunderstood::TooLong));
    }

    #[test]
    fn a_window_of_no_length_is_in_the_range_that_it_begins_in() {
        let range = Range { from_ns: 10, to_ns: 20 };
        for (begin, end, expected) in
            [(10, 10, true), (9, 9, false), (5, 10, false), (5, 11, true), (20, 30, false)]
        {
            assert_eq!(range.meets(begin, end), expected, "{begin}..{end}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd_to_be_read(path in ".{0,40}", query in ".{0,200}") {
            let _ = Question::read(&path, Some(&query));
            for path in ["/api/windows", "/export/svg"] {
                let _ = Question::read(path, Some(&query));
            }
        }
    }
}
