//! Who ended a span's waits: a table beside the samples.
//!
//! A wait's own stack says what it waited for, and not who had it. That is told here, per span that keeps its ids, as a
//! chain: who woke it, who had made that one wait meanwhile, and so on.

use std::collections::BTreeMap;

use spanprof_symbolizer::{Frame, FrameKind};

use crate::profile::Profile;
use crate::runtime::is_library;
use crate::short_name;

/// Frames of a waker that are kept, from the leaf.
pub(crate) const MAX_FRAMES: usize = 64;
/// The words for a waker that is no thread.
const INTERRUPT: &str = "a timer or a device";

/// One link of a chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "page", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct WokenBy {
    /// How long the waits were that this one ended, in nanoseconds. Behind the first link: as far as they fell into
    /// those of the link before.
    pub nanoseconds: u64,
    /// Whom or what, and where it was, in words: "worker-2 in orders::release"; "a timer or a device".
    pub cause: String,
    /// The process id; none where an interrupt did it.
    pub pid: Option<u32>,
    /// The thread id.
    pub tid: Option<u32>,
    /// The thread's name.
    pub thread: Option<String>,
    /// The service, where it is a target.
    pub service: Option<String>,
    /// The trace that it worked on, 32 hex digits.
    pub trace_id: Option<String>,
    /// The span that it worked on, 16 hex digits.
    pub span_id: Option<String>,
    /// The functions under which it woke, leaf first; at most 64.
    pub frames: Vec<String>,
}

impl WokenBy {
    /// A timer or a device.
    pub fn interrupt(nanoseconds: u64) -> WokenBy {
        WokenBy { nanoseconds, cause: INTERRUPT.to_owned(), ..WokenBy::default() }
    }

    /// A thread; `frames` are those of its stack, leaf first, and none where it is no target.
    pub fn thread(nanoseconds: u64, pid: u32, tid: u32, name: &str, frames: &[Frame]) -> WokenBy {
        let who = match name {
            "" => format!("thread {tid}"),
            name => name.to_owned(),
        };
        let code = || frames.iter().filter(|frame| frame.kind != FrameKind::Synthetic);
        let place = code().find(|frame| !is_library(frame)).map(|frame| short_name(&frame.function));
        WokenBy {
            nanoseconds,
            cause: place.map_or_else(|| who.clone(), |place| format!("{who} in {place}")),
            pid: Some(pid),
            tid: Some(tid),
            thread: Some(who),
            frames: code().take(MAX_FRAMES).map(|frame| frame.function.to_string()).collect(),
            ..WokenBy::default()
        }
    }

    /// The cause with the span that it worked on.
    pub fn words(&self) -> String {
        match &self.span_id {
            Some(span) => format!("{} (span {span})", self.cause),
            None => self.cause.clone(),
        }
    }
}

/// Chains by trace id (32 hex digits) and span id (16).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wakers {
    chains: BTreeMap<(String, String), Vec<WokenBy>>,
}

impl Wakers {
    /// Sets the chain of a span; of two the one whose first link ended more waiting is kept.
    pub fn insert(&mut self, trace_id: &str, span_id: &str, chain: Vec<WokenBy>) {
        let first = |chain: &[WokenBy]| chain.first().map_or(0, |link| link.nanoseconds);
        let known = self.chains.entry((trace_id.to_owned(), span_id.to_owned())).or_default();
        if first(&chain) > first(known) {
            *known = chain;
        }
    }

    /// All chains with the ids of their spans, in a stable order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str, &[WokenBy])> {
        let chains = self.chains.iter().filter(|(_, chain)| !chain.is_empty());
        chains.map(|((trace_id, span_id), chain)| (trace_id.as_str(), span_id.as_str(), chain.as_slice()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.chains.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// The chain of a span, its own waker first; empty where none is known.
    pub fn of(&self, trace_id: Option<&str>, span_id: &str) -> &[WokenBy] {
        let key = (trace_id.unwrap_or_default().to_owned(), span_id.to_owned());
        self.chains.get(&key).map_or(&[], Vec::as_slice)
    }
}

impl Profile {
    /// Takes over what another profile knows of wakers.
    pub(crate) fn absorb_wakers(&mut self, other: &Profile) {
        for ((trace_id, span_id), chain) in &other.wakers.chains {
            self.wakers.insert(trace_id, span_id, chain.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, kind: FrameKind) -> Frame {
        Frame { function: function.into(), system_name: function.into(), file: None, line: 0, kind }
    }

    #[test]
    fn a_waker_is_named_with_its_place_and_span() {
        let frames = [
            frame("std::sync::poison::mutex::Mutex<T>::unlock", FrameKind::Rust),
            frame("orders::release", FrameKind::Rust),
        ];
        let mut waker = WokenBy::thread(5, 7, 8, "worker", &frames);
        waker.span_id = Some("00f067aa0ba902b7".to_owned());
        assert_eq!(waker.words(), "worker in orders::release (span 00f067aa0ba902b7)");
        assert_eq!(waker.frames.len(), 2);
        assert_eq!(WokenBy::thread(5, 7, 8, "", &[]).words(), "thread 8");
    }

    #[test]
    fn of_two_chains_the_heavier_stays() {
        let mut wakers = Wakers::default();
        wakers.insert("t", "s", vec![WokenBy::interrupt(5)]);
        wakers.insert("t", "s", vec![WokenBy::interrupt(3)]);
        assert_eq!(wakers.of(Some("t"), "s")[0].nanoseconds, 5);
        assert!(wakers.of(None, "s").is_empty());
    }
}
