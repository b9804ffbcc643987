//! Differences for programs: the sums that were counted, undivided, and what falls to one message or second.

use serde_json::{Value, json};
use spanprof_exporter::SampleKind;
use spanprof_exporter::analysis::{Difference, Side, Sums};

use super::{Compared, RECORDINGS, Words};

/// All classes, also those that have nothing to be compared.
pub(super) fn of_messages(compared: &[Compared<'_>], words: &Words, limit: usize) -> Value {
    let classes = compared.iter().map(|compared| {
        let class = compared.class;
        let mut object = json!({
            "destination": class.destination, "consumer_group": class.consumer_group,
            "operation": class.operation, "service": class.service, "span_name": class.span_name,
        });
        let other = if words.subject == "slow" { "failed" } else { "slow" };
        object[other] = side(compared.others, "messages");
        add_difference(&mut object, &compared.difference, words, limit);
        object
    });
    json!({ "compared": format!("{}-vs-{}", words.subject, words.baseline), "classes": classes.collect::<Vec<_>>() })
}

/// One pair of recordings; `idle` is the time that was left out of each, before and after.
pub(super) fn of_recordings(difference: &Difference<'_>, idle: [u64; 2], limit: usize) -> Value {
    let mut object = json!({ "compared": "after-vs-before" });
    add_difference(&mut object, difference, &RECORDINGS, limit);
    for (words, idle) in [RECORDINGS.baseline, RECORDINGS.subject].into_iter().zip(idle) {
        object[words]["idle_ns"] = idle.into();
    }
    object
}

fn add_difference(object: &mut Value, difference: &Difference<'_>, words: &Words, limit: usize) {
    let unit = if words.one == "message" { "messages" } else { "seconds" };
    object[words.subject] = side(difference.subject, unit);
    object[words.baseline] = side(difference.baseline, unit);
    let total = difference.total();
    let names = Names { difference, words };
    object["total"] = names.sums(total);
    let most = if limit == 0 { usize::MAX } else { limit };
    let whole = difference.more(total);
    let causes = difference.causes().into_iter().take(most).map(|cause| {
        let mut row = names.sums(cause.sums);
        row["kind"] = cause.kind.as_str().into();
        row["cause"] = cause.cause.into();
        // No number, and so null, where there is no difference to have a share of.
        row["share"] = (difference.more(cause.sums) / whole).into();
        row
    });
    object["causes"] = causes.collect();
    let functions = difference.functions().into_iter().take(most).map(|function| {
        json!({
            "function": &*function.function, "file": function.file.as_deref(), "runtime": function.is_runtime,
            "own": names.sums(function.own), "total": names.sums(function.total),
        })
    });
    object["functions"] = functions.collect();
}

/// How many, and their time by kind.
fn side(side: &Side<'_>, unit: &str) -> Value {
    let times = side.times();
    let mut object = json!({ "total_ns": times.total_ns() });
    object[unit] = match unit {
        "messages" => (side.amount() as u64).into(),
        _ => side.amount().into(),
    };
    for kind in SampleKind::ALL {
        object[format!("{}_ns", kind.as_str())] = times.of(kind).into();
    }
    object
}

struct Names<'a> {
    difference: &'a Difference<'a>,
    words: &'a Words,
}

impl Names<'_> {
    fn sums(&self, sums: Sums) -> Value {
        let Words { subject, baseline, one } = self.words;
        let mut object = json!({});
        object[format!("{subject}_ns")] = sums.subject_ns.into();
        object[format!("{baseline}_ns")] = sums.baseline_ns.into();
        object[format!("more_ns_per_{one}")] = self.difference.more(sums).into();
        object
    }
}
