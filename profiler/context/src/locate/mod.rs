//! Where a process keeps its threads' records, found from outside.
//!
//! In this order: what the process context says (our writer measures it, so it holds for programs that export nothing);
//! then the standard's symbol in the dynamic symbols of the program and of each library, by the access model that the
//! relocations show:
//!
//! | relocation that names the symbol | where the slot is |
//! |---|---|
//! | none, in the program | thread pointer + an offset computed from `PT_TLS` (local-exec) |
//! | `TPOFF` | thread pointer + the word that the loader wrote (initial-exec) |
//! | `TLSDESC`, static | thread pointer + the descriptor's second word |
//! | `TLSDESC`, dynamic | the descriptor's second word points to module and offset; by the thread's vector |
//! | `DTPMOD` | module in the word; by the thread's vector |
//!
//! Everything is read from the process's memory, so a deleted or replaced file and another mount namespace make no
//! difference.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use crate::elf::{Module, TlsSegment, TlsSymbol};
use crate::maps::{self, Mapping};
use crate::memory::{Memory, ProcessMemory};
use crate::process::{self, ProcessContext, ReadError, Value};
use crate::record::{self, MAXIMUM_SIZE, Record, THREAD_SYMBOL};

pub(crate) mod own;

/// The farthest that a static slot is believed to lie from the thread pointer, in bytes. Beyond it the word is no
/// offset but a pointer.
const MAXIMUM_OFFSET: u64 = 1 << 30;
/// The largest TLS module number that is believed.
const MAXIMUM_MODULE: u64 = 1 << 20;
/// Modules of a process that are searched.
const MAXIMUM_MODULES: usize = 4096;

#[cfg(target_arch = "x86_64")]
mod relocation {
    pub(super) const DTPMOD: u32 = 16;
    pub(super) const TPOFF: u32 = 18;
    pub(super) const TLSDESC: u32 = 36;
}
#[cfg(target_arch = "aarch64")]
mod relocation {
    pub(super) const DTPMOD: u32 = 1028;
    pub(super) const TPOFF: u32 = 1030;
    pub(super) const TLSDESC: u32 = 1031;
}

/// How to get from a thread to its slot, the word that holds the pointer to its record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// The slot lies at the same distance from the thread pointer on every thread.
    Static {
        /// Bytes to add to the thread pointer; negative on x86-64.
        offset: i64,
    },
    /// The slot lies in a block that each thread gets on first use, found by the thread's vector (DTV).
    Dynamic {
        /// The TLS module's number: the index into the vector.
        module: u64,
        /// Bytes from the module's block to the slot.
        offset: u64,
        /// How the process's C library lays out the vector.
        vector: Vector,
    },
}

/// The layout of a C library's vector of thread-local blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vector {
    /// Bytes from the thread pointer to the pointer to the vector.
    pub pointer_offset: i64,
    /// Bytes per entry. The block's address is an entry's first word; 0 and all ones mean "not yet allocated".
    pub entry_size: u64,
}

impl Vector {
    /// glibc's layout on this architecture.
    pub const GLIBC: Self =
        Self { pointer_offset: if cfg!(target_arch = "x86_64") { 8 } else { 0 }, entry_size: 16 };
    /// musl's layout on this architecture.
    pub const MUSL: Self =
        Self { pointer_offset: if cfg!(target_arch = "x86_64") { 8 } else { -8 }, entry_size: 8 };

    fn of(mappings: &[Mapping]) -> Self {
        let is_musl =
            |mapping: &Mapping| mapping.name.contains("/ld-musl-") || mapping.name.contains("/libc.musl-");
        if mappings.iter().any(is_musl) { Self::MUSL } else { Self::GLIBC }
    }
}

/// Where a process's threads keep their records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ThreadSlot {
    /// How to find a thread's slot.
    pub access: Access,
    /// Whether our writer's sequence word follows the slot, 8 bytes after it.
    pub has_sequence: bool,
}

/// Why the slot of a process could not be found.
#[derive(Debug)]
#[non_exhaustive]
pub enum LocateError {
    /// The process, or its process context, cannot be read.
    Process(ReadError),
    /// A module defines the symbol, but nothing tells where its thread-local storage is.
    Unresolved {
        /// The module's path as the list of mappings shows it.
        module: String,
    },
}

impl fmt::Display for LocateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(error) => error.fmt(formatter),
            Self::Unresolved { module } => {
                write!(
                    formatter,
                    "{module} defines {THREAD_SYMBOL}, but no relocation tells where its threads keep it"
                )
            }
        }
    }
}

impl std::error::Error for LocateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Process(error) => Some(error),
            Self::Unresolved { .. } => None,
        }
    }
}

impl From<ReadError> for LocateError {
    fn from(error: ReadError) -> Self {
        Self::Process(error)
    }
}

/// Finds how to read the thread records of a process; `None` if it has none.
///
/// A process may begin to have some later: by publishing a process context, or by loading a library.
pub fn thread_slot(process: u32) -> Result<Option<ThreadSlot>, LocateError> {
    let context = match process::read(process) {
        Ok(found) => found.map(|found| found.context),
        // A context that we don't understand does not hide the symbol.
        Err(ReadError::Malformed(_) | ReadError::Busy) => None,
        Err(error) => return Err(error.into()),
    };
    thread_slot_with(process, context.as_ref())
}

/// Like [`thread_slot`], for a caller that has read the process context already (or found none).
pub fn thread_slot_with(
    process: u32,
    context: Option<&ProcessContext>,
) -> Result<Option<ThreadSlot>, LocateError> {
    let mappings = maps::read(process).map_err(ReadError::from)?;
    if let Some(slot) = context.and_then(|context| from_context(context, &mappings)) {
        return Ok(Some(slot));
    }
    let program_headers = program_headers_address(process).map_err(ReadError::from)?;
    from_symbols(&ProcessMemory::new(process), &mappings, program_headers)
}

fn from_context(context: &ProcessContext, mappings: &[Mapping]) -> Option<ThreadSlot> {
    if !context.has_thread_records() {
        return None;
    }
    let number = |name| context.attribute(name).and_then(Value::as_integer);
    let access = match number(process::OFFSET_ATTRIBUTE) {
        Some(offset) if offset.unsigned_abs() <= MAXIMUM_OFFSET => Access::Static { offset },
        _ => {
            let module = u64::try_from(number(process::MODULE_ATTRIBUTE)?).ok()?;
            let offset = u64::try_from(number(process::MODULE_OFFSET_ATTRIBUTE)?).ok()?;
            dynamic(module, offset, mappings)?
        }
    };
    Some(ThreadSlot { access, has_sequence: context.has_sequence() })
}

fn dynamic(module: u64, offset: u64, mappings: &[Mapping]) -> Option<Access> {
    let believable = (1..=MAXIMUM_MODULE).contains(&module) && offset <= MAXIMUM_OFFSET;
    believable.then(|| Access::Dynamic { module, offset, vector: Vector::of(mappings) })
}

/// Searches the modules of a process for the standard's symbol: the part of [`thread_slot`] that needs no process, only
/// its memory and mappings.
///
/// `program_headers` is where the kernel put the program's headers (`AT_PHDR`), 0 if that isn't known.
pub fn from_symbols(
    memory: &impl Memory,
    mappings: &[Mapping],
    program_headers: u64,
) -> Result<Option<ThreadSlot>, LocateError> {
    let mut unresolved = None;
    let mut searched_to = 0;
    for first in beginnings_of_code_files(mappings).take(MAXIMUM_MODULES) {
        // A second segment may begin within the file's first page and so map it again.
        if first.start < searched_to {
            continue;
        }
        let Some(module) = Module::read(memory, first.start) else { continue };
        searched_to = module.extent.end;
        let Some(symbol) = module.tls_symbol(memory, THREAD_SYMBOL) else { continue };
        let is_program = module.is_program || module.extent.contains(&program_headers);
        match access(memory, &module, symbol, is_program, mappings) {
            // A foreign writer keeps no sequence word, and ours would have said so.
            Some(access) => return Ok(Some(ThreadSlot { access, has_sequence: false })),
            None => unresolved = Some(first.name.clone()),
        }
    }
    match unresolved {
        Some(module) => Err(LocateError::Unresolved { module }),
        None => Ok(None),
    }
}

/// The mappings of a file's beginning, of those files of which some part may be executed.
fn beginnings_of_code_files(mappings: &[Mapping]) -> impl Iterator<Item = &Mapping> {
    let file = |mapping: &Mapping| (mapping.device, mapping.inode);
    let code: HashSet<_> = mappings.iter().filter(|mapping| mapping.executable).map(file).collect();
    mappings.iter().filter(move |mapping| {
        mapping.inode != 0 && mapping.file_offset == 0 && code.contains(&file(mapping))
    })
}

fn access(
    memory: &impl Memory,
    module: &Module,
    symbol: TlsSymbol,
    is_program: bool,
    mappings: &[Mapping],
) -> Option<Access> {
    let kinds = [relocation::TLSDESC, relocation::TPOFF, relocation::DTPMOD];
    let Some(relocation) = module.relocation(memory, symbol, &kinds) else {
        let offset = local_exec_offset(module.tls?, symbol.value)?;
        return is_program.then_some(Access::Static { offset });
    };
    let offset_in_block = symbol.value.wrapping_add_signed(relocation.addend);
    match relocation.kind {
        relocation::TPOFF => static_access(memory.read_u64(relocation.address).ok()?),
        relocation::DTPMOD => dynamic(memory.read_u64(relocation.address).ok()?, symbol.value, mappings),
        _ => {
            let argument = memory.read_u64(relocation.address.checked_add(8)?).ok()?;
            static_access(argument).or_else(|| {
                let module = memory.read_u64(argument).ok()?;
                let offset = memory.read_u64(argument.checked_add(8)?).ok()?;
                // Not yet resolved, or no descriptor at all, if it does not know the symbol's offset.
                (offset == offset_in_block).then(|| dynamic(module, offset, mappings))?
            })
        }
    }
}

fn static_access(offset: u64) -> Option<Access> {
    let offset = offset as i64;
    (offset != 0 && offset.unsigned_abs() <= MAXIMUM_OFFSET).then_some(Access::Static { offset })
}

/// The distance of a program's thread-local symbol from the thread pointer.
///
/// The loader keeps the block's address congruent to `p_vaddr` modulo the alignment; where `p_vaddr` is aligned these
/// are the well-known forms `value - round_up(size)` and `round_up(16) + value`.
fn local_exec_offset(tls: TlsSegment, value: u64) -> Option<i64> {
    if !tls.alignment.is_power_of_two() {
        return None;
    }
    let mask = tls.alignment - 1;
    let offset = if cfg!(target_arch = "x86_64") {
        let padding = 0u64.wrapping_sub(tls.address).wrapping_sub(tls.size) & mask;
        value.wrapping_sub(tls.size).wrapping_sub(padding)
    } else {
        value.wrapping_add(16).wrapping_add(tls.address.wrapping_sub(16) & mask)
    };
    let offset = offset as i64;
    (offset.unsigned_abs() <= MAXIMUM_OFFSET).then_some(offset)
}

/// Where the kernel put the program's headers (`AT_PHDR`); 0 if it doesn't say.
fn program_headers_address(process: u32) -> io::Result<u64> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/{process}/auxv"))?.take(4096).read_to_end(&mut bytes)?;
    let (words, _) = bytes.as_chunks::<8>();
    let (pairs, _) = words.as_chunks::<2>();
    let is_program_headers = |pair: &&[[u8; 8]; 2]| u64::from_ne_bytes(pair[0]) == libc::AT_PHDR;
    Ok(pairs.iter().find(is_program_headers).map_or(0, |pair| u64::from_ne_bytes(pair[1])))
}

/// A buffer that holds any record.
pub type RecordBuffer = [u8; MAXIMUM_SIZE];

/// Reads what a thread works on; `None` if it publishes nothing now.
///
/// `thread_pointer` is the thread's (x86-64: `fs` base; aarch64: `tpidr_el0`). The thread must be stopped, or the record
/// may be torn. Errors: the memory cannot be read, because the thread is gone or the slot is another's.
pub fn read_thread<'a>(
    memory: &impl Memory,
    thread_pointer: u64,
    slot: &ThreadSlot,
    buffer: &'a mut RecordBuffer,
) -> io::Result<Option<Record<'a>>> {
    let Some(address) = slot_address(memory, thread_pointer, &slot.access)? else { return Ok(None) };
    let pointer = memory.read_u64(address)?;
    if pointer == 0 {
        return Ok(None);
    }
    let (header, attributes) = buffer.split_at_mut(record::HEADER_SIZE);
    memory.read(pointer, header)?;
    // Not the whole buffer at once: a foreign record may end where the mapping does.
    let size = match Record::parse(header) {
        Some(record) => record.declared_attributes_size().min(attributes.len()),
        None => return Ok(None),
    };
    memory.read(pointer.wrapping_add(record::HEADER_SIZE as u64), &mut attributes[..size])?;
    Ok(Record::parse(&buffer[..record::HEADER_SIZE + size]))
}

/// The address of a thread's slot; `None` if the thread has no block for it yet.
pub fn slot_address(memory: &impl Memory, thread_pointer: u64, access: &Access) -> io::Result<Option<u64>> {
    match *access {
        Access::Static { offset } => Ok(Some(thread_pointer.wrapping_add_signed(offset))),
        Access::Dynamic { module, offset, vector } => {
            let entries = memory.read_u64(thread_pointer.wrapping_add_signed(vector.pointer_offset))?;
            let entry = entries.wrapping_add(module.wrapping_mul(vector.entry_size));
            match memory.read_u64(entry)? {
                0 | u64::MAX => Ok(None),
                block => Ok(Some(block.wrapping_add(offset))),
            }
        }
    }
}

#[cfg(test)]
mod tests;
