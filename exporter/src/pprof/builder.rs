//! Builds a pprof message sample by sample, storing each string, function, location and mapping once.
//!
//! Both the file encoder (a column per kind of time, all labels) and the Pyroscope sink (one column, few labels, many
//! small messages) fill it, so that the tables are right in one place. Only what a sample uses is written.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::message::{Function, Line, Mapping, PprofLabel, PprofLocation, PprofProfile, Sample, ValueType};
use crate::profile::{LabelValue, LocationId, ModuleId, Profile, SampleKind, StackId};
use crate::stack_bounds::{LONGEST_STACK, Place, bounded};

/// The name of a frame that has none.
const UNKNOWN: &str = "[unknown]";

/// One sample as it will be written: values in the order of the columns.
pub(crate) struct SampleRow<'a> {
    pub(crate) stack: StackId,
    pub(crate) values: Vec<i64>,
    pub(crate) labels: Vec<(&'a str, &'a LabelValue)>,
}

/// A pprof message under construction over the tables of one profile.
pub(crate) struct ProfileBuilder<'a> {
    profile: &'a Profile,
    message: PprofProfile,
    strings: HashMap<&'a str, i64, RandomState>,
    functions: HashMap<(i64, i64, i64), u64, RandomState>,
    /// The number that each of the profile's locations was written under; 0 for those that were not. A table
    /// and not a map: a busy profile asks a million times.
    locations: Vec<u64>,
    mappings: HashMap<ModuleId, u64>,
    made_up: HashMap<&'static str, u64>,
    bounds_stacks: bool,
}

impl<'a> ProfileBuilder<'a> {
    /// Starts a message with the given columns. The main binary becomes the first mapping, as viewers expect.
    pub(crate) fn new(profile: &'a Profile, columns: &[SampleKind], with_period: bool) -> Self {
        let mut builder = ProfileBuilder {
            profile,
            message: PprofProfile::default(),
            strings: HashMap::default(),
            functions: HashMap::default(),
            locations: vec![0; profile.locations().len()],
            mappings: HashMap::new(),
            made_up: HashMap::new(),
            bounds_stacks: false,
        };
        builder.string("");
        let nanoseconds = builder.string("nanoseconds");
        for column in columns {
            let r#type = builder.string(column.as_str());
            builder.message.sample_type.push(ValueType { r#type, unit: nanoseconds });
        }
        if with_period && profile.period_nanoseconds > 0 {
            let r#type = builder.string(SampleKind::Cpu.as_str());
            builder.message.period_type = Some(ValueType { r#type, unit: nanoseconds });
            builder.message.period = signed(profile.period_nanoseconds);
        }
        builder.message.time_nanos = signed(profile.start_unix_nanoseconds);
        builder.message.duration_nanos = signed(profile.duration_nanoseconds);
        if let Some(main) = main_module(profile) {
            builder.mapping(main);
        }
        builder
    }

    /// Writes a line for people.
    pub(crate) fn comment(&mut self, comment: &'a str) {
        let index = self.string(comment);
        self.message.comment.push(index);
    }

    /// Names the column that viewers show first; pprof's own default is the last.
    pub(crate) fn default_column(&mut self, column: SampleKind) {
        self.message.default_sample_type = self.string(column.as_str());
    }

    /// For readers that lose samples without a stack and cut long ones at the leaf.
    #[cfg(feature = "sinks")]
    pub(crate) fn bound_stacks(&mut self) {
        self.bounds_stacks = true;
    }

    /// Adds one sample.
    pub(crate) fn sample(&mut self, row: SampleRow<'a>) {
        let profile = self.profile;
        let stack = profile.stack(row.stack);
        let location_id: Vec<u64> = match self.bounds_stacks {
            false => stack.iter().map(|location| self.location(*location)).collect(),
            true => bounded(stack, LONGEST_STACK)
                .map(|place| match place {
                    Place::Location(location) => self.location(location),
                    Place::Note(note) => self.made_up(note),
                })
                .collect(),
        };
        let label = row.labels.iter().filter_map(|(key, value)| self.label(key, value)).collect();
        self.message.sample.push(Sample { location_id, value: row.values, label });
    }

    /// The finished message.
    pub(crate) fn finish(self) -> PprofProfile {
        self.message
    }

    fn string(&mut self, text: &'a str) -> i64 {
        if let Some(index) = self.strings.get(text) {
            return *index;
        }
        let index = self.message.string_table.len() as i64;
        self.message.string_table.push(text.as_bytes().to_vec());
        self.strings.insert(text, index);
        index
    }

    /// An empty key or text cannot be told from an absent one in pprof, so neither is written.
    fn label(&mut self, key: &'a str, value: &'a LabelValue) -> Option<PprofLabel> {
        if key.is_empty() {
            return None;
        }
        match value {
            LabelValue::Text(text) if text.is_empty() => None,
            LabelValue::Text(text) => {
                Some(PprofLabel { key: self.string(key), str: self.string(text), ..PprofLabel::default() })
            }
            LabelValue::Number(number) => {
                Some(PprofLabel { key: self.string(key), num: *number, ..PprofLabel::default() })
            }
        }
    }

    fn location(&mut self, id: LocationId) -> u64 {
        if self.locations[id.index()] != 0 {
            return self.locations[id.index()];
        }
        let location = self.profile.location(id);
        let mapping_id = location.module.map_or(0, |module| self.mapping(module));
        let mut line = Vec::with_capacity(location.frames.len());
        for frame in &location.frames {
            // An empty name would make the frame vanish in Pyroscope, with its time.
            let name = if frame.function.is_empty() { UNKNOWN } else { &frame.function };
            let name = self.string(name);
            let system_name = self.string(&frame.system_name);
            let filename = self.string(frame.file.as_deref().unwrap_or_default());
            let function_id = self.function(name, system_name, filename);
            line.push(Line { function_id, line: i64::from(frame.line), column: 0 });
        }
        if let Some(mapping) =
            mapping_id.checked_sub(1).and_then(|i| self.message.mapping.get_mut(i as usize))
        {
            mapping.has_filenames |= location.frames.iter().any(|frame| frame.file.is_some());
            mapping.has_line_numbers |= location.frames.iter().any(|frame| frame.line != 0);
            mapping.has_inline_frames |= location.frames.len() > 1;
        }
        let written = self.message.location.len() as u64 + 1;
        let address = location.address;
        self.message.location.push(PprofLocation {
            id: written,
            mapping_id,
            address,
            line,
            is_folded: false,
        });
        self.locations[id.index()] = written;
        written
    }

    /// A location that is no code and only says something.
    fn made_up(&mut self, name: &'static str) -> u64 {
        if let Some(written) = self.made_up.get(name) {
            return *written;
        }
        let line = vec![self.made_up_line(name)];
        let written = self.message.location.len() as u64 + 1;
        self.message.location.push(PprofLocation { id: written, line, ..PprofLocation::default() });
        self.made_up.insert(name, written);
        written
    }

    fn made_up_line(&mut self, name: &'static str) -> Line {
        let name = self.string(name);
        let function_id = self.function(name, name, 0);
        Line { function_id, ..Line::default() }
    }

    fn function(&mut self, name: i64, system_name: i64, filename: i64) -> u64 {
        let functions = &mut self.message.function;
        *self.functions.entry((name, system_name, filename)).or_insert_with(|| {
            let id = functions.len() as u64 + 1;
            functions.push(Function { id, name, system_name, filename, start_line: 0 });
            id
        })
    }

    fn mapping(&mut self, id: ModuleId) -> u64 {
        if let Some(written) = self.mappings.get(&id) {
            return *written;
        }
        let module = &self.profile.modules()[id.index()];
        let written = self.message.mapping.len() as u64 + 1;
        let filename = self.string(&module.path);
        let build_id = self.string(&module.build_id);
        self.message.mapping.push(Mapping {
            id: written,
            memory_start: module.start,
            memory_limit: module.end,
            file_offset: module.file_offset,
            filename,
            build_id,
            // Every frame was named already; a viewer that tried again would only lose the inlined ones.
            has_functions: true,
            ..Mapping::default()
        });
        self.mappings.insert(id, written);
        written
    }
}

/// Nanoseconds as pprof writes them; what does not fit is 292 years long and is cut to that.
pub(crate) fn signed(nanoseconds: u64) -> i64 {
    i64::try_from(nanoseconds).unwrap_or(i64::MAX)
}

/// The module that looks most like a program: the first that is neither a shared library nor a pseudo
/// mapping such as `[vdso]`; the first of all where none does.
fn main_module(profile: &Profile) -> Option<ModuleId> {
    let modules = profile.modules();
    let position = modules.iter().position(|module| is_program(&module.path)).unwrap_or(0);
    profile.module_id(position)
}

fn is_program(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let library = name.ends_with(".so") || name.contains(".so.");
    !name.is_empty() && !library && !path.starts_with('[') && !name.ends_with(".map")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_from_libraries() {
        for (path, expected) in [
            ("/usr/bin/orders", true),
            ("/usr/lib/x86_64-linux-gnu/libc.so.6", false),
            ("/opt/plugin.so", false),
            ("[vdso]", false),
            ("[kernel]", false),
            ("/tmp/perf-7.map", false),
            ("", false),
        ] {
            assert_eq!(is_program(path), expected, "{path}");
        }
    }
}
