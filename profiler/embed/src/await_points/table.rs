//! Sums of a thread's suspensions per span, place and waker, since somebody last took them.
//!
//! Of fixed size, so that nothing is allocated while suspensions are recorded, and appended to from the front, so that
//! only pages that were needed take memory. A table that fills up before somebody empties it gives up what matters least,
//! and counts it: first who woke, then the span of waits that were not slow, which add up by place from there on. Their
//! time is lost only where even those have no room.

use std::mem::MaybeUninit;
use std::ptr;

use super::packed_span::PackedSpan;
use super::places::Place;
use super::shared::Waking;
use super::{Suspension, losses};

/// Entries: of one thread, between two drains.
pub(super) const ENTRIES: usize = 1024;
/// From here on suspensions that differ by their waker alone share an entry.
const ENTRIES_BY_WAKER: usize = ENTRIES / 2;
/// From here on only a slow wait, [`SLOW`] times the mean, gets an entry under its span …
const ENTRIES_OF_ALL: usize = ENTRIES / 4 * 3;
/// … and from here on none.
const ENTRIES_OF_SPANS: usize = ENTRIES - 64;
const SLOW: u64 = 4;
/// Room for attributes; half of the entries may have some of a usual length.
const ATTRIBUTES: usize = 32 * 1024;
/// At most half full, so that searches end soon.
const INDEX: usize = 2 * ENTRIES;
/// Bits by which most spans that have no entry are told without a search.
const SPANS: usize = 4 * ENTRIES;

/// All zero bytes are an empty table.
pub(super) struct Table {
    length: usize,
    attributes_length: usize,
    /// All suspensions so far and their time, by which slow ones are told.
    count: u64,
    nanoseconds: u64,
    /// What was given up, not counted elsewhere yet.
    without_waker: u64,
    without_span: u64,
    /// An entry's number plus one, and above it a part of its key's hash; or 0.
    index: [u32; INDEX],
    /// The bits of all spans that have an entry.
    spans: [u64; SPANS / 64],
    entries: [MaybeUninit<Entry>; ENTRIES],
    attributes: [u8; ATTRIBUTES],
}

/// What is told apart.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub(super) span: PackedSpan,
    pub(super) place: Option<&'static Place>,
    pub(super) woken_by: Waking,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Sums {
    pub(super) count: u64,
    pub(super) cancelled: u64,
    pub(super) suspended: u64,
    pub(super) ready: u64,
    pub(super) longest: u64,
}

struct Entry {
    key: Key,
    sums: Sums,
    /// Where its attributes lie; `None` if there was no room for them.
    attributes: Option<(u32, u32)>,
}

impl Key {
    #[inline(always)]
    fn is(&self, other: &Key) -> bool {
        let place = |key: &Key| key.place.map_or(ptr::null(), ptr::from_ref);
        place(self) == place(other) && self.span.is(&other.span) && self.woken_by.is(&other.woken_by)
    }

    /// Its place in the index, and a tag.
    #[inline(always)]
    fn hash(&self) -> (usize, u32) {
        let place = self.place.map_or(0, |place| ptr::from_ref(place).addr() as u64 >> 3);
        let by = self.woken_by.span.span_id ^ u64::from(self.woken_by.thread) << 32;
        let hash = (self.span.span_id ^ place).wrapping_mul(ODD) ^ by.wrapping_mul(ODD).rotate_left(17);
        let hash = (hash ^ hash >> 32).wrapping_mul(ODD);
        ((hash >> (u64::BITS - INDEX.ilog2())) as usize, (hash as u32) & TAG)
    }
}

/// The bits of a word of the index that are no entry's number.
const TAG: u32 = !(u16::MAX as u32);

/// The golden ratio's: spreads numbers that lie close together.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A span's bit, and the word of [`Table::spans`] that has it.
#[inline]
fn bit_of(span: &PackedSpan) -> (usize, u64) {
    let bit = (span.span_id.wrapping_mul(ODD) >> (u64::BITS - SPANS.ilog2())) as usize;
    (bit / 64, 1 << (bit % 64))
}

impl Sums {
    #[inline]
    pub(super) fn one(suspended: u64, ready: u64, cancelled: bool) -> Self {
        Self { count: 1, cancelled: cancelled.into(), suspended, ready, longest: suspended + ready }
    }

    #[inline]
    fn add(&mut self, other: &Sums) {
        self.count += other.count;
        self.cancelled += other.cancelled;
        self.suspended += other.suspended;
        self.ready += other.ready;
        self.longest = self.longest.max(other.longest);
    }
}

impl Table {
    pub(super) fn boxed() -> Box<Table> {
        // SAFETY: all zero bytes are an empty table.
        unsafe { Box::<Table>::new_zeroed().assume_init() }
    }

    /// Adds to the entry of a key and attributes. Takes from the key what there is no room for.
    #[inline]
    pub(super) fn add(&mut self, key: &mut Key, attributes: &[u8], sums: &Sums) {
        self.count += sums.count;
        self.nanoseconds += sums.suspended + sums.ready;
        if self.is_crowded_out(&key.span, sums) {
            self.give_up_waker(key, sums);
            self.give_up_span(key, sums);
        }
        loop {
            match self.search(key, attributes) {
                // SAFETY: entries whose number is in the index have been written.
                Ok(entry) => return unsafe { self.entries[entry].assume_init_mut() }.sums.add(sums),
                Err(free) if self.length < ENTRIES_BY_WAKER => {
                    return self.append(free, key, attributes, sums);
                }
                Err(_) if self.give_up_a_part(key, sums) => {}
                Err(_) if self.length == ENTRIES => return losses::suspension(sums.suspended + sums.ready),
                Err(free) => return self.append(free, key, attributes, sums),
            }
        }
    }

    /// Takes from a key what there is no room for.
    #[cold]
    fn give_up_a_part(&mut self, key: &mut Key, sums: &Sums) -> bool {
        if key.woken_by.thread != 0 {
            self.give_up_waker(key, sums);
            return true;
        }
        let limit = if self.is_slow(sums) { ENTRIES_OF_SPANS } else { ENTRIES_OF_ALL };
        let gives_up = key.span.state != 0 && self.length >= limit;
        if gives_up {
            self.give_up_span(key, sums);
        }
        gives_up
    }

    fn give_up_waker(&mut self, key: &mut Key, sums: &Sums) {
        self.without_waker += if key.woken_by.thread == 0 { 0 } else { sums.count };
        key.woken_by = Waking::NONE;
    }

    fn give_up_span(&mut self, key: &mut Key, sums: &Sums) {
        self.without_span += sums.count;
        key.span = PackedSpan::NONE;
    }

    /// [`SLOW`] times as long as the mean of all.
    fn is_slow(&self, sums: &Sums) -> bool {
        sums.longest.saturating_mul(self.count) >= self.nanoseconds.saturating_mul(SLOW)
    }

    /// Whether a span has no entry and won't get one. Most waits are such once a table is full, and need no search.
    #[inline]
    fn is_crowded_out(&self, span: &PackedSpan, sums: &Sums) -> bool {
        let (word, bit) = bit_of(span);
        self.length >= ENTRIES_OF_ALL && span.state != 0 && self.spans[word] & bit == 0 && !self.is_slow(sums)
    }

    /// The entry's number, or where in the index it belongs.
    #[inline]
    fn search(&self, key: &Key, attributes: &[u8]) -> Result<usize, (usize, u32)> {
        let (mut at, tag) = key.hash();
        loop {
            let word = self.index[at];
            if word == 0 {
                return Err((at, tag));
            }
            let number = (word & !TAG) as usize - 1;
            if word & TAG == tag {
                // SAFETY: entries whose number is in the index have been written.
                let entry = unsafe { self.entries[number].assume_init_ref() };
                if entry.key.is(key) && self.attributes(entry).is_none_or(|kept| kept == attributes) {
                    return Ok(number);
                }
            }
            at = (at + 1) % INDEX;
        }
    }

    fn append(&mut self, (free, tag): (usize, u32), key: &Key, attributes: &[u8], sums: &Sums) {
        let start = self.attributes_length;
        let end = start + attributes.len();
        let kept = self.attributes.get_mut(start..end).map(|room| {
            room.copy_from_slice(attributes);
            self.attributes_length = end;
            (start as u32, end as u32)
        });
        if kept.is_none() {
            losses::attributes();
        }
        let (word, bit) = bit_of(&key.span);
        self.spans[word] |= bit;
        self.entries[self.length].write(Entry { key: *key, sums: *sums, attributes: kept });
        self.length += 1;
        self.index[free] = tag | self.length as u32;
    }

    fn attributes(&self, entry: &Entry) -> Option<&[u8]> {
        entry.attributes.map(|(start, end)| &self.attributes[start as usize..end as usize])
    }

    /// Shows all entries and forgets them.
    pub(super) fn drain(&mut self, visit: &mut dyn FnMut(&Suspension<'_>)) {
        let length = self.length;
        for number in 0..length {
            // SAFETY: entries below the length have been written.
            let entry = unsafe { self.entries[number].assume_init_ref() };
            visit(&Suspension {
                span: entry.key.span.get(),
                attributes: self.attributes(entry).unwrap_or_default(),
                place: entry.key.place.map_or(&[], Place::addresses),
                count: entry.sums.count,
                cancelled: entry.sums.cancelled,
                suspended: entry.sums.suspended,
                ready: entry.sums.ready,
                longest: entry.sums.longest,
                woken_by: entry.key.woken_by.get(),
            });
        }
        if length > 0 {
            self.index.fill(0);
            self.spans.fill(0);
            self.length = 0;
            self.attributes_length = 0;
            (self.count, self.nanoseconds) = (0, 0);
            losses::wakers(std::mem::take(&mut self.without_waker));
            losses::spans(std::mem::take(&mut self.without_span));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spanprof_context::{SpanContext, SpanId, TraceId};

    fn key(number: u64) -> Key {
        let span = SpanContext::new(TraceId([1; 16]), SpanId(number.to_ne_bytes()), 0);
        Key { span: PackedSpan::new(Some(span)), place: None, woken_by: Waking::NONE }
    }

    fn all(table: &mut Table) -> Vec<(u64, Vec<u8>, u64, u64)> {
        let mut all = Vec::new();
        table.drain(&mut |suspension| {
            let span = suspension.span.map_or(0, |span| u64::from_ne_bytes(span.span_id.0));
            all.push((span, suspension.attributes.to_vec(), suspension.count, suspension.suspended));
        });
        all
    }

    #[test]
    fn what_is_equal_adds_up_and_what_differs_stays_apart() {
        let mut table = Table::boxed();
        for round in 0..3 {
            table.add(&mut key(1), b"a", &Sums::one(10 + round, 1, false));
            table.add(&mut key(1), b"b", &Sums::one(20, 1, false));
            table.add(&mut key(2), b"", &Sums::one(30, 1, true));
        }
        let expected = [(1, b"a".to_vec(), 3, 33), (1, b"b".to_vec(), 3, 60), (2, Vec::new(), 3, 90)];
        assert_eq!(all(&mut table), expected);
        assert_eq!(all(&mut table), []);
        table.add(&mut key(2), b"c", &Sums::one(1, 1, false));
        assert_eq!(all(&mut table), [(2, b"c".to_vec(), 1, 1)]);
    }

    #[test]
    fn a_full_table_gives_up_wakers_first_and_counts_it() {
        let mut table = Table::boxed();
        let woken = |number: u64| Key {
            woken_by: Waking { thread: number as u32 + 1, span: PackedSpan::NONE },
            ..key(0)
        };
        // Other tests may lose at the same time, so the counters say at least what is lost here.
        let before = super::super::lost();
        const TURN: u64 = 2 * ENTRIES as u64;
        for number in 0..TURN {
            table.add(&mut woken(number), b"", &Sums::one(1, 0, false));
        }
        assert_eq!(table.length, ENTRIES_BY_WAKER + 1);
        let kept: u64 = all(&mut table).iter().map(|entry| entry.2).sum();
        assert_eq!(kept, TURN);
        let after = super::super::lost();
        assert!(after.wakers - before.wakers >= TURN - ENTRIES_BY_WAKER as u64);
    }

    #[test]
    fn a_full_table_keeps_all_time_and_the_spans_of_slow_waits() {
        let mut table = Table::boxed();
        let before = super::super::lost();
        let mut told = std::collections::HashMap::<_, u64>::new();
        const TURN: u64 = 4 * ENTRIES as u64;
        for number in 1..=TURN {
            let time = if number % 50 == 0 { 1000 } else { 10 };
            table.add(&mut key(number), &[7; 10], &Sums::one(time, 0, false));
        }
        let mut all_time = 0;
        table.drain(&mut |suspension| {
            all_time += suspension.suspended;
            *told.entry(suspension.span.map(|_| suspension.suspended >= 1000)).or_default() +=
                suspension.count;
            assert_eq!(suspension.attributes, [7; 10]);
        });
        assert_eq!(all_time, TURN / 50 * 1000 + (TURN - TURN / 50) * 10);
        assert_eq!(told[&Some(true)], TURN / 50, "{told:?}");
        assert_eq!(told[&None], TURN - told[&Some(true)] - told[&Some(false)]);
        assert!(super::super::lost().spans - before.spans >= told[&None]);
    }

    #[test]
    fn a_full_table_goes_on_with_the_spans_that_it_has() {
        let mut table = Table::boxed();
        for number in 1..=2 * ENTRIES as u64 {
            table.add(&mut key(number), b"", &Sums::one(10, 0, false));
            table.add(&mut key(number % 500 + 1), b"", &Sums::one(10, 0, false));
        }
        let told = all(&mut table);
        let of_known: u64 =
            told.iter().filter(|(span, ..)| (1..=500).contains(span)).map(|entry| entry.2).sum();
        assert_eq!(of_known, 500 + 2 * ENTRIES as u64);
        table.add(&mut key(ENTRIES as u64), b"", &Sums::one(10, 0, false));
        assert_eq!(all(&mut table).len(), 1, "an emptied table has room for all");
    }

    #[test]
    fn what_has_no_room_even_without_its_span_is_lost_and_counted() {
        let mut table = Table::boxed();
        let before = super::super::lost();
        const TURN: u64 = 2 * ENTRIES as u64;
        for number in 0..TURN {
            table.add(&mut key(number), &number.to_ne_bytes(), &Sums::one(1, 0, false));
        }
        assert_eq!(table.length, ENTRIES);
        let kept: u64 = all(&mut table).iter().map(|entry| entry.2).sum();
        let after = super::super::lost();
        assert!(after.suspensions - before.suspensions >= TURN - kept);
        assert!(after.nanoseconds - before.nanoseconds >= TURN - kept);
    }

    #[test]
    fn an_entry_whose_attributes_have_no_room_has_none() {
        let mut table = Table::boxed();
        let before = super::super::lost();
        for number in 1..=500 {
            table.add(&mut key(number), &[7; 100], &Sums::one(1, 0, false));
        }
        let bare = all(&mut table).iter().filter(|entry| entry.1.is_empty()).count() as u64;
        assert_eq!(bare, 500 - ATTRIBUTES as u64 / 100);
        assert!(super::super::lost().attributes - before.attributes >= bare);
    }
}
