//! Frames by address in a few large pieces of memory, for a process that is not one's own.
//!
//! Reading names takes some megabytes for a moment. What is remembered of them is small, but made in between: piece by piece
//! it keeps a page each from going back to the system, six times what it takes itself. So it is moved here once the
//! reading is over, and is put together anew when somebody asks.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::ops::Range;
use std::sync::Arc;

use super::names::Strings;
use crate::{Frame, FrameKind};

/// Remembered text; with more, everything is forgotten: no real program has it, hostile names do.
const MAX_TEXT: usize = 8 << 20;

/// Frames by key, bounded.
pub(super) struct PackedFrames<K> {
    places: HashMap<K, Range<u32>>,
    frames: Vec<PackedFrame>,
    texts: Texts,
    capacity: usize,
}

#[derive(Clone, Copy)]
struct PackedFrame {
    function: u32,
    system_name: u32,
    file: Option<u32>,
    line: u32,
    kind: FrameKind,
}

impl<K: Hash + Eq> PackedFrames<K> {
    /// Room for the frames of at most `capacity` keys.
    pub(super) fn new(capacity: usize) -> PackedFrames<K> {
        let (places, frames, texts) = (HashMap::new(), Vec::new(), Texts::default());
        PackedFrames { places, frames, texts, capacity }
    }

    /// The frames, put together anew.
    pub(super) fn get(&self, key: &K, strings: &mut Strings) -> Option<Arc<[Frame]>> {
        let place = self.places.get(key)?;
        let packed = &self.frames[place.start as usize..place.end as usize];
        let mut text = |number: u32| strings.get(self.texts.get(number));
        let frames = packed.iter().map(|frame| Frame {
            function: text(frame.function),
            system_name: text(frame.system_name),
            file: frame.file.map(&mut text),
            line: frame.line,
            kind: frame.kind,
        });
        Some(frames.collect())
    }

    /// Remembers frames; without room for them everything older is forgotten.
    pub(super) fn insert(&mut self, key: K, frames: &[Frame]) {
        if self.places.contains_key(&key) {
            return;
        }
        if self.places.len() >= self.capacity || self.texts.text.len() > MAX_TEXT {
            *self = PackedFrames::new(self.capacity);
        }
        let start = self.frames.len() as u32;
        let texts = &mut self.texts;
        self.frames.extend(frames.iter().map(|frame| PackedFrame {
            function: texts.number(&frame.function),
            system_name: texts.number(&frame.system_name),
            file: frame.file.as_deref().map(|file| texts.number(file)),
            line: frame.line,
            kind: frame.kind,
        }));
        self.places.insert(key, start..self.frames.len() as u32);
    }
}

/// Texts one behind the other, each once.
#[derive(Default)]
struct Texts {
    text: String,
    /// Where each ends.
    ends: Vec<u32>,
    /// The first text of each hash; another of the same hash is kept as often as it comes.
    numbers: HashMap<u64, u32>,
    hasher: RandomState,
}

impl Texts {
    fn number(&mut self, text: &str) -> u32 {
        let hash = self.hasher.hash_one(text);
        if let Some(known) = self.numbers.get(&hash).filter(|known| self.get(**known) == text) {
            return *known;
        }
        let number = self.ends.len() as u32;
        self.text.push_str(text);
        self.ends.push(self.text.len() as u32);
        self.numbers.entry(hash).or_insert(number);
        number
    }

    fn get(&self, number: u32) -> &str {
        let number = number as usize;
        let begin = number.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        &self.text[begin..self.ends[number] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(strings: &mut Strings, name: &str, line: u32) -> Frame {
        let (function, system_name, kind) = strings.demangled(name);
        let file = (line > 0).then(|| strings.get("src/orders.rs"));
        Frame { function, system_name, file, line, kind }
    }

    #[test]
    fn frames_come_back_as_they_were() {
        let mut strings = Strings::default();
        let mut packed = PackedFrames::new(100);
        let frames: Vec<Vec<Frame>> = (0..50u32)
            .map(|address| {
                let mangled =
                    format!("_ZN6orders{}parse{address}17h0123456789abcdefE", 5 + address.to_string().len());
                (0..address % 4).map(|line| frame(&mut strings, &mangled, line)).collect()
            })
            .collect();
        for (address, frames) in frames.iter().enumerate() {
            packed.insert(address, frames);
            packed.insert(address, &[]);
        }
        for (address, frames) in frames.iter().enumerate() {
            assert_eq!(packed.get(&address, &mut Strings::default()).as_deref(), Some(&frames[..]));
        }
        assert_eq!(packed.get(&50, &mut strings), None);
        assert_eq!(packed.texts.text.matches("src/orders.rs").count(), 1, "each text once");
    }

    #[test]
    fn texts_of_one_hash_are_told_apart() {
        let mut texts = Texts::default();
        let [first, again, other] = ["", "", "orders"].map(|text| texts.number(text));
        let hash = texts.hasher.hash_one("parse");
        texts.numbers.insert(hash, other);
        let parse = texts.number("parse");
        assert_eq!((first, again), (0, 0));
        assert_eq!([first, other, parse].map(|number| texts.get(number)), ["", "orders", "parse"]);
    }

    #[test]
    fn neither_addresses_nor_long_names_fill_the_memory() {
        let mut strings = Strings::default();
        let mut packed = PackedFrames::new(8);
        for address in 0..1000 {
            packed.insert(address, &[frame(&mut strings, "f", 0)]);
            assert!(packed.get(&address, &mut strings).is_some() && packed.places.len() <= 8);
        }
        let mut packed = PackedFrames::new(1 << 20);
        for address in 0..10_000 {
            packed.insert(address, &[frame(&mut Strings::default(), &format!("{address:2000}"), 0)]);
        }
        assert!(packed.texts.text.len() <= MAX_TEXT + (4 << 10));
    }
}
