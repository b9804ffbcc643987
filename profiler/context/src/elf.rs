//! The dynamic symbols, relocations and TLS segment of a loaded ELF module, read from the process's memory.
//!
//! From memory and not from the file: what the loader used is mapped, whereas the file may be deleted, replaced, in
//! another mount namespace or never have had a name. Looking up one symbol takes a handful of reads by the module's own
//! hash table, without going through its symbols.
//!
//! Every address and count comes from the other process: a wrong one makes a read fail or a bounded loop end, nothing
//! more.

use std::ops::Range;

use crate::memory::Memory;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_TLS: u32 = 7;

const DT_PLTRELSZ: u64 = 2;
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const DT_JMPREL: u64 = 23;
const DT_GNU_HASH: u64 = 0x6fff_fef5;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_PIE: u64 = 0x0800_0000;

const STT_TLS: u8 = 6;
const SYMBOL_SIZE: u64 = 24;
const RELOCATION_SIZE: usize = 24;

/// Program headers that are looked at.
const MAXIMUM_PROGRAM_HEADERS: usize = 64;
/// Entries of the dynamic section that are looked at.
const MAXIMUM_DYNAMIC_ENTRIES: usize = 256;
/// Symbols of one hash bucket that are looked at.
const MAXIMUM_CHAIN: usize = 4096;
/// Bytes of one relocation table that are looked at: a million and a half relocations, more than browsers have.
const MAXIMUM_RELOCATION_BYTES: u64 = 36 << 20;

/// A loaded module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// What is added to the file's addresses.
    pub(crate) bias: u64,
    /// The addresses that it takes up.
    pub(crate) extent: Range<u64>,
    /// Whether it is a program rather than a library, as far as the module itself tells.
    pub(crate) is_program: bool,
    /// The TLS segment.
    pub(crate) tls: Option<TlsSegment>,
    symbols: u64,
    names: u64,
    gnu_hash: Option<u64>,
    hash: Option<u64>,
    relocations: [(u64, u64); 2],
}

/// A module's `PT_TLS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TlsSegment {
    /// `p_vaddr`.
    pub(crate) address: u64,
    /// `p_memsz`.
    pub(crate) size: u64,
    /// `p_align`, at least 1.
    pub(crate) alignment: u64,
}

/// A thread-local symbol that a module defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TlsSymbol {
    index: u32,
    /// Its offset in the module's TLS block.
    pub(crate) value: u64,
}

/// A relocation that names a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Relocation {
    /// The processor's relocation type.
    pub(crate) kind: u32,
    /// The address in the process of the word that it fills.
    pub(crate) address: u64,
    /// The addend.
    pub(crate) addend: i64,
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn read_u32(memory: &impl Memory, address: u64) -> Option<u32> {
    let mut bytes = [0; 4];
    memory.read(address, &mut bytes).ok()?;
    Some(u32::from_ne_bytes(bytes))
}

impl Module {
    /// Reads the module whose ELF header lies at `start`.
    ///
    /// `None` if there is no 64-bit ELF module of our byte order with dynamic symbols.
    pub(crate) fn read(memory: &impl Memory, start: u64) -> Option<Self> {
        let mut header = [0; 64];
        memory.read(start, &mut header).ok()?;
        let class_and_order = [2, if cfg!(target_endian = "little") { 1 } else { 2 }];
        if header[..4] != *b"\x7fELF" || header[4..6] != class_and_order {
            return None;
        }
        let is_executable_type = u16_at(&header, 16)? == 2;
        let table = u64_at(&header, 32)?;
        let (entry_size, count) = (usize::from(u16_at(&header, 54)?), usize::from(u16_at(&header, 56)?));
        if entry_size != 56 || count > MAXIMUM_PROGRAM_HEADERS {
            return None;
        }
        let mut headers = vec![0; entry_size * count];
        memory.read(start.checked_add(table)?, &mut headers).ok()?;

        let (mut first_load, mut dynamic, mut tls, mut has_interpreter) = (None, None, None, false);
        let mut highest = 0;
        for entry in headers.chunks_exact(entry_size) {
            let (address, memory_size) = (u64_at(entry, 16)?, u64_at(entry, 40)?);
            match u32_at(entry, 0)? {
                PT_LOAD => {
                    // The first one holds the header, at file offset 0 rounded down to a page.
                    first_load.get_or_insert(address.wrapping_sub(u64_at(entry, 8)?));
                    highest = highest.max(address.checked_add(memory_size)?);
                }
                PT_DYNAMIC => dynamic = Some((address, memory_size)),
                PT_INTERP => has_interpreter = true,
                PT_TLS => {
                    let alignment = u64_at(entry, 48)?.max(1);
                    tls = Some(TlsSegment { address, size: memory_size, alignment });
                }
                _ => {}
            }
        }
        let bias = start.wrapping_sub(first_load?);
        let extent = start..bias.wrapping_add(highest);
        let (address, size) = dynamic?;
        let size = usize::try_from(size).ok()?.min(MAXIMUM_DYNAMIC_ENTRIES * 16);
        let mut entries = vec![0; size];
        memory.read(bias.wrapping_add(address), &mut entries).ok()?;

        let mut module = Self {
            bias,
            extent: extent.clone(),
            is_program: is_executable_type,
            tls,
            symbols: 0,
            names: 0,
            gnu_hash: None,
            hash: None,
            relocations: [(0, 0); 2],
        };
        // glibc replaces these addresses by those in the process, musl does not.
        let in_process = |value: u64| if extent.contains(&value) { value } else { bias.wrapping_add(value) };
        for entry in entries.chunks_exact(16) {
            let (tag, value) = (u64_at(entry, 0)?, u64_at(entry, 8)?);
            match tag {
                0 => break,
                DT_SYMTAB => module.symbols = in_process(value),
                DT_STRTAB => module.names = in_process(value),
                DT_GNU_HASH => module.gnu_hash = Some(in_process(value)),
                DT_HASH => module.hash = Some(in_process(value)),
                DT_RELA => module.relocations[0].0 = in_process(value),
                DT_RELASZ => module.relocations[0].1 = value,
                DT_JMPREL => module.relocations[1].0 = in_process(value),
                DT_PLTRELSZ => module.relocations[1].1 = value,
                DT_FLAGS_1 => module.is_program |= has_interpreter && value & DF_1_PIE != 0,
                _ => {}
            }
        }
        (module.symbols != 0 && module.names != 0).then_some(module)
    }

    /// The thread-local symbol of this name, if the module defines it for others to see.
    pub(crate) fn tls_symbol(&self, memory: &impl Memory, name: &str) -> Option<TlsSymbol> {
        match (self.gnu_hash, self.hash) {
            (Some(table), _) => self.by_gnu_hash(memory, table, name),
            (None, Some(table)) => self.by_hash(memory, table, name),
            (None, None) => None,
        }
    }

    fn by_gnu_hash(&self, memory: &impl Memory, table: u64, name: &str) -> Option<TlsSymbol> {
        let hash =
            name.bytes().fold(5381u32, |hash, byte| hash.wrapping_mul(33).wrapping_add(u32::from(byte)));
        let mut header = [0; 16];
        memory.read(table, &mut header).ok()?;
        let (buckets, first_symbol) = (u32_at(&header, 0)?, u32_at(&header, 4)?);
        let (bloom_words, bloom_shift) = (u32_at(&header, 8)?, u32_at(&header, 12)?);
        if buckets == 0 || bloom_words == 0 {
            return None;
        }
        let bloom = table.checked_add(16)?;
        let word = memory.read_u64(bloom.checked_add(u64::from(hash / 64 % bloom_words) * 8)?).ok()?;
        if word >> (hash % 64) & word >> (hash.checked_shr(bloom_shift)? % 64) & 1 == 0 {
            return None;
        }
        let bucket_table = bloom.checked_add(u64::from(bloom_words) * 8)?;
        let chain_table = bucket_table.checked_add(u64::from(buckets) * 4)?;
        let first = read_u32(memory, bucket_table.checked_add(u64::from(hash % buckets) * 4)?)?;
        for index in (first..u32::MAX).take(MAXIMUM_CHAIN) {
            let position = u64::from(index.checked_sub(first_symbol)?);
            let entry = read_u32(memory, chain_table.checked_add(position * 4)?)?;
            if entry | 1 == hash | 1
                && let Some(symbol) = self.symbol_if_named(memory, index, name)
            {
                return Some(symbol);
            }
            if entry & 1 != 0 {
                return None;
            }
        }
        None
    }

    fn by_hash(&self, memory: &impl Memory, table: u64, name: &str) -> Option<TlsSymbol> {
        let hash = name.bytes().fold(0u32, |hash, byte| {
            let sum = (hash << 4).wrapping_add(u32::from(byte));
            let high = sum & 0xf000_0000;
            (sum ^ high >> 24) & !high
        });
        let (buckets, symbols) = (read_u32(memory, table)?, read_u32(memory, table.checked_add(4)?)?);
        if buckets == 0 {
            return None;
        }
        let bucket_table = table.checked_add(8)?;
        let chain_table = bucket_table.checked_add(u64::from(buckets) * 4)?;
        let mut index = read_u32(memory, bucket_table.checked_add(u64::from(hash % buckets) * 4)?)?;
        for _ in 0..MAXIMUM_CHAIN {
            if index == 0 || index >= symbols {
                return None;
            }
            if let Some(symbol) = self.symbol_if_named(memory, index, name) {
                return Some(symbol);
            }
            index = read_u32(memory, chain_table.checked_add(u64::from(index) * 4)?)?;
        }
        None
    }

    fn symbol_if_named(&self, memory: &impl Memory, index: u32, name: &str) -> Option<TlsSymbol> {
        let mut symbol = [0; SYMBOL_SIZE as usize];
        memory.read(self.symbols.checked_add(u64::from(index) * SYMBOL_SIZE)?, &mut symbol).ok()?;
        let is_defined = u16_at(&symbol, 6)? != 0;
        if symbol[4] & 0xf != STT_TLS || !is_defined {
            return None;
        }
        let mut text = vec![0; name.len() + 1];
        memory.read(self.names.checked_add(u64::from(u32_at(&symbol, 0)?))?, &mut text).ok()?;
        let matches = text.strip_suffix(&[0]) == Some(name.as_bytes());
        matches.then_some(TlsSymbol { index, value: u64_at(&symbol, 8)? })
    }

    /// The relocations that name the symbol, of the kinds asked for.
    pub(crate) fn relocation(
        &self,
        memory: &impl Memory,
        symbol: TlsSymbol,
        kinds: &[u32],
    ) -> Option<Relocation> {
        self.relocations
            .iter()
            .filter(|(table, _)| *table != 0)
            .find_map(|(table, size)| self.relocation_in(memory, *table, *size, symbol, kinds))
    }

    fn relocation_in(
        &self,
        memory: &impl Memory,
        table: u64,
        size: u64,
        symbol: TlsSymbol,
        kinds: &[u32],
    ) -> Option<Relocation> {
        let mut buffer = vec![0; 1024 * RELOCATION_SIZE];
        let size = size.min(MAXIMUM_RELOCATION_BYTES);
        let mut done = 0;
        while done < size {
            let length = (size - done).min(buffer.len() as u64);
            let chunk = &mut buffer[..length as usize];
            memory.read(table.checked_add(done)?, chunk).ok()?;
            for entry in chunk.chunks_exact(RELOCATION_SIZE) {
                let information = u64_at(entry, 8)?;
                let kind = information as u32;
                if information >> 32 == u64::from(symbol.index) && kinds.contains(&kind) {
                    let address = self.bias.wrapping_add(u64_at(entry, 0)?);
                    return Some(Relocation { kind, address, addend: u64_at(entry, 16)? as i64 });
                }
            }
            done += length;
        }
        None
    }
}
