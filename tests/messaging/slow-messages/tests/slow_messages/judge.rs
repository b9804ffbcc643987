//! The agent's word against the consumer's.
//!
//! A span is slow beyond dispute that took four times as long as nine in ten of its like, and one is not slow that took less than
//! twice as long. Between the two both may be said, as on a machine that is busy with other things of many messages.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use spanprof_exporter::analysis::{self, SpanTime};
use spanprof_exporter::{Profile, SampleKind, label};
use spanprof_slow_messages::{Cause, MessageTruth, SpanTruth, Truth};

use crate::course::Seen;

/// At least so much of the slow messages is kept, and so much has the right main cause.
const KEPT: f64 = 0.95;
/// Less than so much of what is kept was not slow.
const KEPT_THOUGH_NOT_SLOW: f64 = 0.01;
/// So many times as long as nine in ten: slow, and below it not slow. Between them both may be said.
const SLOW: f64 = 4.0;
const NOT_SLOW: f64 = 2.0;
/// The greatest part of a message's time and what is nearly as great: either may be called the main one.
const NEARLY: f64 = 0.8;

/// What the agent says of a message that is slow for a cause.
struct Right {
    cause: Cause,
    kind: SampleKind,
    /// What of the main cause tells the wait.
    words: &'static str,
    /// The handler's functions, one of which the main cause names.
    functions: &'static [&'static str],
}

const RIGHT: [Right; 7] = [
    Right {
        cause: Cause::Cpu,
        kind: SampleKind::Cpu,
        words: "running",
        functions: &["appraise", "compute", "clocks::cpu"],
    },
    Right { cause: Cause::Lock, kind: SampleKind::OffCpu, words: "a lock", functions: &["reserve"] },
    Right { cause: Cause::Socket, kind: SampleKind::OffCpu, words: "a socket", functions: &["order"] },
    Right { cause: Cause::Sleep, kind: SampleKind::OffCpu, words: "sleep", functions: &["rest"] },
    Right {
        cause: Cause::File,
        kind: SampleKind::OffCpu,
        words: "file I/O",
        functions: &["enter_into_books"],
    },
    Right {
        cause: Cause::RunQueue,
        kind: SampleKind::RunQueue,
        words: "ready to run",
        // It was put off wherever it was.
        functions: &[""],
    },
    Right { cause: Cause::HeadOfLine, kind: SampleKind::OffCpu, words: "sleep", functions: &["hold_up"] },
];

/// Trace and span.
type Ids = (String, String);

/// Messages of one kind.
#[derive(Debug, Default, Clone, Copy)]
struct Row {
    all: u32,
    /// Beyond dispute. What follows is said of these alone.
    slow: u32,
    kept: u32,
    right: u32,
}

/// Spans of one name that are kept as slow.
#[derive(Debug, Default, Clone, Copy)]
struct Kept {
    all: u32,
    not_slow: u32,
}

/// How the agent did in one run.
#[derive(Debug)]
pub(crate) struct Verdict {
    messages: usize,
    /// By what they were made slow.
    made_slow: BTreeMap<Cause, Row>,
    /// What was slow of itself, on a machine that is shared.
    of_itself: Row,
    /// By the span's name.
    kept: BTreeMap<String, Kept>,
    /// What nine in ten took at most, by the span's name, in nanoseconds.
    usual: HashMap<String, u64>,
    /// Messages behind one that held up its batch, and for how long together, in nanoseconds.
    held_up: (usize, u64),
    /// What went wrong, a line each.
    notes: Vec<String>,
}

impl Verdict {
    pub(crate) fn of(seen: &Seen) -> Self {
        let agent = Agent::over(&seen.windows);
        let mut verdict = Self {
            messages: seen.truth.messages.len(),
            made_slow: BTreeMap::new(),
            of_itself: Row::default(),
            kept: BTreeMap::new(),
            usual: usual(&seen.truth),
            held_up: held_up(&seen.truth),
            notes: Vec::new(),
        };
        let ids = |span: &SpanTruth| (span.trace.clone(), span.span.clone());
        let spans: HashMap<Ids, &SpanTruth> = seen.truth.spans.iter().map(|span| (ids(span), span)).collect();
        for message in &seen.truth.messages {
            let ids = (message.trace.clone(), message.span.clone());
            let span = spans.get(&ids).expect("every message was processed within a span");
            verdict.judge(message, span, &ids, &agent);
        }
        verdict.judge_kept(&spans, &agent);
        verdict
    }

    /// How often a span took as long as nine in ten of its like took at most.
    fn times_usual(&self, span: &SpanTruth) -> f64 {
        span.wall_ns as f64 / self.usual[&span.name].max(1) as f64
    }

    fn judge(&mut self, message: &MessageTruth, span: &SpanTruth, ids: &Ids, agent: &Agent) {
        let is_slow = self.times_usual(span) >= SLOW;
        let row = match message.cause {
            Some(cause) => self.made_slow.entry(cause).or_default(),
            None => &mut self.of_itself,
        };
        row.all += 1;
        if !is_slow {
            return;
        }
        let told = agent.spans.get(ids);
        let is_kept = agent.kept.contains(ids);
        let is_right = is_kept && told.is_some_and(|told| is_right(message, told));
        row.slow += 1;
        row.kept += u32::from(is_kept);
        row.right += u32::from(is_right);
        if !is_right && message.cause.is_some() {
            let told = told.map_or("unknown".to_owned(), in_words);
            let kept = if is_kept { "kept" } else { "not kept" };
            self.notes.push(format!("{kept}: {}\n    the agent: {told}", truth_in_words(message)));
        }
    }

    /// What is kept as slow, and whether it was.
    fn judge_kept(&mut self, spans: &HashMap<Ids, &SpanTruth>, agent: &Agent) {
        for ids in &agent.kept {
            let span = spans.get(ids);
            let name = span.map_or("unknown", |span| &*span.name);
            let is_slow = span.is_some_and(|span| self.times_usual(span) >= NOT_SLOW);
            let kept = self.kept.entry(name.to_owned()).or_default();
            kept.all += 1;
            if !is_slow {
                kept.not_slow += 1;
                let took = milliseconds(span.map_or(0, |span| span.wall_ns));
                let told = agent.spans.get(ids).map_or("unknown".to_owned(), in_words);
                self.notes.push(format!("not slow: '{name}' took {took} ms\n    the agent: {told}"));
            }
        }
    }

    fn whole(&self) -> Row {
        self.made_slow.values().fold(Row::default(), |sum, row| Row {
            all: sum.all + row.all,
            slow: sum.slow + row.slow,
            kept: sum.kept + row.kept,
            right: sum.right + row.right,
        })
    }

    /// Fails where the agent did not do as it has to.
    pub(crate) fn require(&self, run: &str) {
        let whole = self.whole();
        assert_eq!(whole.all as usize, self.messages / 100, "{run}: one in a hundred was made slow");
        let slow = whole.slow;
        assert!(
            slow >= whole.all / 2,
            "{run}: the machine is so busy that {slow} of {} were slow",
            whole.all
        );
        let least = KEPT * f64::from(whole.slow) - self.chance(whole.slow);
        assert!(f64::from(whole.kept) >= least, "{run}: {} of {} are kept", whole.kept, whole.slow);
        assert!(f64::from(whole.right) >= least, "{run}: {} of {} are right", whole.right, whole.slow);
        // Those of messages alone: of what waits for the broker without a thread, nobody but its tracer knows how long it took.
        let messages = self.kept.iter().filter(|(name, _)| name.starts_with("process "));
        let (all, not_slow) =
            messages.fold((0, 0), |(all, not_slow), (_, kept)| (all + kept.all, not_slow + kept.not_slow));
        assert!(
            f64::from(not_slow) < KEPT_THOUGH_NOT_SLOW * f64::from(all),
            "{run}: {not_slow} of {all} that are kept were not slow"
        );
    }
}

impl Verdict {
    /// What chance alone makes of a share of so many: three standard errors of it. A hundred thousand messages are judged without.
    fn chance(&self, slow: u32) -> f64 {
        match self.messages < 100_000 {
            true => 3.0 * (f64::from(slow) * KEPT * (1.0 - KEPT)).sqrt(),
            false => 0.0,
        }
    }
}

/// All windows of the agent together.
struct Agent {
    spans: HashMap<Ids, SpanTime>,
    /// Those that it keeps as slow, in any window.
    kept: HashSet<Ids>,
}

impl Agent {
    fn over(windows: &[Profile]) -> Self {
        let mut whole = Profile::default();
        for window in windows {
            whole.absorb(window);
        }
        let kept = whole.samples().into_iter().filter_map(|(key, _)| {
            let labels = whole.labels(key.labels);
            let text = |key: &str| labels.iter().find(|label| *label.key == *key)?.value.as_text();
            text(label::KEPT)?;
            Some((text(label::TRACE_ID)?.to_owned(), text(label::SPAN_ID)?.to_owned()))
        });
        let kept = kept.collect();
        let with_ids = |span: SpanTime| Some(((span.trace_id.clone()?, span.span_id.clone()), span));
        let spans = analysis::spans(&whole).into_iter().filter_map(with_ids).collect();
        Self { spans, kept }
    }
}

/// Whether the agent's main cause of a message is the one that was measured inside.
fn is_right(message: &MessageTruth, span: &SpanTime) -> bool {
    let measured = [
        (SampleKind::Cpu, message.cpu_ns),
        (SampleKind::OffCpu, message.blocked_ns()),
        (SampleKind::RunQueue, message.run_queue_ns),
    ];
    let most = measured.iter().map(|(_, time)| *time).max().unwrap_or_default();
    let is_main =
        |(kind, time): &(SampleKind, u64)| *kind == span.main_kind && *time as f64 >= NEARLY * most as f64;
    let right = RIGHT.iter().find(|right| Some(right.cause) == message.cause && right.kind == span.main_kind);
    measured.iter().any(is_main)
        && right.is_none_or(|right| {
            let names = |function: &&str| span.main_cause.contains(function);
            span.main_cause.contains(right.words) && right.functions.iter().any(names)
        })
}

/// What nine in ten spans took at most, by their name.
fn usual(truth: &Truth) -> HashMap<String, u64> {
    let mut by_name: HashMap<&str, Vec<u64>> = HashMap::new();
    for span in &truth.spans {
        by_name.entry(&span.name).or_default().push(span.wall_ns);
    }
    let usual = by_name.into_iter().map(|(name, mut times)| {
        times.sort_unstable();
        (name.to_owned(), times[times.len() * 9 / 10])
    });
    usual.collect()
}

/// How many messages stood behind one that held up its batch, and their waits for it together.
///
/// Their own spans begin when it is their turn: none of this is in them, and the agent does not tell it yet. Where it does, each
/// of these messages must show the time that it was held up, which the truth knows, under a name of its own.
fn held_up(truth: &Truth) -> (usize, u64) {
    let behind = truth.messages.iter().filter(|message| message.behind_ns > 0);
    for message in behind.clone() {
        assert!(message.waited_ns >= message.behind_ns, "it waited for more than that: {message:?}");
    }
    (behind.clone().count(), behind.map(|message| message.behind_ns).sum())
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(out, "  {note}")?;
        }
        writeln!(out, "  {:24} {:>7} {:>6} {:>6} {:>6}", "made slow by", "", "slow", "kept", "right")?;
        let mut line = |name: &str, row: &Row| {
            writeln!(out, "  {name:24} {:7} {:6} {:6} {:6}", row.all, row.slow, row.kept, row.right)
        };
        for (cause, row) in &self.made_slow {
            line(cause.name(), row)?;
        }
        line("all of these", &self.whole())?;
        line("nothing that we made", &self.of_itself)?;
        writeln!(out, "  {:32} {:>6} {:>9} {:>15}", "kept as slow", "", "not slow", "usual up to, ms")?;
        for (name, kept) in &self.kept {
            let usual = milliseconds(self.usual.get(name).copied().unwrap_or_default());
            writeln!(out, "  {name:32} {:6} {:9} {usual:>15}", kept.all, kept.not_slow)?;
        }
        let (messages, time) = self.held_up;
        writeln!(out, "  held up in their batch: {messages} messages, {} ms together", milliseconds(time))
    }
}

fn truth_in_words(message: &MessageTruth) -> String {
    format!(
        "{}, {} ms: cpu {}, blocked {}, run queue {}",
        message.cause.map_or("nothing that we made", Cause::name),
        milliseconds(message.wall_ns),
        milliseconds(message.cpu_ns),
        milliseconds(message.blocked_ns()),
        milliseconds(message.run_queue_ns)
    )
}

fn in_words(span: &SpanTime) -> String {
    format!(
        "cpu {}, off cpu {}, run queue {}: {}",
        milliseconds(span.cpu_ns),
        milliseconds(span.off_cpu_ns),
        milliseconds(span.run_queue_ns),
        span.main_cause
    )
}

fn milliseconds(nanoseconds: u64) -> String {
    format!("{:.1}", nanoseconds as f64 / 1e6)
}
