//! The ELF header, the program headers and the section headers.

use super::{Architecture, MAX_PROGRAM_HEADERS, ObjectError, Section, Segment};

const HEADER_SIZE: u64 = 64;
const PROGRAM_HEADER_SIZE: usize = 56;
const SECTION_HEADER_SIZE: usize = 64;

/// Files built with one section per function are never run as they are; a loaded object has dozens.
const MAX_SECTION_HEADERS: u64 = 1 << 16;
const MAX_SECTION_NAMES: u64 = 4 << 20;
/// A section's name beyond this is cut: the ones looked for are short.
const MAX_NAME: usize = 64;

/// Sections that no program loads and that say where its debug information is.
const DEBUG_SECTIONS: [&[u8]; 3] = [b".debug_info", b".zdebug_info", b".gnu_debuglink"];

const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const MACHINE_X86_64: u16 = 62;
const MACHINE_AARCH64: u16 = 183;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const PF_EXECUTE: u32 = 1;
const SHT_NOBITS: u32 = 8;
const SHF_ALLOC: u64 = 2;

#[derive(Debug, Clone, Copy)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    file_offset: u64,
    vaddr: u64,
    file_size: u64,
    mem_size: u64,
}

/// What the headers of a file say.
#[derive(Debug)]
pub(super) struct Headers {
    pub(super) architecture: Architecture,
    programs: Vec<ProgramHeader>,
    /// Loaded sections, and those that tell where debug information is. Empty where the section headers are
    /// missing or broken: a program runs without.
    pub(super) sections: Vec<Section>,
}

impl Headers {
    pub(super) fn read(
        read: &impl Fn(u64, u64) -> Result<Vec<u8>, ObjectError>,
    ) -> Result<Headers, ObjectError> {
        let magic = read(0, 4).map_err(|error| match error {
            ObjectError::Malformed(_) => ObjectError::NotElf,
            other => other,
        })?;
        if magic != b"\x7fELF" {
            return Err(ObjectError::NotElf);
        }
        let header = read(0, HEADER_SIZE)?;
        if header[4] != CLASS_64 || header[5] != LITTLE_ENDIAN {
            return Err(ObjectError::UnsupportedFormat);
        }
        let programs = read_programs(&header, read)?;
        let sections = read_sections(&header, read).unwrap_or_default();
        let architecture = match u16_at(&header, 18) {
            MACHINE_X86_64 => Architecture::X86_64,
            MACHINE_AARCH64 => Architecture::Aarch64,
            other => Architecture::Other(other),
        };
        Ok(Headers { architecture, programs, sections })
    }

    pub(super) fn executable_segments(&self) -> Vec<Segment> {
        let mut segments: Vec<Segment> = self
            .programs
            .iter()
            .filter(|header| header.kind == PT_LOAD && header.flags & PF_EXECUTE != 0)
            .map(|header| Segment {
                vaddr: header.vaddr,
                file_offset: header.file_offset,
                file_size: header.file_size,
                mem_size: header.mem_size,
            })
            .collect();
        segments.sort_by_key(|segment| segment.vaddr);
        segments
    }

    /// File offset and size of each note segment.
    pub(super) fn notes(&self) -> impl Iterator<Item = (u64, u64)> {
        self.programs
            .iter()
            .filter(|header| header.kind == PT_NOTE)
            .map(|header| (header.file_offset, header.file_size))
    }

    /// Address, file offset and size.
    pub(super) fn eh_frame_header(&self) -> Option<(u64, u64, u64)> {
        self.programs
            .iter()
            .find(|header| header.kind == PT_GNU_EH_FRAME)
            .map(|header| (header.vaddr, header.file_offset, header.file_size))
    }
}

fn read_programs(
    header: &[u8],
    read: &impl Fn(u64, u64) -> Result<Vec<u8>, ObjectError>,
) -> Result<Vec<ProgramHeader>, ObjectError> {
    let count = u16_at(header, 56);
    if count == 0 {
        return Ok(Vec::new());
    }
    if usize::from(u16_at(header, 54)) != PROGRAM_HEADER_SIZE {
        return Err(ObjectError::Malformed("program headers of an unknown size"));
    }
    if count > MAX_PROGRAM_HEADERS {
        return Err(ObjectError::Malformed("too many program headers"));
    }
    let bytes = read(u64_at(header, 32), u64::from(count) * PROGRAM_HEADER_SIZE as u64)?;
    Ok(bytes
        .chunks_exact(PROGRAM_HEADER_SIZE)
        .map(|bytes| ProgramHeader {
            kind: u32_at(bytes, 0),
            flags: u32_at(bytes, 4),
            file_offset: u64_at(bytes, 8),
            vaddr: u64_at(bytes, 16),
            file_size: u64_at(bytes, 32),
            mem_size: u64_at(bytes, 40),
        })
        .collect())
}

fn read_sections(
    header: &[u8],
    read: &impl Fn(u64, u64) -> Result<Vec<u8>, ObjectError>,
) -> Result<Vec<Section>, ObjectError> {
    let offset = u64_at(header, 40);
    if offset == 0 {
        return Ok(Vec::new());
    }
    if usize::from(u16_at(header, 58)) != SECTION_HEADER_SIZE {
        return Err(ObjectError::Malformed("section headers of an unknown size"));
    }
    // Counts that don't fit in the ELF header stand in the first section header.
    let first = read(offset, SECTION_HEADER_SIZE as u64)?;
    let count = match u64::from(u16_at(header, 60)) {
        0 => u64_at(&first, 32),
        count => count,
    };
    let names_index = match u16_at(header, 62) {
        0xffff => u64::from(u32_at(&first, 40)),
        index => u64::from(index),
    };
    if count > MAX_SECTION_HEADERS || names_index >= count {
        return Err(ObjectError::Malformed("section headers out of bounds"));
    }
    let bytes = read(offset, count * SECTION_HEADER_SIZE as u64)?;
    let headers: Vec<&[u8]> = bytes.chunks_exact(SECTION_HEADER_SIZE).collect();
    let names_header = headers[names_index as usize];
    let names_size = u64_at(names_header, 32);
    if names_size > MAX_SECTION_NAMES {
        return Err(ObjectError::Malformed("section names too long"));
    }
    let names = read(u64_at(names_header, 24), names_size)?;
    Ok(headers
        .iter()
        .map(|header| (header, name_at(&names, u32_at(header, 0) as usize)))
        .filter(|(header, name)| u64_at(header, 8) & SHF_ALLOC != 0 || DEBUG_SECTIONS.contains(name))
        .map(|(header, name)| Section {
            name: name.into(),
            vaddr: u64_at(header, 16),
            file_offset: u64_at(header, 24),
            size: u64_at(header, 32),
            has_bytes: u32_at(header, 4) != SHT_NOBITS,
        })
        .collect())
}

fn name_at(names: &[u8], offset: usize) -> &[u8] {
    let rest = names.get(offset..).unwrap_or_default();
    let end = rest.iter().take(MAX_NAME).position(|byte| *byte == 0);
    &rest[..end.unwrap_or(rest.len().min(MAX_NAME))]
}

/// Panics when `bytes` is shorter than the record: callers pass whole records.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

/// As [`u16_at`].
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from(u16_at(bytes, offset)) | u32::from(u16_at(bytes, offset + 2)) << 16
}

/// As [`u16_at`].
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from(u32_at(bytes, offset)) | u64::from(u32_at(bytes, offset + 4)) << 32
}
