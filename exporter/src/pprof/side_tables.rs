//! What a profile knows beside its samples, in a field of its own behind pprof's.
//!
//! pprof's message ends with field 15; field 1000, of bytes, is ours. Readers that don't know a field pass over it, so that
//! a file with facts of spans, wakers, relatives and traffic opens everywhere, and a directory of windows keeps all. Inside
//! are records, one after the other, each read by itself: what is broken, too long or too much is left out and counted in
//! a comment, and never keeps the samples from being read.
//!
//! Refused: a second file beside each, which is lost when one copies the first; and comments, which viewers show.

mod message;

use std::collections::HashMap;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::scan::{Content, Fields};
use crate::facts::SpanRef;
use crate::profile::Profile;
use crate::told::SpanClass;
use message::{ChainRecord, ClassRecord, FactsRecord, TalliedRecord, ToldRecord};

/// The field of pprof's message.
const FIELD: u32 = 1_000;
/// Of what stands in it. A newer one is passed over whole.
const VERSION: u64 = 1;

/// The fields in it.
mod field {
    pub(super) const VERSION: u32 = 1;
    /// In the order of their numbers, from 0, before those that refer to them.
    pub(super) const CLASS: u32 = 2;
    pub(super) const FACTS: u32 = 3;
    pub(super) const CHAIN: u32 = 4;
    pub(super) const TOLD: u32 = 5;
    pub(super) const LEFT_OUT: u32 = 6;
    pub(super) const TRAFFIC: u32 = 7;
}

/// The longest record that is read, in bytes: a chain of wakers with the longest names.
const LONGEST_RECORD: usize = 256 << 10;
/// Classes that are read.
const MOST_CLASSES: usize = 100_000;
/// Spans whose facts are read.
const MOST_FACTS: usize = 100_000;
/// Spans whose wakers are read; one has up to 32 with 64 frames each.
const MOST_CHAINS: usize = 20_000;

/// Writes the field behind a message; nothing where there is nothing to write.
pub(super) fn append(profile: &Profile, message: &mut Vec<u8>) {
    let mut tables = Tables::default();
    let mut spans: Vec<_> = profile.span_facts.iter().collect();
    spans.sort_by_key(|(ids, _)| *ids);
    for (ids, facts) in spans {
        if let Some(span) = SpanRef::parse(&ids.trace_id, &ids.span_id) {
            tables.record(field::FACTS, &FactsRecord::new(span, facts));
        }
    }
    for (trace_id, span_id, chain) in profile.wakers.iter() {
        if let Some(span) = SpanRef::parse(trace_id, span_id) {
            tables.record(field::CHAIN, &ChainRecord::new(span, chain));
        }
    }
    for told in profile.relatives.iter() {
        let class = tables.class(&told.class);
        tables.record(field::TOLD, &ToldRecord::new(told, class));
    }
    if profile.relatives.number_left_out() > 0 {
        tables.number(field::LEFT_OUT, profile.relatives.number_left_out());
    }
    for (key, counted) in profile.traffic.iter() {
        let class = tables.class(&key.class);
        tables.record(field::TRAFFIC, &TalliedRecord::new(key, counted, class));
    }
    if tables.bytes.is_empty() {
        return;
    }
    let mut content = Tables::default();
    content.number(field::VERSION, VERSION);
    content.bytes.append(&mut tables.bytes);
    encode_key(FIELD, WireType::LengthDelimited, message);
    encode_varint(content.bytes.len() as u64, message);
    message.append(&mut content.bytes);
}

/// The records under way.
#[derive(Default)]
struct Tables<'a> {
    bytes: Vec<u8>,
    classes: HashMap<&'a SpanClass, u32>,
}

impl<'a> Tables<'a> {
    fn record(&mut self, field: u32, record: &impl Message) {
        encode_key(field, WireType::LengthDelimited, &mut self.bytes);
        encode_varint(record.encoded_len() as u64, &mut self.bytes);
        self.bytes.extend(record.encode_to_vec());
    }

    fn number(&mut self, field: u32, number: u64) {
        encode_key(field, WireType::Varint, &mut self.bytes);
        encode_varint(number, &mut self.bytes);
    }

    /// The number of a class, which is written before the first record that refers to it.
    fn class(&mut self, class: &'a SpanClass) -> u32 {
        if let Some(number) = self.classes.get(class) {
            return *number;
        }
        let number = self.classes.len() as u32;
        self.classes.insert(class, number);
        self.record(field::CLASS, &ClassRecord::new(class));
        number
    }
}

/// Reads the field wherever it stands in a message that was found sound; at most so many bytes of it.
pub(super) fn read(message: &[u8], most_bytes: usize, profile: &mut Profile) {
    let mut unread = 0;
    let mut left = most_bytes;
    // Files that were put one behind the other have several.
    for field in Fields(message) {
        if let Ok((1_000, Content::Bytes(content))) = field {
            match left.checked_sub(content.len()) {
                Some(rest) => {
                    left = rest;
                    unread += Reader { profile, classes: Vec::new(), unread: 0 }.read(content);
                }
                None => unread += 1,
            }
        }
    }
    if unread > 0 {
        profile.comments.push(format!("{unread} records beside the samples could not be read"));
    }
}

struct Reader<'a> {
    profile: &'a mut Profile,
    classes: Vec<SpanClass>,
    unread: u64,
}

impl Reader<'_> {
    /// How many records could not be read.
    fn read(mut self, content: &[u8]) -> u64 {
        for field in Fields(content) {
            let is_read = match field {
                Ok((number, Content::Number(VERSION))) if number == u64::from(field::VERSION) => Some(()),
                Ok((number, _)) if number == u64::from(field::VERSION) => return self.unread + 1,
                Ok((number, Content::Number(left_out))) if number == u64::from(field::LEFT_OUT) => {
                    self.profile.relatives.left_out(left_out);
                    Some(())
                }
                Ok((number, Content::Bytes(record))) if record.len() <= LONGEST_RECORD => {
                    self.record(number, record)
                }
                // The length of what follows is not known, either.
                Err(_) => return self.unread + 1,
                Ok(_) => None,
            };
            self.unread += u64::from(is_read.is_none());
        }
        self.unread
    }

    /// None where it can't be read or has no room.
    fn record(&mut self, number: u64, record: &[u8]) -> Option<()> {
        match u32::try_from(number).ok()? {
            field::CLASS => {
                let class = decode(record).map(ClassRecord::read);
                // One that is broken keeps its number.
                if self.classes.len() < MOST_CLASSES {
                    self.classes.push(class.clone().unwrap_or_else(SpanClass::other));
                }
                class.map(drop)
            }
            field::FACTS => {
                let (span, facts) = decode::<FactsRecord>(record)?.read()?;
                let has_room = self.profile.span_facts.len() < MOST_FACTS;
                has_room.then(|| self.profile.span_facts.insert(span.into(), facts)).map(drop)
            }
            field::CHAIN => {
                let (span, chain) = decode::<ChainRecord>(record)?.read()?;
                let has_room = self.profile.wakers.len() < MOST_CHAINS;
                let insert = || self.profile.wakers.insert(&span.trace_id_hex(), &span.span_id_hex(), chain);
                has_room.then(insert)
            }
            field::TOLD => {
                let told = decode::<ToldRecord>(record)?.read(&self.classes)?;
                self.profile.relatives.insert(told);
                Some(())
            }
            field::TRAFFIC => {
                let (key, counted) = decode::<TalliedRecord>(record)?.read(&self.classes)?;
                self.profile.traffic.add(key, &counted);
                Some(())
            }
            // A later spanprof of the same version may know more.
            _ => Some(()),
        }
    }
}

fn decode<T: Message + Default>(record: &[u8]) -> Option<T> {
    T::decode(record).ok()
}
