//! The tables of one request, filled by what its samples use.
//!
//! Each table begins with its zero value, holds each thing once and nothing that is not used: the protocol's rules.

use std::collections::HashMap;
use std::hash::Hash;

use spanprof_symbolizer::Frame;

use super::message::{
    AnyValue, ArrayValue, Function, KeyValueAndUnit, Line, Link, Location, Mapping, ProfilesDictionary,
    Stack, Value,
};
use crate::profile::{LabelValue, LocationId, ModuleId, Profile, StackId};
use crate::stack_bounds::{LONGEST_STACK, Place, bounded};

/// The name of a frame that has none.
const UNKNOWN: &str = "[unknown]";

const BUILD_ID: &str = "process.executable.build_id.gnu";
const FRAME_TYPE: &str = "profile.frame.type";
const COMMENT: &str = "pprof.profile.comment";

/// The tables under construction over one profile.
pub(super) struct Dictionary<'a> {
    profile: &'a Profile,
    mappings: Table<Mapping>,
    locations: Table<Location>,
    functions: Table<Function>,
    links: Table<Link>,
    stacks: Table<Stack>,
    strings: HashMap<&'a str, i32>,
    string_table: Vec<String>,
    attributes: HashMap<(i32, LabelValue), i32>,
    attribute_table: Vec<KeyValueAndUnit>,
    /// What each location of the profile was written under; 0 for those that were not.
    written_locations: Vec<i32>,
    written_mappings: HashMap<ModuleId, i32>,
    written_stacks: HashMap<StackId, i32>,
}

impl<'a> Dictionary<'a> {
    /// The zero values alone.
    pub(super) fn new(profile: &'a Profile) -> Self {
        Dictionary {
            profile,
            mappings: Table::beginning_with(Mapping::default()),
            locations: Table::beginning_with(Location::default()),
            functions: Table::beginning_with(Function::default()),
            // Written out, because some readers take no other length.
            links: Table::beginning_with(Link { trace_id: vec![0; 16], span_id: vec![0; 8] }),
            stacks: Table::beginning_with(Stack::default()),
            strings: HashMap::from([("", 0)]),
            string_table: vec![String::new()],
            attributes: HashMap::new(),
            attribute_table: vec![KeyValueAndUnit::default()],
            written_locations: vec![0; profile.locations().len()],
            written_mappings: HashMap::new(),
            written_stacks: HashMap::new(),
        }
    }

    /// The finished tables.
    pub(super) fn finish(self) -> ProfilesDictionary {
        ProfilesDictionary {
            mapping_table: self.mappings.values,
            location_table: self.locations.values,
            function_table: self.functions.values,
            link_table: self.links.values,
            string_table: self.string_table,
            attribute_table: self.attribute_table,
            stack_table: self.stacks.values,
        }
    }

    /// The index of a text.
    pub(super) fn string(&mut self, text: &'a str) -> i32 {
        if let Some(index) = self.strings.get(text) {
            return *index;
        }
        let index = index_of(self.string_table.len());
        self.string_table.push(text.to_owned());
        self.strings.insert(text, index);
        index
    }

    /// The index of an attribute.
    pub(super) fn attribute(&mut self, key: &'a str, value: &LabelValue) -> i32 {
        let key_strindex = self.string(key);
        let key = (key_strindex, value.clone());
        if let Some(index) = self.attributes.get(&key) {
            return *index;
        }
        let value = match value {
            LabelValue::Text(text) => Value::Text(text.to_string()),
            LabelValue::Number(number) => Value::Number(*number),
        };
        let index = self.push_attribute(key_strindex, AnyValue { value: Some(value) });
        self.attributes.insert(key, index);
        index
    }

    /// The index of the attribute that holds the lines for people; none where there are none.
    pub(super) fn comments(&mut self) -> Option<i32> {
        let comments = &self.profile.comments;
        if comments.is_empty() {
            return None;
        }
        let key_strindex = self.string(COMMENT);
        let values = comments.iter().map(|comment| AnyValue::text(comment.as_str())).collect();
        Some(self.push_attribute(key_strindex, AnyValue { value: Some(Value::Array(ArrayValue { values })) }))
    }

    /// The index of a span; 0 for none.
    pub(super) fn link(&mut self, link: Option<&Link>) -> i32 {
        link.map_or(0, |link| self.links.intern(link.clone()))
    }

    /// The index of a stack of the profile.
    pub(super) fn stack(&mut self, id: StackId) -> i32 {
        if let Some(written) = self.written_stacks.get(&id) {
            return *written;
        }
        let profile = self.profile;
        let location_indices = bounded(profile.stack(id), LONGEST_STACK)
            .map(|place| match place {
                Place::Location(location) => self.location(location),
                Place::Note(note) => self.note(note),
            })
            .collect();
        let written = self.stacks.intern(Stack { location_indices });
        self.written_stacks.insert(id, written);
        written
    }

    fn push_attribute(&mut self, key_strindex: i32, value: AnyValue) -> i32 {
        let index = index_of(self.attribute_table.len());
        self.attribute_table.push(KeyValueAndUnit { key_strindex, value: Some(value), unit_strindex: 0 });
        index
    }

    fn location(&mut self, id: LocationId) -> i32 {
        if self.written_locations[id.index()] != 0 {
            return self.written_locations[id.index()];
        }
        let location = self.profile.location(id);
        let mapping_index = location.module.map_or(0, |module| self.mapping(module));
        let lines = location.frames.iter().map(|frame| self.line(frame)).collect();
        // What is at the address is the function that the others were inlined into.
        let frame_type = location.frames.last().map_or("", |frame| frame.kind.as_str());
        let attribute_indices = match frame_type {
            "" => Vec::new(),
            frame_type => vec![self.attribute(FRAME_TYPE, &LabelValue::Text(frame_type.into()))],
        };
        let address = location.address;
        let written = self.locations.intern(Location { mapping_index, address, lines, attribute_indices });
        self.written_locations[id.index()] = written;
        written
    }

    fn line(&mut self, frame: &'a Frame) -> Line {
        // Viewers leave out frames without a name, with their time.
        let name = if frame.function.is_empty() { UNKNOWN } else { &frame.function };
        let function = Function {
            name_strindex: self.string(name),
            system_name_strindex: self.string(&frame.system_name),
            filename_strindex: self.string(frame.file.as_deref().unwrap_or_default()),
        };
        Line { function_index: self.functions.intern(function), line: i64::from(frame.line) }
    }

    /// A location that is no code and only says something.
    fn note(&mut self, note: &'static str) -> i32 {
        let name = self.string(note);
        let function = Function { name_strindex: name, system_name_strindex: name, filename_strindex: 0 };
        let line = Line { function_index: self.functions.intern(function), line: 0 };
        self.locations.intern(Location { lines: vec![line], ..Location::default() })
    }

    /// A mapping must carry a build id and an extent; what has none is no mapping, and its frames are named anyway.
    fn mapping(&mut self, id: ModuleId) -> i32 {
        if let Some(written) = self.written_mappings.get(&id) {
            return *written;
        }
        let module = &self.profile.modules()[id.index()];
        let written = match module.build_id.is_empty() || module.start >= module.end {
            true => 0,
            false => {
                let build_id = self.attribute(BUILD_ID, &LabelValue::Text(module.build_id.clone()));
                let filename_strindex = self.string(&module.path);
                self.mappings.intern(Mapping {
                    memory_start: module.start,
                    memory_limit: module.end,
                    file_offset: module.file_offset,
                    filename_strindex,
                    attribute_indices: vec![build_id],
                })
            }
        };
        self.written_mappings.insert(id, written);
        written
    }
}

/// Equal values once, numbered from 0, which is the zero value.
struct Table<T> {
    values: Vec<T>,
    indices: HashMap<T, i32>,
}

impl<T: Clone + Eq + Hash> Table<T> {
    fn beginning_with(zero: T) -> Self {
        Table { values: vec![zero.clone()], indices: HashMap::from([(zero, 0)]) }
    }

    fn intern(&mut self, value: T) -> i32 {
        if let Some(index) = self.indices.get(&value) {
            return *index;
        }
        let index = index_of(self.values.len());
        self.indices.insert(value.clone(), index);
        self.values.push(value);
        index
    }
}

/// A request is cut long before a table has 2^31 entries.
fn index_of(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}
