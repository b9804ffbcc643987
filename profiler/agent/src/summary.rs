//! What a capture saw and what it lost, in numbers: `summary.json` and the closing words.
//!
//! Loss is a number per cause, never a flag: who reads a profile must know what it does not show. The
//! field names are stable.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::capture::WalkEnd;
use spanprof_exporter::{Profile, WokenBy, analysis};

/// What happened in one window of a capture.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The version of spanprof.
    pub version: String,
    /// Where samples came from.
    pub backend: Backend,
    /// How long the window was, in seconds.
    pub seconds: f64,
    /// The sampling rate, per second and CPU.
    pub hz: u32,
    /// On-CPU samples and off-CPU captures with a stack.
    pub samples: u64,
    /// Nanoseconds per kind of time: `cpu`, `off_cpu`, `run_queue`; `suspended` and `ready` where a process told
    /// of its tasks, or tracers of spans; `unknown` where tracers told of more than was seen.
    pub totals: BTreeMap<String, u64>,
    /// What was profiled, also what ended meanwhile.
    pub targets: Vec<Target>,
    /// How each thread spent the window.
    pub threads: Vec<ThreadTime>,
    /// What is missing, per cause; causes without loss may be left out.
    pub losses: BTreeMap<String, u64>,
    /// The spans with the most time seen, most first.
    pub spans: Vec<SpanTime>,
    /// What the profiler itself cost.
    pub agent: AgentCost,
}

impl Summary {
    /// The losses that are told to people, by cause. The sum of cut stacks is not: its causes are.
    pub fn losses_to_tell(&self) -> impl Iterator<Item = (&str, u64)> {
        let has_causes = WalkEnd::ALL.iter().any(|end| self.losses.contains_key(end.as_str()));
        self.losses
            .iter()
            .map(|(cause, number)| (cause.as_str(), *number))
            .filter(move |(cause, number)| *number > 0 && !(has_causes && *cause == loss::STACKS_TRUNCATED))
    }
}

/// Which rung of the ladder was used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Its name: `bpf`.
    pub name: String,
    /// Why this one and no better one.
    pub why: String,
}

/// One process that was profiled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its process id.
    pub pid: u32,
    /// Its service name.
    pub service: String,
    /// Its executable's path, or its name where the path may not be read.
    pub executable: String,
    /// How many threads of it were seen.
    pub threads: u64,
    /// Whether it publishes spans that we can read.
    pub publishes_context: bool,
}

/// How one thread spent the window. The five times add up: `wall_ns` is the sum of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadTime {
    /// Its process.
    pub pid: u32,
    /// Its id.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// Running, in nanoseconds.
    pub cpu_ns: u64,
    /// Blocked, in nanoseconds.
    pub off_cpu_ns: u64,
    /// Runnable and not running, in nanoseconds.
    pub run_queue_ns: u64,
    /// Not accounted for, in nanoseconds.
    pub unknown_ns: u64,
    /// From the window's begin, or the thread's, to its end, in nanoseconds.
    pub wall_ns: u64,
}

/// One span as far as it was seen in the window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SpanTime {
    /// 32 hex digits, where known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trace_id: Option<String>,
    /// 16 hex digits.
    pub span_id: String,
    /// The span's name, where a finished span told it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub span_name: Option<String>,
    /// The service.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<String>,
    /// The topic or queue, where known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub destination: Option<String>,
    /// Running, in nanoseconds.
    pub cpu_ns: u64,
    /// Blocked, in nanoseconds.
    pub off_cpu_ns: u64,
    /// Runnable and not running, in nanoseconds.
    pub run_queue_ns: u64,
    /// Awaiting a wake-up, without a thread, in nanoseconds; left out where there is none.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub suspended_ns: u64,
    /// Woken and not polled yet, without a thread, in nanoseconds; left out where there is none.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub ready_ns: u64,
    /// What its tracer told and nobody saw, in nanoseconds; left out where there is none.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub unknown_ns: u64,
    /// From its begin to its end, in nanoseconds, where its tracer told: the sum of all the times here.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wall_ns: Option<u64>,
    /// In which at least one of its children in the same service was open, in nanoseconds: where that went is told
    /// under their ids. Left out where there is none.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub children_ns: u64,
    /// Its share of what was done for the whole batch that it came in, in nanoseconds; beside its own times, and left out
    /// where there is none.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub shared_ns: u64,
    /// How many messages came with it in one poll; left out where no such poll is known.
    #[serde(skip_serializing_if = "is_none", default)]
    pub batch_size: u32,
    /// How long neighbours of that poll were processed before it, in nanoseconds; beside its own times, and left out where
    /// there is none.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub head_of_line_ns: u64,
    /// Which part of the wall time is accounted for, from 0 to 1; where its tracer told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub coverage: Option<f64>,
    /// Where most of the time went, in words.
    pub main_cause: String,
    /// That cause's part of the span's time, from 0 to 1.
    pub main_share: f64,
    /// What it waited for the longest, by the values of the label `wait`; left out where it never waited.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub main_wait: Option<String>,
    /// Who ended most of its long waits, then who had made that one wait meanwhile, and so on.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub woken_by: Vec<WokenBy>,
}

impl SpanTime {
    /// The spans of a profile with the most time, at most so many.
    pub fn slowest(profile: &Profile, limit: usize) -> Vec<SpanTime> {
        let with_wakers = |span: analysis::SpanTime| SpanTime {
            woken_by: profile.wakers.of(span.trace_id.as_deref(), &span.span_id).to_vec(),
            ..SpanTime::from(span)
        };
        analysis::spans(profile).into_iter().take(limit).map(with_wakers).collect()
    }
}

impl From<analysis::SpanTime> for SpanTime {
    fn from(span: analysis::SpanTime) -> SpanTime {
        SpanTime {
            coverage: span.coverage(),
            trace_id: span.trace_id,
            span_id: span.span_id,
            span_name: span.span_name,
            service: span.service,
            destination: span.destination,
            cpu_ns: span.cpu_ns,
            off_cpu_ns: span.off_cpu_ns,
            run_queue_ns: span.run_queue_ns,
            suspended_ns: span.suspended_ns,
            ready_ns: span.ready_ns,
            unknown_ns: span.unknown_ns,
            wall_ns: span.wall_ns,
            children_ns: span.children_ns,
            shared_ns: span.shared_ns,
            batch_size: span.batch_size,
            head_of_line_ns: span.head_of_line_ns,
            main_cause: span.main_cause,
            main_share: span.main_share,
            main_wait: span.main_wait.map(|wait| wait.as_str().to_owned()),
            woken_by: Vec::new(),
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks with a reference.
fn is_none(number: &u32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks with a reference.
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What the profiler itself cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentCost {
    /// CPU time of this process since it started, in nanoseconds.
    pub cpu_ns: u64,
    /// Its peak resident memory, in bytes.
    pub peak_resident_bytes: u64,
}

impl AgentCost {
    /// Reads our own.
    pub fn now() -> AgentCost {
        // SAFETY: the structure is plain data that the call fills; on failure it stays zero.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_SELF, &mut usage);
            usage
        };
        let nanoseconds =
            |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1_000;
        AgentCost {
            cpu_ns: nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime),
            // Linux gives kibibytes.
            peak_resident_bytes: usage.ru_maxrss as u64 * 1024,
        }
    }
}

/// The causes of loss by their names in `summary.json`.
pub mod loss {
    /// Samples that the kernel had no room for.
    pub const SAMPLES_LOST: &str = "samples_lost";
    /// Stacks that end before the thread's start.
    pub const STACKS_TRUNCATED: &str = "stacks_truncated";
    /// Reads of a span that changed meanwhile.
    pub const CONTEXTS_TORN: &str = "contexts_torn";
    /// Threads that there was no room to follow.
    pub const THREADS_UNTRACKED: &str = "threads_untracked";
    /// Blocked time without a place, in nanoseconds.
    pub const OFF_CPU_NS_LOST: &str = "off_cpu_ns_lost";
    /// Spans whose ids were folded into their destination's.
    pub const SPANS_FOLDED: &str = "spans_folded";

    /// What a cause means, for people, to be read after its number; the name itself, in words, for a cause
    /// that is not known here.
    ///
    /// A cause that counts nanoseconds begins with [`NANOSECONDS`].
    pub fn in_words(cause: &str) -> String {
        match cause {
            SAMPLES_LOST => "samples had no room in the buffer",
            STACKS_TRUNCATED => "stacks end before their thread's start",
            CONTEXTS_TORN => "spans changed while being read and count as no span",
            THREADS_UNTRACKED => "threads had no room to be followed",
            OFF_CPU_NS_LOST => "ns of blocked time have no place",
            SPANS_FOLDED => "spans were folded into their destination",
            "no_mapping" => "stacks led into code that no mapping holds",
            "no_unwind_rule" => "stacks led into code without unwind information",
            "stack_unreadable" => "stacks lay in memory that could not be read",
            "too_deep" => "stacks were deeper than 1,024 frames",
            "stuck" => "stacks led nowhere",
            "wakers_not_taken" => "waits came without who ended them",
            "relatives_left_out" => "finished spans beside kept ones had no room",
            "stacks_lost" => "stacks had no room in the buffer",
            "stacks_missing" => "stacks never arrived: their time stands under one frame",
            "stacks_not_walked" => "waits were not worth a stack of their own",
            "waits_lost" => "waits had no room in the buffer",
            "waits_lost_nanoseconds" => "ns of waiting had no room in the buffer",
            "events_lost" => "starts and ends of threads had no room in the buffer",
            "contexts_unreadable" => "times a thread's span could not be read",
            "spans_without_attributes" => "spans came without their attributes",
            "cpu_ns_between_samples" => "ns on CPU fell between samples and have no place in the code",
            "unwind_tables_without_room" => "objects had no room for their unwind tables",
            other => return nanoseconds_first(other),
        }
        .into()
    }

    /// How the words of a cause begin that counts nanoseconds.
    pub const NANOSECONDS: &str = "ns ";

    fn nanoseconds_first(cause: &str) -> String {
        let words = cause.replace('_', " ");
        match words.strip_suffix(" nanoseconds") {
            Some(words) => format!("{NANOSECONDS}of {words}"),
            None => words,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_its_own_json() {
        let summary = Summary {
            version: "0.1.0".into(),
            backend: Backend { name: "bpf".into(), why: "the best rung".into() },
            seconds: 10.0,
            hz: 99,
            totals: [("cpu".to_owned(), 1)].into(),
            losses: [(loss::SAMPLES_LOST.to_owned(), 3)].into(),
            spans: vec![SpanTime { destination: None, cpu_ns: 4, ..SpanTime::default() }],
            ..Summary::default()
        };
        let text = serde_json::to_string(&summary).unwrap();
        assert!(text.contains("\"samples_lost\":3") && !text.contains("destination"), "{text}");
        assert_eq!(serde_json::from_str::<Summary>(&text).unwrap(), summary);
    }

    #[test]
    fn our_own_cost_is_not_zero() {
        let cost = AgentCost::now();
        assert!(cost.peak_resident_bytes > 100_000, "{cost:?}");
    }
}
