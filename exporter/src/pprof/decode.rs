//! Reads a pprof file into the model, ours or another producer's.
//!
//! Nothing in the file is trusted: size and counts are bounded before anything is allocated for them, and
//! each reference is looked up. Foreign sample types are taken where they say the same thing (see
//! [`columns`]); wall-clock types are not, because they hold CPU and off-CPU time added up.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use prost::Message;
use spanprof_symbolizer::{Frame, FrameKind};

use super::PprofError;
use super::message::{Function, PprofLabel, PprofLocation, PprofProfile};
use super::scan::check_counts;
use super::side_tables;
use crate::profile::{
    Label, LabelValue, Location, LocationId, Module, ModuleId, Profile, SampleKey, SampleKind,
};

/// How much a file may hold before it is refused.
///
/// The defaults leave room for an hour of a busy machine and keep a hostile file under a few gigabytes of
/// memory; a service that reads other people's files should set smaller ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Bytes after decompression.
    pub decompressed_bytes: usize,
    /// Samples.
    pub samples: usize,
    /// Locations.
    pub locations: usize,
    /// Functions.
    pub functions: usize,
    /// Mappings.
    pub mappings: usize,
    /// Strings.
    pub strings: usize,
    /// Sample types.
    pub sample_types: usize,
    /// Comments.
    pub comments: usize,
    /// Bytes of what is known beside the samples; what has more is read without.
    pub side_table_bytes: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        DecodeLimits {
            decompressed_bytes: 256 << 20,
            samples: 4_000_000,
            locations: 2_000_000,
            functions: 2_000_000,
            mappings: 200_000,
            strings: 4_000_000,
            sample_types: 32,
            comments: 10_000,
            side_table_bytes: 64 << 20,
        }
    }
}

/// Reads a pprof file, compressed or not, within the default limits.
///
/// Errors: [`PprofError`], which says what is wrong with the file.
pub fn decode(bytes: &[u8]) -> Result<Profile, PprofError> {
    decode_with_limits(bytes, &DecodeLimits::default())
}

/// Reads a pprof file, compressed or not, within the given limits.
///
/// Errors: [`PprofError`], which says what is wrong with the file.
pub fn decode_with_limits(bytes: &[u8], limits: &DecodeLimits) -> Result<Profile, PprofError> {
    let plain;
    let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
        plain = decompress(bytes, limits.decompressed_bytes)?;
        &plain
    } else if bytes.len() > limits.decompressed_bytes {
        return Err(PprofError::TooLarge { limit: limits.decompressed_bytes });
    } else {
        bytes
    };
    if bytes.is_empty() {
        return Err(PprofError::NotPprof("the file is empty".into()));
    }
    check_counts(bytes, limits)?;
    let message = PprofProfile::decode(bytes).map_err(|error| PprofError::NotPprof(error.to_string()))?;
    let mut profile = Reader::new(&message)?.read()?;
    side_tables::read(bytes, limits.side_table_bytes, &mut profile);
    Ok(profile)
}

fn decompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, PprofError> {
    let mut plain = Vec::new();
    MultiGzDecoder::new(bytes).take(limit as u64 + 1).read_to_end(&mut plain).map_err(PprofError::Gzip)?;
    if plain.len() > limit {
        return Err(PprofError::TooLarge { limit });
    }
    Ok(plain)
}

/// How one column of the file is read: the kind of time, and what one unit of it is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ReadColumn {
    position: usize,
    kind: SampleKind,
    nanoseconds_per_unit: u64,
}

struct Reader<'a> {
    message: &'a PprofProfile,
    strings: Vec<Arc<str>>,
    functions: HashMap<u64, &'a Function>,
    profile: Profile,
    modules: HashMap<u64, ModuleId>,
    locations: LocationTable,
}

/// Locations by the file's ids. Most producers number them from 1 without gaps, and then a table answers ten
/// times faster than a map; ids beyond it, which may be anything, go into one.
struct LocationTable {
    dense: Vec<Option<LocationId>>,
    sparse: HashMap<u64, LocationId>,
}

impl LocationTable {
    fn new(count: usize) -> Self {
        LocationTable { dense: vec![None; count + 1], sparse: HashMap::new() }
    }

    fn insert(&mut self, id: u64, location: LocationId) {
        match usize::try_from(id).ok().and_then(|id| self.dense.get_mut(id)) {
            Some(slot) => *slot = Some(location),
            None => {
                self.sparse.insert(id, location);
            }
        }
    }

    fn get(&self, id: u64) -> Option<LocationId> {
        match usize::try_from(id).ok().and_then(|id| self.dense.get(id)) {
            Some(slot) => *slot,
            None => self.sparse.get(&id).copied(),
        }
    }
}

impl<'a> Reader<'a> {
    fn new(message: &'a PprofProfile) -> Result<Self, PprofError> {
        let strings =
            message.string_table.iter().map(|text| Arc::from(String::from_utf8_lossy(text))).collect();
        let functions = message.function.iter().map(|function| (function.id, function)).collect();
        Ok(Reader {
            message,
            strings,
            functions,
            profile: Profile::default(),
            modules: HashMap::new(),
            locations: LocationTable::new(message.location.len()),
        })
    }

    fn read(mut self) -> Result<Profile, PprofError> {
        let columns = self.columns()?;
        self.read_header(&columns)?;
        for mapping in &self.message.mapping {
            let module = self.profile.intern_module(Module {
                start: mapping.memory_start,
                end: mapping.memory_limit,
                file_offset: mapping.file_offset,
                path: self.string(mapping.filename)?,
                build_id: self.string(mapping.build_id)?,
            });
            self.modules.insert(mapping.id, module);
        }
        for location in &self.message.location {
            let read = self.location(location)?;
            let id = self.profile.intern_location(read);
            self.locations.insert(location.id, id);
        }
        self.read_samples(&columns)?;
        Ok(self.profile)
    }

    fn read_header(&mut self, columns: &[ReadColumn]) -> Result<(), PprofError> {
        let message = self.message;
        self.profile.start_unix_nanoseconds = u64::try_from(message.time_nanos).unwrap_or(0);
        self.profile.duration_nanoseconds = u64::try_from(message.duration_nanos).unwrap_or(0);
        if let Some(period) = message.period_type
            && columns.iter().any(|column| column.kind == SampleKind::Cpu)
            && let Some(unit) = nanoseconds_per_unit(&self.string(period.unit)?)
        {
            let period = u64::try_from(message.period).unwrap_or(0);
            self.profile.period_nanoseconds = period.saturating_mul(unit);
        }
        for comment in &message.comment {
            let comment = self.string(*comment)?;
            self.profile.comments.push(comment.to_string());
        }
        Ok(())
    }

    fn read_samples(&mut self, columns: &[ReadColumn]) -> Result<(), PprofError> {
        for sample in &self.message.sample {
            if sample.value.len() != self.message.sample_type.len() {
                let expected = self.message.sample_type.len();
                return Err(PprofError::ValueCount { expected, found: sample.value.len() });
            }
            let mut stack = Vec::with_capacity(sample.location_id.len());
            for id in &sample.location_id {
                let known = self.locations.get(*id);
                stack.push(known.ok_or(PprofError::Dangling { what: "location", id: *id as i64 })?);
            }
            let labels = sample.label.iter().map(|label| self.label(label)).collect::<Result<_, _>>()?;
            let stack = self.profile.intern_stack(stack);
            let labels = self.profile.intern_labels(labels);
            for column in columns {
                let value = sample.value[column.position];
                let value = u64::try_from(value).map_err(|_| PprofError::Negative)?;
                let nanoseconds = value.saturating_mul(column.nanoseconds_per_unit);
                self.profile.add(SampleKey { stack, labels, kind: column.kind }, nanoseconds, 0);
            }
        }
        Ok(())
    }

    /// Which columns are time that the model knows.
    ///
    /// By name: `cpu` and Datadog's `cpu-time`; `off_cpu` in its spellings and Go's `delay` (blocked time);
    /// `run_queue`, `suspended`, `ready` and `unknown`. Where no column is CPU time but the period is (`samples/count`, period
    /// `cpu/nanoseconds`), counts are multiplied by the period. Each kind is taken from one column only.
    fn columns(&self) -> Result<Vec<ReadColumn>, PprofError> {
        let mut columns: Vec<ReadColumn> = Vec::new();
        let mut found = Vec::new();
        let mut counted = None;
        for (position, r#type) in self.message.sample_type.iter().enumerate() {
            let name = self.string(r#type.r#type)?;
            let unit = self.string(r#type.unit)?;
            found.push(format!("{name}/{unit}"));
            if &*unit == "count" && matches!(&*name, "samples" | "cpu" | "cpu-samples") && counted.is_none() {
                counted = Some(position);
            }
            let (Some(kind), Some(nanoseconds_per_unit)) = (kind_of(&name), nanoseconds_per_unit(&unit))
            else {
                continue;
            };
            if columns.iter().all(|column| column.kind != kind) {
                columns.push(ReadColumn { position, kind, nanoseconds_per_unit });
            }
        }
        if columns.iter().all(|column| column.kind != SampleKind::Cpu)
            && let (Some(position), Some(period)) = (counted, self.message.period_type)
            && let Some(unit) = nanoseconds_per_unit(&self.string(period.unit)?)
            && kind_of(&self.string(period.r#type)?) == Some(SampleKind::Cpu)
        {
            let period = u64::try_from(self.message.period).unwrap_or(0);
            let nanoseconds_per_unit = period.saturating_mul(unit);
            columns.push(ReadColumn { position, kind: SampleKind::Cpu, nanoseconds_per_unit });
        }
        if columns.is_empty() {
            return Err(PprofError::NoKnownTypes { found: found.join(", ") });
        }
        Ok(columns)
    }

    fn string(&self, index: i64) -> Result<Arc<str>, PprofError> {
        let text = usize::try_from(index).ok().and_then(|index| self.strings.get(index));
        match text {
            Some(text) => Ok(text.clone()),
            // A file without a string table still means "no text" by 0.
            None if index == 0 => Ok(Arc::from("")),
            None => Err(PprofError::Dangling { what: "string", id: index }),
        }
    }

    fn label(&self, label: &PprofLabel) -> Result<Label, PprofError> {
        let value = match label.str {
            0 => LabelValue::Number(label.num),
            text => LabelValue::Text(self.string(text)?),
        };
        Ok(Label { key: self.string(label.key)?, value })
    }

    fn location(&self, location: &PprofLocation) -> Result<Location, PprofError> {
        let module = match location.mapping_id {
            0 => None,
            id => {
                let known = self.modules.get(&id);
                Some(*known.ok_or(PprofError::Dangling { what: "mapping", id: id as i64 })?)
            }
        };
        let module_path = module.map(|id| self.profile.modules()[id.index()].path.clone());
        let mut frames = Vec::with_capacity(location.line.len().max(1));
        for line in &location.line {
            let function = self.functions.get(&line.function_id);
            let function =
                function.ok_or(PprofError::Dangling { what: "function", id: line.function_id as i64 })?;
            let system_name = self.string(function.system_name)?;
            let name = Some(self.string(function.name)?).filter(|name| !name.is_empty());
            let name = name.or_else(|| Some(system_name.clone()).filter(|name| !name.is_empty()));
            let name = name.unwrap_or_else(|| self.unnamed(module, location.address));
            let file = Some(self.string(function.filename)?).filter(|file| !file.is_empty());
            let origin = Origin { module: module_path.as_deref(), address: location.address };
            let kind = frame_kind(&name, &system_name, file.as_deref(), origin);
            let system_name = if system_name.is_empty() { name.clone() } else { system_name };
            let line = u32::try_from(line.line).unwrap_or(0);
            frames.push(Frame { function: name, system_name, file, line, kind });
        }
        if frames.is_empty() {
            let name = self.unnamed(module, location.address);
            let origin = Origin { module: module_path.as_deref(), address: location.address };
            let kind = frame_kind(&name, "", None, origin);
            frames.push(Frame { function: name.clone(), system_name: name, file: None, line: 0, kind });
        }
        Ok(Location { module, address: location.address, frames })
    }

    /// The name of a frame that the file does not name: where it is.
    fn unnamed(&self, module: Option<ModuleId>, address: u64) -> Arc<str> {
        let Some(module) = module.map(|id| &self.profile.modules()[id.index()]) else {
            return format!("{address:#x}").into();
        };
        let name = module.path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("[unknown]");
        let offset = address.wrapping_sub(module.start).wrapping_add(module.file_offset);
        format!("{name}+{offset:#x}").into()
    }
}

fn kind_of(name: &str) -> Option<SampleKind> {
    match name {
        "cpu" | "cpu-time" | "cpu_time" => Some(SampleKind::Cpu),
        "off_cpu" | "offcpu" | "off-cpu" | "delay" => Some(SampleKind::OffCpu),
        "run_queue" | "runqueue" | "run-queue" => Some(SampleKind::RunQueue),
        "suspended" => Some(SampleKind::Suspended),
        "ready" => Some(SampleKind::Ready),
        "unknown" => Some(SampleKind::Unknown),
        _ => None,
    }
}

fn nanoseconds_per_unit(unit: &str) -> Option<u64> {
    match unit {
        "nanoseconds" | "ns" => Some(1),
        "microseconds" | "us" => Some(1_000),
        "milliseconds" | "ms" => Some(1_000_000),
        "seconds" | "s" => Some(1_000_000_000),
        _ => None,
    }
}

/// Where a location is.
#[derive(Debug, Clone, Copy)]
struct Origin<'a> {
    module: Option<&'a str>,
    address: u64,
}

/// The kernel's half of the address space, on x86-64 and aarch64 alike.
const KERNEL_ADDRESSES: u64 = 1 << 63;

/// What sort of code a frame is. pprof doesn't say, but names, files, mappings and addresses do.
fn frame_kind(name: &str, system_name: &str, file: Option<&str>, origin: Origin<'_>) -> FrameKind {
    match origin.module {
        Some(path) if path.starts_with("[kernel") => FrameKind::Kernel,
        Some(path) if path.contains("/perf-") && path.ends_with(".map") => FrameKind::Jvm,
        None if origin.address >= KERNEL_ADDRESSES => FrameKind::Kernel,
        None if name.starts_with('[') && name.ends_with(']') => FrameKind::Synthetic,
        _ if system_name.starts_with("_R") || is_legacy_rust(system_name) => FrameKind::Rust,
        _ if file.is_some_and(|file| file.ends_with(".rs")) => FrameKind::Rust,
        _ => FrameKind::Native,
    }
}

/// Rust's legacy mangling is C++'s with a hash of 16 hex characters as the last part.
fn is_legacy_rust(system_name: &str) -> bool {
    let Some(hash) = system_name.strip_prefix("_ZN").and_then(|rest| rest.rsplit("17h").next()) else {
        return false;
    };
    let Some(hex) = hash.strip_suffix('E') else { return false };
    hex.len() == 16 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}
