//! `spanprof show`: a recording in the terminal.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use spanprof_exporter::analysis::{DestinationTime, FunctionTime, SpanTime, Times, TraceTime};
use spanprof_exporter::idle::IdleThreads;
use spanprof_exporter::svg::flame_graph;
use spanprof_exporter::waits::Wait;
use spanprof_exporter::{FoldedRoot, Profile, SampleFilter, SampleKind, analysis, folded, pprof, speedscope};

use super::exit::{Exit, Failure};
use super::table::Table;
use super::units::nanoseconds;
use super::waits::Waits;
use super::{Outcome, recording_file, stdout};

/// Show a recording in the terminal
///
/// Reads a pprof file (spanprof's own or another profiler's), the directory of a recording, or all windows
/// of a directory that `attach` wrote.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct ShowArguments {
    /// A pprof file, a directory that `record` or `attach --dir` wrote, or - for standard input
    file: PathBuf,
    /// Only this kind of time
    #[arg(long = "type", value_name = "KIND")]
    kind: Option<Kind>,
    /// What each line stands for [default: span where the file has some, else function]
    #[arg(long, value_name = "WHAT")]
    by: Option<By>,
    /// Only this trace (32 hex digits)
    #[arg(long, value_name = "HEX", value_parser = hexadecimal::<32>)]
    trace: Option<String>,
    /// Only this span (16 hex digits)
    #[arg(long, value_name = "HEX", value_parser = hexadecimal::<16>)]
    span: Option<String>,
    /// Print folded stacks (nanoseconds) for flame graph tools, of --type or cpu
    #[arg(long, group = "Export", conflicts_with_all = ["by", "json"])]
    folded: bool,
    /// Print a file for speedscope (speedscope.app), of --type or all kinds of time
    #[arg(long, group = "Export", conflicts_with_all = ["by", "json"])]
    speedscope: bool,
    /// Print a flame graph as SVG, of --type or cpu
    #[arg(long, group = "Export", conflicts_with_all = ["by", "json"])]
    svg: bool,
    /// Print a pprof file of what is meant, of --type or all kinds of time
    #[arg(long, group = "Export", conflicts_with_all = ["by", "json"])]
    pprof: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// At most this many lines; 0 for all
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

const EXAMPLES: &str = "\
Examples:
  spanprof show spanprof-out
      The slowest spans: how long each ran, was blocked and waited for a CPU, and its main cause.
  spanprof show spanprof-out/profile.pb.gz --by function --type off_cpu
      The functions that blocked the longest.
  spanprof show spanprof-out --span 00f067aa0ba902b7 --folded --type off_cpu > slow.folded
      One span's blocked stacks for a flame graph tool.
  spanprof show spanprof-out --trace 4bf92f3577b34da6a3ce929d0e0e4736 --pprof > one.pb.gz
      One trace alone, for `go tool pprof` and the like.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Kind {
    /// Running on a CPU
    Cpu,
    /// Blocked
    OffCpu,
    /// Runnable and waiting for a CPU
    RunQueue,
    /// A task at an await, until its wake-up
    Suspended,
    /// A task that was woken, until its next poll
    Ready,
    /// Of a span's wall time what was not seen
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// One span
    Span,
    /// One trace, over all processes
    Trace,
    /// A topic or queue with its consumer group
    Destination,
    /// A function
    Function,
}

impl From<Kind> for SampleKind {
    fn from(kind: Kind) -> SampleKind {
        match kind {
            Kind::Cpu => SampleKind::Cpu,
            Kind::OffCpu => SampleKind::OffCpu,
            Kind::RunQueue => SampleKind::RunQueue,
            Kind::Suspended => SampleKind::Suspended,
            Kind::Ready => SampleKind::Ready,
            Kind::Unknown => SampleKind::Unknown,
        }
    }
}

fn hexadecimal<const DIGITS: usize>(text: &str) -> Result<String, String> {
    let valid = text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    valid.then(|| text.to_ascii_lowercase()).ok_or_else(|| format!("must be {DIGITS} hex digits"))
}

pub(super) fn run(arguments: &ShowArguments) -> Outcome {
    let profile = recording_file::read(&arguments.file)?.profile;
    let filter = SampleFilter {
        trace_id: arguments.trace.clone(),
        span_id: arguments.span.clone(),
        ..SampleFilter::default()
    };
    if !profile.label_sets().iter().any(|labels| filter.matches(labels)) && filter != SampleFilter::default()
    {
        return Err(Failure::new(Exit::NothingMatched, "the file holds no sample of this trace and span")
            .help("list what it holds with --by span or --by trace"));
    }
    if let Some(bytes) = export(arguments, &profile, &filter)? {
        stdout::write_bytes(&bytes)?;
        return Ok(Exit::Done);
    }
    let mut listing = Listing::new(arguments, &profile, &filter);
    let waits = Waits::of(&profile, &arguments.file);
    waits.add_to(&mut listing.json);
    match arguments.json {
        true => stdout::write_json(&listing.json)?,
        false => {
            let chain = filter.span_id.as_deref().map(|span| waits.lines(span)).unwrap_or_default();
            stdout::write(&(listing.text() + &chain))?;
        }
    }
    Ok(Exit::Done)
}

/// A file in another tool's format, where one was asked for.
fn export(
    arguments: &ShowArguments,
    profile: &Profile,
    filter: &SampleFilter,
) -> Result<Option<Vec<u8>>, Failure> {
    let kind = arguments.kind.map(SampleKind::from);
    let one = kind.unwrap_or(SampleKind::Cpu);
    let nothing =
        || Failure::new(Exit::NothingMatched, "the file holds no such time").help("choose another --type");
    if arguments.folded {
        return Ok(Some(folded(profile, one, filter, FoldedRoot::ServiceIfSeveral).into_bytes()));
    }
    if arguments.speedscope {
        let name = arguments.file.display().to_string();
        return speedscope::encode(profile, kind, filter, &name)
            .map(String::into_bytes)
            .map(Some)
            .ok_or_else(nothing);
    }
    if arguments.svg {
        let title = arguments.file.display().to_string();
        let drawn = flame_graph(profile, one, filter, IdleThreads::Hidden, &title)
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        return drawn.map(String::into_bytes).map(Some).ok_or_else(nothing);
    }
    if arguments.pprof {
        if std::io::stdout().is_terminal() {
            return Err(Failure::new(Exit::Usage, "a pprof file is nothing for a terminal")
                .help("write it into a file: --pprof > profile.pb.gz"));
        }
        return Ok(Some(pprof::encode(&profile.selected(filter, kind))));
    }
    Ok(None)
}

/// The lines that were asked for, as a table and as JSON.
struct Listing {
    table: Table,
    json: Value,
    /// How many there were before the limit.
    all: usize,
    shown: usize,
}

impl Listing {
    fn new(arguments: &ShowArguments, profile: &Profile, filter: &SampleFilter) -> Listing {
        let (kind, kinds) = (arguments.kind.map(SampleKind::from), profile.kinds());
        let chosen = Chosen { kind, kinds, limit: arguments.limit };
        let spans = || -> Vec<SpanTime> {
            let meant = |wanted: &Option<String>, found: Option<&str>| {
                wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
            };
            let spans = analysis::spans(profile).into_iter();
            spans
                .filter(|span| {
                    meant(&filter.trace_id, span.trace_id.as_deref())
                        && meant(&filter.span_id, Some(&span.span_id))
                })
                .collect()
        };
        match arguments.by {
            Some(By::Function) => chosen.functions(analysis::functions(profile, filter)),
            Some(By::Trace) => {
                let mut traces = analysis::traces(profile);
                traces
                    .retain(|trace| filter.trace_id.as_deref().is_none_or(|wanted| trace.trace_id == wanted));
                chosen.traces(traces)
            }
            Some(By::Destination) => chosen.destinations(analysis::destinations(profile)),
            Some(By::Span) => chosen.spans(spans()),
            None => match spans() {
                spans if spans.is_empty() => chosen.functions(analysis::functions(profile, filter)),
                spans => chosen.spans(spans),
            },
        }
    }

    fn text(&self) -> String {
        let mut text = self.table.render_within(stdout::width());
        match self.all - self.shown {
            0 => {}
            more => text.push_str(&format!("… {more} more (--limit 0 shows all)\n")),
        }
        text
    }
}

/// Which kind of time decides, which have columns, and how many lines are shown.
struct Chosen {
    kind: Option<SampleKind>,
    kinds: &'static [SampleKind],
    limit: usize,
}

impl Chosen {
    fn weight(&self, times: Times) -> u64 {
        self.kind.map_or_else(|| times.total_ns(), |kind| times.of(kind))
    }

    /// The heaviest first, none without time of the chosen kind, at most the limit.
    fn pick<T>(&self, mut rows: Vec<T>, times: impl Fn(&T) -> Times) -> (Vec<T>, usize) {
        rows.retain(|row| self.weight(times(row)) > 0);
        rows.sort_by_key(|row| std::cmp::Reverse(self.weight(times(row))));
        let all = rows.len();
        if self.limit > 0 {
            rows.truncate(self.limit);
        }
        (rows, all)
    }

    /// The kinds of time that have columns: those that any of the rows has, and the one that was asked for.
    fn columns<T>(&self, rows: &[T], times: impl Fn(&T) -> Times) -> Columns {
        let has_some = |kind: &SampleKind| rows.iter().any(|row| times(row).of(*kind) > 0);
        let kinds = self.kinds.iter().copied();
        Columns(kinds.filter(|kind| self.kind == Some(*kind) || has_some(kind)).collect())
    }

    fn spans(&self, spans: Vec<SpanTime>) -> Listing {
        let (rows, all) = self.pick(spans, SpanTime::times);
        let columns = self.columns(&rows, SpanTime::times);
        let mut table = columns.table(&["SPAN", "~DESTINATION"], &["|WAIT", "|MAIN CAUSE"]);
        for span in &rows {
            let mut cells = vec![span.span_id.clone(), span_cell(span)];
            cells.extend(columns.cells(span.times()));
            cells.push(wait_cell(span.main_wait));
            cells.push(cause_cell(&span.main_cause, span.main_share));
            table.row(cells);
        }
        let json = rows.iter().map(span_json).collect();
        Listing { table, json, all, shown: rows.len() }
    }

    fn traces(&self, traces: Vec<TraceTime>) -> Listing {
        let (rows, all) = self.pick(traces, |trace| trace.times);
        let columns = self.columns(&rows, |trace| trace.times);
        let mut table = columns.table(&["TRACE", ">SPANS", "~SERVICES"], &["|WAIT", "|MAIN CAUSE"]);
        for trace in &rows {
            let mut cells = vec![trace.trace_id.clone(), trace.spans.to_string(), trace.services.join(", ")];
            cells.extend(columns.cells(trace.times));
            cells.push(wait_cell(trace.main_wait));
            cells.push(cause_cell(&trace.main_cause, trace.main_share));
            table.row(cells);
        }
        let json = rows
            .iter()
            .map(|trace| {
                with_times(
                    json!({
                        "trace_id": trace.trace_id, "spans": trace.spans, "services": trace.services,
                        "main_kind": trace.main_kind.as_str(), "main_cause": trace.main_cause,
                        "main_share": trace.main_share, "main_wait": trace.main_wait.map(Wait::as_str),
                    }),
                    trace.times,
                )
            })
            .collect();
        Listing { table, json, all, shown: rows.len() }
    }

    fn destinations(&self, destinations: Vec<DestinationTime>) -> Listing {
        let (rows, all) = self.pick(destinations, |destination| destination.times);
        let columns = self.columns(&rows, |row| row.times);
        let names = ["~DESTINATION", "~GROUP", "~SERVICE", ">SPANS"];
        let mut table = columns.table(&names, &["|WAIT", "|MAIN CAUSE"]);
        for row in &rows {
            let destination = operation_on(row.operation.as_deref(), row.destination.as_deref());
            let names = [destination, row.consumer_group.clone(), row.service.clone()];
            let mut cells: Vec<String> = names.map(|name| or_dash(name.as_deref())).into();
            cells.push(row.spans.to_string());
            cells.extend(columns.cells(row.times));
            cells.push(wait_cell(row.main_wait));
            cells.push(cause_cell(&row.main_cause, row.main_share));
            table.row(cells);
        }
        let json = rows
            .iter()
            .map(|row| {
                with_times(
                    json!({
                        "destination": row.destination, "consumer_group": row.consumer_group,
                        "operation": row.operation, "service": row.service, "spans": row.spans,
                        "main_kind": row.main_kind.as_str(), "main_cause": row.main_cause,
                        "main_share": row.main_share, "main_wait": row.main_wait.map(Wait::as_str),
                    }),
                    row.times,
                )
            })
            .collect();
        Listing { table, json, all, shown: rows.len() }
    }

    fn functions(&self, functions: Vec<FunctionTime>) -> Listing {
        // By own time: the sum over callers says little about a function that everything runs under.
        let (rows, all) = self.pick(functions, |function| function.own);
        let columns = self.columns(&rows, |function| function.own);
        let mut table = columns.table(&[], &[">TOTAL", "WAIT", "|FUNCTION, FILE"]);
        for function in &rows {
            let mut cells: Vec<String> = columns.cells(function.own).collect();
            cells.push(nanoseconds(self.weight(function.total)));
            cells.push(wait_cell(function.main_wait));
            let file = function.file.as_deref().unwrap_or_default();
            cells.push(format!("{} {file}", function.function).trim_end().to_owned());
            table.row(cells);
        }
        let json = rows
            .iter()
            .map(|function| {
                let own = with_times(json!({}), function.own);
                let total = with_times(json!({}), function.total);
                json!({
                    "function": &*function.function, "file": function.file.as_deref(),
                    "runtime": function.is_runtime, "main_wait": function.main_wait.map(Wait::as_str), "own": own, "total": total,
                })
            })
            .collect();
        Listing { table, json, all, shown: rows.len() }
    }
}

/// Which kinds of time have columns.
struct Columns(Vec<SampleKind>);

impl Columns {
    /// A table with columns before and after those of the kinds of time.
    fn table(&self, before: &[&'static str], after: &[&'static str]) -> Table {
        let times: Vec<&str> = self.0.iter().map(|kind| heading(*kind)).collect();
        Table::new(&[before, &times, after].concat())
    }

    fn cells(&self, times: Times) -> impl Iterator<Item = String> {
        self.0.iter().map(move |kind| nanoseconds(times.of(*kind)))
    }
}

const fn heading(kind: SampleKind) -> &'static str {
    match kind {
        SampleKind::Cpu => ">CPU",
        SampleKind::OffCpu => ">OFF_CPU",
        SampleKind::RunQueue => ">RUN_QUEUE",
        SampleKind::Suspended => ">SUSPENDED",
        SampleKind::Ready => ">READY",
        SampleKind::Unknown => ">UNKNOWN",
    }
}

fn span_json(span: &SpanTime) -> Value {
    with_times(
        json!({
            "trace_id": span.trace_id, "span_id": span.span_id, "span_name": span.span_name,
            "service": span.service, "pid": span.pid, "thread": span.thread,
            "destination": span.destination, "consumer_group": span.consumer_group,
            "operation": span.operation, "main_kind": span.main_kind.as_str(),
            "main_cause": span.main_cause, "main_share": span.main_share, "main_wait": span.main_wait.map(Wait::as_str),
        }),
        span.times(),
    )
}

fn with_times(mut object: Value, times: Times) -> Value {
    for kind in SampleKind::ALL {
        object[format!("{}_ns", kind.as_str())] = times.of(kind).into();
    }
    object
}

fn cause_cell(cause: &str, share: f64) -> String {
    match cause {
        "" => String::new(),
        cause => format!("{:.0} % {cause}", share * 100.0),
    }
}

/// What was waited for the longest.
pub(super) fn wait_cell(wait: Option<Wait>) -> String {
    or_dash(wait.map(Wait::as_str))
}

/// What a span did, in the fewest words that tell it from others: its name where a tracer told it, else its operation and
/// destination, which by the conventions is the same; the service where it is no messaging.
fn span_cell(span: &SpanTime) -> String {
    let told = span.span_name.clone();
    let told = told.or_else(|| operation_on(span.operation.as_deref(), span.destination.as_deref()));
    or_dash(told.as_deref().or(span.service.as_deref()))
}

/// `process orders`.
fn operation_on(operation: Option<&str>, destination: Option<&str>) -> Option<String> {
    match (operation, destination) {
        (Some(operation), Some(destination)) => Some(format!("{operation} {destination}")),
        (one, other) => one.or(other).map(str::to_owned),
    }
}

fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}
