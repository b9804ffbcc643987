//! Says in words what a stack was doing: "waiting for a lock in orders::reserve (std::sync::Mutex::lock)".
//!
//! The place is the first function of the application from the leaf; the verb is that of the [`Wait`], so that
//! the sentence never contradicts the label. In parentheses stands what the application called: the next
//! function in user space, which its authors know, and never the kernel's own, which all end in `__schedule`;
//! where it called the kernel itself, the system call. Where nobody knows what was waited for, the sentence
//! says no more than "blocked".

mod names;

use spanprof_symbolizer::{Frame, FrameKind};

use crate::profile::{Profile, SampleKind, StackId};
use crate::runtime::{is_library, is_of_a_primitive, is_runtime};
use crate::waits::{KernelEntry, Wait};
use names::called_name;

pub(crate) use names::plain_name;
pub use names::short_name;

/// The place where a stack has no function of the application: an idle worker, mostly.
const NO_PLACE: &str = "runtime code";

/// What a stack was doing, in words; `wait` is what it waited for, and `word` what another tool's label calls it.
pub(crate) fn cause(
    profile: &Profile,
    stack: StackId,
    kind: SampleKind,
    wait: Option<Wait>,
    word: Option<&str>,
) -> String {
    let locations = profile.stack(stack).iter();
    let frames: Vec<&Frame> =
        locations.flat_map(|location| &profile.location(*location).frames).filter(is_code).collect();
    if frames.is_empty() {
        return without_code(profile, stack, kind);
    }
    let verb = wait.and_then(Wait::verb);
    let own = frames.iter().position(|frame| !is_library(frame));
    let own = own.or_else(|| frames.iter().position(|frame| !is_runtime(frame)));
    let parts = Parts {
        plumbing: &frames[..own.unwrap_or(frames.len())],
        place: own.map(|own| short_name(&frames[own].function)),
    };
    match kind {
        SampleKind::Cpu => running(&parts),
        SampleKind::OffCpu => {
            sentence(verb.unwrap_or("blocked"), &parts, parts.called().or_else(|| word.map(str::to_owned)))
        }
        SampleKind::RunQueue => sentence(READY, &parts, parts.called_for_work()),
        SampleKind::Suspended => {
            sentence(verb.unwrap_or("awaiting"), &parts, parts.called().or_else(|| word.map(str::to_owned)))
        }
        SampleKind::Ready => sentence(WOKEN, &parts, parts.called()),
        SampleKind::Unknown => sentence("unknown", &parts, parts.called()),
    }
}

const READY: &str = "ready to run but not running";

const WOKEN: &str = "woken but not polled";

fn is_code(frame: &&Frame) -> bool {
    frame.kind != FrameKind::Synthetic
}

/// A stack parted at the application's own function.
struct Parts<'a> {
    /// From the leaf to the application, or all where it has no function.
    plumbing: &'a [&'a Frame],
    /// The application's function, shortened.
    place: Option<String>,
}

impl<'a> Parts<'a> {
    fn kernel(&self) -> Vec<&'a Frame> {
        self.plumbing.iter().copied().filter(|frame| frame.kind == FrameKind::Kernel).collect()
    }

    /// The function in user space that leads away from the application; where there is no application,
    /// the one nearest the leaf.
    fn call(&self) -> Option<&'a Frame> {
        let mut calls = self.plumbing.iter().filter(|frame| frame.kind != FrameKind::Kernel);
        if self.place.is_some() { calls.next_back().copied() } else { calls.next().copied() }
    }

    /// What the application called, in words. `syscall` alone says nothing that the system call does not.
    fn called(&self) -> Option<String> {
        let call = self.call().map(|frame| called_name(&frame.function)).filter(|name| name != "syscall");
        call.or_else(|| match KernelEntry::of(&self.kernel()) {
            Some(KernelEntry::SystemCall(name)) => Some(name.to_owned()),
            _ => None,
        })
    }

    /// Like [`Parts::called`], without what is a mere instruction.
    fn called_for_work(&self) -> Option<String> {
        let trivial = self.call().is_some_and(|frame| is_of_a_primitive(&frame.function));
        if trivial { None } else { self.called() }
    }

    /// Where it happened, with the word before it; "the kernel" where nothing else was seen.
    fn where_it_was(&self) -> &str {
        match &self.place {
            Some(place) => place,
            None if self.call().is_none() => "the kernel",
            None => NO_PLACE,
        }
    }
}

fn running(parts: &Parts<'_>) -> String {
    let kernel = parts.kernel();
    if kernel.is_empty() {
        let place = parts.where_it_was();
        return match parts.called_for_work().filter(|called| called != place) {
            Some(called) => format!("running {place} ({called})"),
            None => format!("running {place}"),
        };
    }
    let entry = KernelEntry::of(&kernel).map(|entry| format!(" ({})", entry.as_str())).unwrap_or_default();
    match parts.place.is_none() && parts.call().is_none() {
        true => format!("running in the kernel{entry}"),
        false => format!("running in the kernel{entry} for {}", parts.where_it_was()),
    }
}

fn sentence(verb: &str, parts: &Parts<'_>, called: Option<String>) -> String {
    let place = parts.where_it_was();
    match called.filter(|called| !called.is_empty() && called != place) {
        Some(called) => format!("{verb} in {place} ({called})"),
        None => format!("{verb} in {place}"),
    }
}

/// What is said of a stack without code: its note, or that nothing is known.
fn without_code(profile: &Profile, stack: StackId, kind: SampleKind) -> String {
    let note = profile.stack(stack).iter().flat_map(|location| &profile.location(*location).frames).next();
    let note = note.map(|frame| frame.function.trim_start_matches('[').trim_end_matches(']'));
    match (kind, note) {
        // A note such as "waiting without a span" is a sentence of its own.
        (SampleKind::OffCpu, Some(note)) if note.starts_with("waiting") || note.starts_with("blocked") => {
            note.to_owned()
        }
        (SampleKind::Cpu, note) => format!("running, {}", note.unwrap_or("stack unknown")),
        (SampleKind::OffCpu, note) => format!("blocked, {}", note.unwrap_or("stack unknown")),
        (SampleKind::RunQueue, note) => format!("{READY}, {}", note.unwrap_or("stack unknown")),
        (SampleKind::Suspended, note) => format!("awaiting, {}", note.unwrap_or("place unknown")),
        (SampleKind::Ready, note) => format!("{WOKEN}, {}", note.unwrap_or("place unknown")),
        (SampleKind::Unknown, note) => note.unwrap_or("unknown").to_owned(),
    }
}

#[cfg(test)]
mod tests;
