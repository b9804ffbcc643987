//! The closing words: what was seen, what was lost, where it is.

use std::fmt::Write;

use super::table::printable;
use super::units::{count, counted, nanoseconds};
use crate::summary::{Summary, Target, loss};

/// Targets named one by one; more are counted.
const MAX_NAMED: usize = 4;

/// What was seen and lost, in a few lines.
pub(crate) fn closing(summary: &Summary) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "recorded {:.1} s of {} by {} at {} Hz: {}",
        summary.seconds,
        counted(summary.targets.len() as u64, "process", "processes"),
        if summary.backend.name.is_empty() { "?" } else { &summary.backend.name },
        summary.hz,
        targets(&summary.targets),
    );
    let total = |kind: &str| nanoseconds(summary.totals.get(kind).copied().unwrap_or(0));
    let of_tasks = match summary.totals.contains_key("suspended") {
        true => format!(", {} suspended, {} ready to be polled", total("suspended"), total("ready")),
        false => String::new(),
    };
    let _ = writeln!(
        text,
        "seen: {} on CPU, {} blocked, {} waiting for a CPU{of_tasks}, in {} and {}",
        total("cpu"),
        total("off_cpu"),
        total("run_queue"),
        counted(summary.threads.len() as u64, "thread", "threads"),
        counted(summary.samples, "sample", "samples"),
    );
    let _ = writeln!(text, "{}", losses(summary));
    if !summary.targets.is_empty() && summary.targets.iter().all(|target| !target.publishes_context) {
        let _ = writeln!(
            text,
            "note: no target publishes its spans, so samples carry no span ids; the `spanprof` crate \
             publishes them with one line (see `spanprof doctor --pid`)"
        );
    }
    text
}

/// What was lost, in one line; says so when it was nothing.
pub(crate) fn losses(summary: &Summary) -> String {
    let lost: Vec<String> = summary.losses_to_tell().map(|(cause, number)| in_words(cause, number)).collect();
    match lost.is_empty() {
        true => "lost: nothing".into(),
        false => format!("lost: {}", lost.join(", ")),
    }
}

/// Times get a unit that people can read.
fn in_words(cause: &str, number: u64) -> String {
    let words = loss::in_words(cause);
    match words.strip_prefix(loss::NANOSECONDS) {
        Some(rest) => format!("{} {rest}", nanoseconds(number)),
        None => format!("{} {words}", count(number)),
    }
}

fn targets(targets: &[Target]) -> String {
    let mut names: Vec<String> = targets
        .iter()
        .take(MAX_NAMED)
        .map(|target| format!("{} ({})", printable(&target.service), target.pid))
        .collect();
    if targets.len() > MAX_NAMED {
        names.push(format!("{} more", count((targets.len() - MAX_NAMED) as u64)));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Backend;

    fn summary() -> Summary {
        Summary {
            backend: Backend { name: "bpf".into(), why: String::new() },
            seconds: 10.04,
            hz: 99,
            samples: 1_234,
            totals: [("cpu", 1_500_000_000), ("off_cpu", 430_200_000), ("run_queue", 5_000)]
                .map(|(kind, value)| (kind.to_owned(), value))
                .into(),
            targets: vec![Target {
                pid: 7,
                service: "orders".into(),
                publishes_context: true,
                ..Target::default()
            }],
            ..Summary::default()
        }
    }

    #[test]
    fn says_what_was_seen() {
        assert_eq!(
            closing(&summary()),
            "recorded 10.0 s of 1 process by bpf at 99 Hz: orders (7)\n\
             seen: 1.50 s on CPU, 430.2 ms blocked, 5.0 µs waiting for a CPU, in 0 threads and 1,234 samples\n\
             lost: nothing\n"
        );
    }

    #[test]
    fn names_each_loss_and_a_silent_target() {
        let mut summary = summary();
        summary.losses =
            [(loss::SAMPLES_LOST, 12), (loss::CONTEXTS_TORN, 0), ("ring_full", 3), ("x_nanoseconds", 4_500)]
                .map(|(cause, number)| (cause.to_owned(), number))
                .into();
        summary.targets[0].publishes_context = false;
        let text = closing(&summary);
        assert!(
            text.contains("lost: 3 ring full, 12 samples had no room in the buffer, 4.5 µs of x\n"),
            "{text}"
        );
        assert!(text.contains("no target publishes its spans"), "{text}");
    }

    #[test]
    fn many_targets_are_counted_and_names_cannot_move_the_cursor() {
        let mut summary = summary();
        summary.targets =
            (0..7).map(|pid| Target { pid, service: "a\x1b[2J".into(), ..Target::default() }).collect();
        let text = closing(&summary);
        assert!(
            text.contains("of 7 processes") && text.contains(", 3 more") && !text.contains('\x1b'),
            "{text}"
        );
    }
}
