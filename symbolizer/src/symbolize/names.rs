//! Strings kept once, and addresses that were named before.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use super::demangle::{Demangled, demangle};
use crate::{Frame, FrameKind};

/// Each distinct string once; frames of one capture repeat few names many times.
#[derive(Default)]
pub(super) struct Strings {
    strings: HashSet<Arc<str>>,
    demangled: HashMap<Arc<str>, (Arc<str>, FrameKind)>,
    bytes: usize,
}

impl Strings {
    pub(super) fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.strings.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = Arc::from(text);
        self.bytes += text.len();
        self.strings.insert(Arc::clone(&new));
        new
    }

    /// The name to show for `raw`, `raw` itself, and the kind that its mangling tells.
    pub(super) fn demangled(&mut self, raw: &str) -> (Arc<str>, Arc<str>, FrameKind) {
        if let Some((raw, (name, kind))) = self.demangled.get_key_value(raw) {
            return (Arc::clone(name), Arc::clone(raw), *kind);
        }
        let Demangled { name, kind } = demangle(raw);
        let name = self.get(&name);
        // Only what a frame shows is bounded by the demangler.
        let raw = if raw.len() > MAX_RAW { Arc::clone(&name) } else { self.get(raw) };
        self.demangled.insert(Arc::clone(&raw), (Arc::clone(&name), kind));
        (name, raw, kind)
    }

    /// Forgets what no frame refers to any more.
    fn sweep(&mut self) {
        self.demangled.clear();
        self.strings.retain(|text| Arc::strong_count(text) > 1);
        self.bytes = self.strings.iter().map(|text| text.len()).sum();
    }
}

/// Mangled names of generic code reach some kilobytes.
const MAX_RAW: usize = 16 << 10;
/// Past this much text a generation ends early: no real capture has it, hostile names do.
const MAX_TEXT: usize = 16 << 20;

/// Frames by address, bounded.
///
/// Two generations: what is asked for moves to the young one; when that is full, the old one goes. That
/// keeps what is in use with no bookkeeping per entry, unlike a least-recently-used list.
pub(super) struct FrameCache<K> {
    young: HashMap<K, Arc<[Frame]>>,
    old: HashMap<K, Arc<[Frame]>>,
    half: usize,
}

impl<K: Hash + Eq> FrameCache<K> {
    /// A cache of at most `capacity` addresses.
    pub(super) fn new(capacity: usize) -> FrameCache<K> {
        FrameCache { young: HashMap::new(), old: HashMap::new(), half: (capacity / 2).max(1) }
    }

    pub(super) fn get(&mut self, key: K, strings: &mut Strings) -> Option<Arc<[Frame]>> {
        if let Some(frames) = self.young.get(&key) {
            return Some(Arc::clone(frames));
        }
        let frames = self.old.remove(&key)?;
        self.insert(key, Arc::clone(&frames), strings);
        Some(frames)
    }

    pub(super) fn insert(&mut self, key: K, frames: Arc<[Frame]>, strings: &mut Strings) {
        if self.young.len() >= self.half || strings.bytes > MAX_TEXT {
            self.old = std::mem::take(&mut self.young);
            strings.sweep();
        }
        self.young.insert(key, frames);
    }

    /// Takes everything out.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (K, Arc<[Frame]>)> + use<K> {
        std::mem::take(&mut self.old).into_iter().chain(std::mem::take(&mut self.young))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(strings: &mut Strings, name: &str) -> Arc<[Frame]> {
        let (function, system_name, kind) = strings.demangled(name);
        [Frame { function, system_name, file: None, line: 0, kind }].into()
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let mut strings = Strings::default();
        let mut cache = FrameCache::new(8);
        for address in 0..1000u64 {
            let new = frames(&mut strings, &format!("f{address}"));
            cache.insert(address, new, &mut strings);
            assert!(cache.get(0, &mut strings).is_some(), "lost after {address}");
            assert!(cache.len() <= 8);
        }
        assert!(cache.get(500, &mut strings).is_none());
        assert!(strings.strings.len() < 20, "{} strings", strings.strings.len());
    }

    #[test]
    fn long_names_do_not_fill_the_memory() {
        let mut strings = Strings::default();
        let mut cache = FrameCache::new(1 << 20);
        for address in 0..12_000u64 {
            let new = frames(&mut strings, &format!("{address:2000}"));
            cache.insert(address, new, &mut strings);
        }
        assert!(strings.bytes <= 2 * MAX_TEXT, "{} bytes", strings.bytes);
    }

    #[test]
    fn equal_names_share_memory() {
        let mut strings = Strings::default();
        let (first, second) = (frames(&mut strings, "same"), frames(&mut strings, "same"));
        assert!(Arc::ptr_eq(&first[0].function, &second[0].function));
        assert!(Arc::ptr_eq(&first[0].function, &first[0].system_name));
    }
}
