//! Differences as tables for a terminal of 80 columns.

use std::fmt::Write;

use spanprof_exporter::analysis::{Difference, MessageClass, Sums};
use spanprof_exporter::short_name;

use super::super::stdout;
use super::super::table::{Table, printable};
use super::super::units::{counted, nanoseconds};
use super::{Compared, Words};

/// Each class with its tables, and then those that have nothing to be compared, a sentence each.
pub(super) fn of_messages(compared: &[Compared<'_>], words: &Words, limit: usize) -> String {
    let mut text = String::new();
    for compared in compared.iter().filter(|compared| compared.has_both()) {
        let numbers = Numbers::of(&compared.difference);
        let _ = writeln!(
            text,
            "{}\n{} and {} normal; times in ms per message{}\n",
            class(compared.class),
            messages(compared.difference.subject.amount(), words.subject),
            compared.difference.baseline.amount(),
            others(compared, words),
        );
        text.push_str(&tables(&compared.difference, &numbers, words, limit));
        text.push('\n');
    }
    let alone: Vec<_> = compared.iter().filter(|compared| !compared.has_both()).collect();
    let shown = if limit == 0 { alone.len() } else { limit.min(alone.len()) };
    for compared in &alone[..shown] {
        let _ = writeln!(text, "{}\n  {}", class(compared.class), sentence(compared, words));
    }
    if alone.len() > shown {
        let _ = writeln!(text, "… {} more without a comparison (--limit 0 shows all)", alone.len() - shown);
    }
    text
}

/// One pair of recordings; `idle` is the time that was left out of each, before and after.
pub(super) fn of_recordings(difference: &Difference<'_>, idle: [u64; 2], limit: usize) -> String {
    let seconds = [difference.baseline, difference.subject].map(|side| side.amount());
    let mut text = format!(
        "before {:.1} s, after {:.1} s; times in ms per second of the recording\n",
        seconds[0], seconds[1]
    );
    if idle != [0, 0] {
        let [before, after] = idle.map(nanoseconds);
        let _ = writeln!(text, "idle threads left out: before {before}, after {after}");
    }
    text.push('\n');
    text.push_str(&tables(difference, &Numbers::of(difference), &super::RECORDINGS, limit));
    text
}

/// What a class's messages have in common, in words: "orders, group billing, process, by consumer".
pub(super) fn class(class: &MessageClass) -> String {
    let group = class.consumer_group.as_ref().map(|group| format!("group {group}"));
    let service = class.service.as_ref().map(|service| format!("by {service}"));
    let destination = class.destination.as_deref().or(class.span_name.as_deref());
    let destination = destination.unwrap_or("no destination").to_owned();
    let parts = [Some(destination), group, class.operation.clone(), service];
    printable(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

fn messages(amount: f64, reason: &str) -> String {
    counted(amount as u64, &format!("{reason} message"), &format!("{reason} messages"))
}

/// What is neither asked about nor normal.
fn others(compared: &Compared<'_>, words: &Words) -> String {
    let (other, option) = match words.subject {
        "slow" => ("failed", "--failed-vs-normal"),
        _ => ("slow", "--slow-vs-normal"),
    };
    match compared.others.amount() as u64 {
        0 => String::new(),
        amount => format!("\n{amount} {other} not compared here ({option})"),
    }
}

/// Why a class has no tables.
fn sentence(compared: &Compared<'_>, words: &Words) -> String {
    let Words { subject, baseline, .. } = words;
    let why = match compared.difference.subject.amount() > 0.0 {
        true => format!(
            "{}, and no {baseline} ones to compare with",
            messages(compared.difference.subject.amount(), subject)
        ),
        false => {
            format!("no {subject} ones among {}", messages(compared.difference.baseline.amount(), baseline))
        }
    };
    format!("{why}{}", others(compared, words).replace('\n', "; "))
}

fn tables(difference: &Difference<'_>, numbers: &Numbers, words: &Words, limit: usize) -> String {
    let mut text = by_kind(difference, numbers, words);
    text.push('\n');
    text.push_str(&by_cause(difference, numbers, words, limit));
    text.push('\n');
    text.push_str(&by_function(difference, numbers, words, limit));
    text
}

fn by_kind(difference: &Difference<'_>, numbers: &Numbers, words: &Words) -> String {
    let [subject, baseline] = headings(words);
    let mut table = Table::new(&["TIME", subject, baseline, ">MORE"]);
    for (kind, sums) in difference.by_kind() {
        let [subject, baseline, more] = numbers.cells(difference, sums);
        table.row([kind.as_str().to_owned(), subject, baseline, more]);
    }
    let [subject, baseline, more] = numbers.cells(difference, difference.total());
    table.row(["all".to_owned(), subject, baseline, more]);
    table.render()
}

fn by_cause(difference: &Difference<'_>, numbers: &Numbers, words: &Words, limit: usize) -> String {
    let [subject, baseline] = headings(words);
    let mut table = Table::new(&[">MORE", ">SHARE", subject, baseline, "KIND", "|CAUSE"]);
    let causes = difference.causes();
    let shown = if limit == 0 { causes.len() } else { limit.min(causes.len()) };
    for cause in &causes[..shown] {
        let [subject, baseline, more] = numbers.cells(difference, cause.sums);
        let kind = cause.kind.as_str().to_owned();
        table.row([more, share(difference, cause.sums), subject, baseline, kind, cause.cause.clone()]);
    }
    let mut text = table.render_within(stdout::width());
    if shown < causes.len() {
        let rest = causes[shown..].iter().fold(Sums::default(), |sum, cause| Sums {
            subject_ns: sum.subject_ns.saturating_add(cause.sums.subject_ns),
            baseline_ns: sum.baseline_ns.saturating_add(cause.sums.baseline_ns),
        });
        let [_, _, more] = numbers.cells(difference, rest);
        let count = counted((causes.len() - shown) as u64, "more cause", "more causes");
        let _ = writeln!(text, "… {count}, together {more} (--limit 0 shows all)");
    }
    text
}

fn by_function(difference: &Difference<'_>, numbers: &Numbers, words: &Words, limit: usize) -> String {
    let [subject, baseline] = headings(words);
    let mut table = Table::new(&[">MORE", subject, baseline, ">OWN", "|FUNCTION"]);
    let functions = difference.functions();
    let shown = if limit == 0 { functions.len() } else { limit.min(functions.len()) };
    for function in &functions[..shown] {
        let [subject, baseline, more] = numbers.cells(difference, function.total);
        let [_, _, own] = numbers.cells(difference, function.own);
        let mark = if function.is_runtime { " (runtime)" } else { "" };
        table.row([more, subject, baseline, own, format!("{}{mark}", short_name(&function.function))]);
    }
    let mut text = table.render_within(stdout::width());
    if shown < functions.len() {
        let count = counted((functions.len() - shown) as u64, "more function", "more functions");
        let _ = writeln!(text, "… {count} (--limit 0 shows all)");
    }
    text
}

const fn headings(words: &Words) -> [&'static str; 2] {
    match words.subject.as_bytes() {
        b"slow" => [">SLOW", ">NORMAL"],
        b"failed" => [">FAILED", ">NORMAL"],
        _ => [">AFTER", ">BEFORE"],
    }
}

/// A part of the whole difference; a dash where that is too small to have parts.
fn share(difference: &Difference<'_>, sums: Sums) -> String {
    match difference.more(sums) / difference.more(difference.total()) {
        // Rounding first, and then adding zero, makes no "-0".
        share if share.is_finite() => format!("{:.0} %", (share * 100.0).round() + 0.0),
        _ => "-".to_owned(),
    }
}

/// Milliseconds with as many decimals as tell the largest number of a class in four digits, so that columns compare at
/// a glance.
struct Numbers {
    decimals: usize,
}

impl Numbers {
    fn of(difference: &Difference<'_>) -> Numbers {
        let Sums { subject_ns, baseline_ns } = difference.total();
        let largest = difference.subject.mean(subject_ns).max(difference.baseline.mean(baseline_ns)) / 1e6;
        let decimals = match largest {
            1e3.. => 0,
            1e2.. => 1,
            1e1.. => 2,
            1e0.. => 3,
            1e-1.. => 4,
            _ => 6,
        };
        Numbers { decimals }
    }

    /// What falls to one on the side that is asked about, on the other, and how much more that is.
    fn cells(&self, difference: &Difference<'_>, sums: Sums) -> [String; 3] {
        let plain = |nanoseconds: f64| format!("{:.*}", self.decimals, nanoseconds / 1e6);
        let more = format!("{:+.*}", self.decimals, difference.more(sums) / 1e6);
        let is_zero = !more.contains(|character: char| ('1'..='9').contains(&character));
        [
            plain(difference.subject.mean(sums.subject_ns)),
            plain(difference.baseline.mean(sums.baseline_ns)),
            if is_zero { plain(0.0) } else { more },
        ]
    }
}
