//! Folded stacks: one line per stack, root first, frames joined by `;`, then a space and nanoseconds.
//!
//! The text that every flame graph tool reads; the SVGs are drawn from it too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::filter::{SampleFilter, text};
use crate::idle::{IdleSamples, IdleThreads};
use crate::profile::{LabelSetId, Profile, SampleKey, SampleKind, StackId, label};

/// What stands below the first function of each stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FoldedRoot {
    /// Nothing: stacks begin at the thread's first function.
    #[default]
    Function,
    /// The service's name, so that several processes stay apart in one graph.
    Service,
    /// The service's name where the profile holds more than one, nothing otherwise.
    ServiceIfSeveral,
}

/// One kind of time as folded text, lines sorted, equal stacks added up.
///
/// Idle threads are in it: this text is for programs, which can leave out what they don't want.
pub fn folded(profile: &Profile, kind: SampleKind, filter: &SampleFilter, root: FoldedRoot) -> String {
    folded_for(profile, kind, filter, IdleThreads::Shown, root)
}

/// The same with the choice whether idle threads are in it.
pub(crate) fn folded_for(
    profile: &Profile,
    kind: SampleKind,
    filter: &SampleFilter,
    idle: IdleThreads,
    root: FoldedRoot,
) -> String {
    let mut output = String::new();
    for (stack, nanoseconds) in folded_stacks(profile, kind, filter, idle, root) {
        // Writing into a string can't fail.
        let _ = writeln!(output, "{stack} {nanoseconds}");
    }
    output
}

/// The same as pairs of stack and nanoseconds.
fn folded_stacks(
    profile: &Profile,
    kind: SampleKind,
    filter: &SampleFilter,
    idle: IdleThreads,
    root: FoldedRoot,
) -> BTreeMap<String, u64> {
    let meant = filter.over(profile);
    let hidden = (idle == IdleThreads::Hidden).then(|| IdleSamples::of(profile));
    let is_hidden = |key: &SampleKey| hidden.as_ref().is_some_and(|idle| idle.contains(key));
    let by_service = match root {
        FoldedRoot::Function => false,
        FoldedRoot::Service => true,
        FoldedRoot::ServiceIfSeveral => has_several_services(profile),
    };
    let mut stacks: BTreeMap<(StackId, Option<&str>), u64> = BTreeMap::new();
    for (key, value) in profile.samples() {
        let is_meant = key.kind == kind && meant[key.labels.index()] && !is_hidden(&key);
        if is_meant && value.nanoseconds > 0 {
            let service = by_service.then(|| service(profile, key.labels));
            let sum = stacks.entry((key.stack, service)).or_default();
            *sum = sum.saturating_add(value.nanoseconds);
        }
    }
    let mut lines = BTreeMap::new();
    for ((stack, service), nanoseconds) in stacks {
        let sum: &mut u64 = lines.entry(line(profile, stack, service)).or_default();
        *sum = sum.saturating_add(nanoseconds);
    }
    lines
}

fn service(profile: &Profile, labels: LabelSetId) -> &str {
    text(profile.labels(labels), label::SERVICE_NAME).unwrap_or("[unknown service]")
}

fn has_several_services(profile: &Profile) -> bool {
    let services: BTreeSet<_> =
        profile.label_sets().iter().filter_map(|labels| text(labels, label::SERVICE_NAME)).collect();
    services.len() > 1
}

fn line(profile: &Profile, stack: StackId, service: Option<&str>) -> String {
    without_trailing_number(joined(profile, stack, service, None))
}

/// A stack's frames, root first, joined by `;`, with one more below and one above, where they are given.
pub(crate) fn joined(profile: &Profile, stack: StackId, below: Option<&str>, above: Option<&str>) -> String {
    let mut line = String::new();
    let mut push = |name: &str| {
        if !line.is_empty() {
            line.push(';');
        }
        line.extend(name.chars().map(sanitised));
    };
    if let Some(below) = below {
        push(below);
    }
    for location in profile.stack(stack).iter().rev() {
        for frame in profile.location(*location).frames.iter().rev() {
            push(&frame.function);
        }
    }
    if profile.stack(stack).is_empty() {
        push(NO_STACK);
    }
    if let Some(above) = above {
        push(above);
    }
    line
}

/// The frame that stands for a stack of which nothing is known.
pub(crate) const NO_STACK: &str = "[no stack]";

/// A last name such as `step 7` would be read as two columns of numbers: a difference of two profiles.
fn without_trailing_number(mut line: String) -> String {
    if let Some(space) = line.rfind(char::is_whitespace) {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        if line[space..].trim().chars().all(is_number) {
            let width = line[space..].chars().next().map_or(0, char::len_utf8);
            line.replace_range(space..space + width, "_");
        }
    }
    line
}

/// `;` parts frames and a line end parts stacks; neither may stand inside a name.
fn sanitised(character: char) -> char {
    match character {
        ';' => ':',
        other if other.is_control() => ' ',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_ends_in_a_number_stays_one_name() {
        for (line, expected) in [
            ("main;step 7", "main;step_7"),
            ("main;step 7a", "main;step 7a"),
            ("main;step\u{a0}7", "main;step_7"),
            ("main;step ", "main;step_"),
            ("main", "main"),
            ("", ""),
        ] {
            assert_eq!(without_trailing_number(line.to_owned()), expected);
        }
    }
}
