//! Unwind tables: for every address of an object's code, how to get to the caller.
//!
//! Programs without frame pointers carry this in `.eh_frame`, as a program for a small machine. A kernel
//! program can't run that, so it is run here, once per object, into fixed rules ([`Rule`]) laid out for a
//! short search ([`SegmentTable`]). One table serves every process that maps the object.
//!
//! Building is a pure function of the object's bytes. Everything is bounded and nothing panics: a hostile
//! file gives a typed error or a table with holes, and the holes are counted ([`BuildStatistics`]).
//!
//! x86-64 only; other machines give [`UnwindError::UnsupportedArchitecture`]. An object without
//! `.eh_frame` is taken to keep frame pointers, as Go's programs do. `.debug_frame` is not read: programs
//! that have it have `.eh_frame` too, unless they were built to be debugged on bare metal.
//!
//! Refused: sharing equal pages between functions (they are few once single-rule pages cost nothing), and
//! `.eh_frame_hdr`'s sorted index, which the section scan makes needless and which some linkers omit.

use std::collections::HashMap;
use std::ops::Range;

use gimli::{BaseAddresses, CieOrFde, EhFrame, EhFrameHdr, LittleEndian, UnwindSection as _};

use crate::object::{Architecture, LargeRead, MAX_READ, ObjectError, ObjectFile, Segment};

mod cfi;
#[cfg(feature = "prologue")]
mod functions;
mod pages;
mod rule;
#[cfg(feature = "prologue")]
mod stack_heights;

use cfi::{Bytes, Common};
#[cfg(feature = "prologue")]
pub use functions::FunctionIndex;
use pages::PageWriter;
pub use pages::{BLOCK_ROWS, PAGE_BYTES, SegmentTable};
pub use rule::{Rule, RuleKind};
#[cfg(feature = "prologue")]
pub use stack_heights::{NoDistance, distance_in, frame_pointer_distance};

/// Code of one object, in bytes: five times the largest browser's.
const MAX_TEXT: u64 = 1 << 30;
/// Executable segments of one object; linkers make one, post-link optimizers a few.
const MAX_SEGMENTS: usize = 64;
/// Functions of one object; the largest have some hundred thousands.
const MAX_FUNCTIONS: usize = 2 << 20;
/// Common entries of one object; linkers merge them to some dozens.
const MAX_COMMON_ENTRIES: usize = 16 << 10;
/// Gaps below this between two functions are the padding that aligns the second; no code runs there, so
/// they need no row of their own.
const PADDING: u64 = 16;

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnwindError {
    /// The object's code is for a machine without an unwinder.
    #[error("unwind tables are for x86-64 only, not {0:?}")]
    UnsupportedArchitecture(Architecture),
    /// The object could not be read.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The object has more of something than a table holds.
    #[error("the object has more than {1} {0}")]
    TooLarge(&'static str, u64),
}

/// What building a table came across.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BuildStatistics {
    /// Functions with unwind information in an executable segment.
    pub functions: usize,
    /// Functions whose unwind information could not be followed to its end.
    pub broken_functions: usize,
    /// States of the machine that have no rule; stacks end there.
    pub unsupported_states: usize,
    /// Whether the scan of the section ended early at something that is no entry.
    pub cut_short: bool,
}

/// The unwind tables of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnwindTable {
    segments: Vec<SegmentTable>,
    statistics: BuildStatistics,
    frame_pointers: bool,
}

/// A section's bytes and the address of the first.
#[derive(Debug, Clone, Copy)]
pub struct EhFrameSection<'a> {
    /// The section's address in the object's own terms.
    pub vaddr: u64,
    /// The section's bytes.
    pub bytes: &'a [u8],
}

impl UnwindTable {
    /// Builds the table of an object.
    ///
    /// Errors: another architecture; `.eh_frame` can't be read; more code than a table holds.
    pub fn build(object: &ObjectFile) -> Result<UnwindTable, UnwindError> {
        if object.architecture() != Architecture::X86_64 {
            return Err(UnwindError::UnsupportedArchitecture(object.architecture()));
        }
        let stubs: Vec<Range<u64>> = object
            .sections_named(b".plt")
            .map(|section| section.vaddr..section.vaddr.saturating_add(section.size))
            .collect();
        match find_eh_frame(object)? {
            Some((vaddr, bytes)) => {
                UnwindTable::from_eh_frame(object.segments(), EhFrameSection { vaddr, bytes: &bytes }, &stubs)
            }
            None => UnwindTable::frame_pointers(object.segments()),
        }
    }

    /// The table of code that keeps frame pointers throughout: one rule, [`Rule::FRAME_POINTER`].
    ///
    /// Errors: more code than a table holds.
    pub fn frame_pointers(segments: &[Segment]) -> Result<UnwindTable, UnwindError> {
        let segments = bounds(segments)?
            .map(|(start, end)| {
                let mut writer = PageWriter::new(start, end);
                writer.set(start & !(PAGE_BYTES - 1), Rule::FRAME_POINTER)?;
                writer.finish()
            })
            .collect::<Result<_, _>>()?;
        Ok(UnwindTable { segments, statistics: BuildStatistics::default(), frame_pointers: true })
    }

    /// Builds the table of `segments` from the bytes of `.eh_frame`; `stubs` are the linkage tables, which
    /// get a rule of their own where the section has none.
    ///
    /// Errors: more code, functions or rows than a table holds.
    pub fn from_eh_frame(
        segments: &[Segment],
        section: EhFrameSection<'_>,
        stubs: &[Range<u64>],
    ) -> Result<UnwindTable, UnwindError> {
        if section.bytes.len() as u64 > MAX_READ {
            return Err(UnwindError::TooLarge("bytes of .eh_frame", MAX_READ));
        }
        let mut reader = Reader::new(section);
        let mut spans = reader.functions(&bounds(segments)?.collect::<Vec<_>>())?;
        spans.extend(stubs.iter().filter(|range| !range.is_empty()).map(|range| Span {
            start: range.start,
            end: range.end,
            code: Code::Stub,
        }));
        if !spans.is_sorted_by_key(|span| (span.start, span.code)) {
            spans.sort_unstable_by_key(|span| (span.start, span.code));
        }
        let segments = bounds(segments)?
            .map(|(start, end)| reader.segment(start, end, &spans))
            .collect::<Result<_, _>>()?;
        Ok(UnwindTable { segments, statistics: reader.statistics, frame_pointers: false })
    }

    /// One table per executable segment, by ascending address.
    pub fn segments(&self) -> &[SegmentTable] {
        &self.segments
    }

    /// What building came across.
    pub fn statistics(&self) -> &BuildStatistics {
        &self.statistics
    }

    /// Whether the object had no unwind information and is taken to keep frame pointers.
    pub fn assumes_frame_pointers(&self) -> bool {
        self.frame_pointers
    }

    /// The rule at an address of the object.
    pub fn rule_at(&self, vaddr: u64) -> Rule {
        self.segments
            .iter()
            .find(|segment| (segment.vaddr..segment.end).contains(&vaddr))
            .map_or(Rule::NONE, |segment| segment.rule_at(vaddr))
    }

    /// What the tables take in the kernel, in bytes.
    pub fn size(&self) -> usize {
        self.segments.iter().map(SegmentTable::size).sum()
    }
}

/// First and last-but-one address of each segment, checked against the limits.
fn bounds(segments: &[Segment]) -> Result<impl Iterator<Item = (u64, u64)>, UnwindError> {
    if segments.len() > MAX_SEGMENTS {
        return Err(UnwindError::TooLarge("executable segments", MAX_SEGMENTS as u64));
    }
    let mut text = 0u64;
    for segment in segments {
        text = text.saturating_add(segment.file_size);
        if text > MAX_TEXT || segment.vaddr.checked_add(segment.file_size).is_none() {
            return Err(UnwindError::TooLarge("bytes of code", MAX_TEXT));
        }
    }
    // Code comes from the file: memory past its bytes is zero.
    Ok(segments
        .iter()
        .filter(|segment| segment.file_size > 0)
        .map(|segment| (segment.vaddr, segment.vaddr + segment.file_size)))
}

/// `.eh_frame`'s address and bytes; by its section, else through `PT_GNU_EH_FRAME`, which survives the
/// removal of all section headers.
fn find_eh_frame(object: &ObjectFile) -> Result<Option<(u64, LargeRead)>, UnwindError> {
    let section = object
        .sections_named(b".eh_frame")
        .find(|section| &*section.name == b".eh_frame" && section.has_bytes && section.size > 0);
    if let Some(section) = section {
        let bytes = object.read_large(section.file_offset, section.size)?;
        return Ok(Some((section.vaddr, bytes)));
    }
    let Some((vaddr, file_offset, size)) = object.eh_frame_header() else { return Ok(None) };
    // Version, three encodings and the pointer: more is the search table, which is not needed.
    let header = object.read(file_offset, size.min(32))?;
    let bases = BaseAddresses::default().set_eh_frame_hdr(vaddr);
    let Ok(header) = EhFrameHdr::new(&header, LittleEndian).parse(&bases, 8) else {
        return Ok(None);
    };
    // The section lies in the same segment as its header; its end is marked in its own bytes.
    let pointer = header.eh_frame_ptr();
    let Ok(address) = pointer.direct() else { return Ok(None) };
    let offset = file_offset.wrapping_add(address.wrapping_sub(vaddr));
    let size = object.bytes_after(offset).min(MAX_READ);
    if size == 0 {
        return Ok(None);
    }
    Ok(Some((address, object.read_large(offset, size)?)))
}

/// What a span of addresses holds. Stubs sort before functions, so that a function at the same start wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Code {
    Stub,
    /// By the offset of its entry in the section.
    Function(u32),
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: u64,
    end: u64,
    code: Code,
}

struct Reader<'a> {
    section: EhFrame<Bytes<'a>>,
    bases: BaseAddresses,
    /// By offset; `None` for entries that can't be used.
    common: HashMap<usize, Option<Common<'a>>>,
    statistics: BuildStatistics,
}

impl<'a> Reader<'a> {
    fn new(section: EhFrameSection<'a>) -> Reader<'a> {
        Reader {
            section: EhFrame::new(section.bytes, LittleEndian),
            bases: BaseAddresses::default().set_eh_frame(section.vaddr),
            common: HashMap::new(),
            statistics: BuildStatistics::default(),
        }
    }

    /// Every function of `segments` that the section describes, in the section's order.
    fn functions(&mut self, segments: &[(u64, u64)]) -> Result<Vec<Span>, UnwindError> {
        let bases = self.bases.clone();
        let section = self.section;
        let mut spans = Vec::new();
        let mut entries = section.entries(&bases);
        loop {
            let entry = match entries.next() {
                Ok(Some(CieOrFde::Fde(entry))) => entry,
                Ok(Some(CieOrFde::Cie(_))) => continue,
                Ok(None) => break,
                Err(_) => {
                    self.statistics.cut_short = true;
                    break;
                }
            };
            let Some(cie) = self.common(entry.cie_offset().0)?.map(|common| common.cie.clone()) else {
                self.statistics.broken_functions += 1;
                continue;
            };
            let Ok(entry) = entry.parse(|_, _, _| Ok(cie.clone())) else {
                self.statistics.broken_functions += 1;
                continue;
            };
            let (start, end) = (entry.initial_address(), entry.end_address());
            // Functions that the linker dropped are left at address zero.
            if start < end && segments.iter().any(|(from, to)| start < *to && end > *from) {
                if spans.len() == MAX_FUNCTIONS {
                    return Err(UnwindError::TooLarge("functions", MAX_FUNCTIONS as u64));
                }
                spans.push(Span { start, end, code: Code::Function(entry.offset() as u32) });
            }
        }
        self.statistics.functions = spans.len();
        Ok(spans)
    }

    /// The common entry at `offset`, read at most once.
    fn common(&mut self, offset: usize) -> Result<Option<&Common<'a>>, UnwindError> {
        if !self.common.contains_key(&offset) {
            if self.common.len() == MAX_COMMON_ENTRIES {
                return Err(UnwindError::TooLarge("common entries", MAX_COMMON_ENTRIES as u64));
            }
            let common = self
                .section
                .cie_from_offset(&self.bases, offset.into())
                .ok()
                .and_then(|cie| Common::new(cie, &self.section, &self.bases).ok());
            self.common.insert(offset, common);
        }
        Ok(self.common[&offset].as_ref())
    }

    /// Writes the table of one segment from all spans by ascending address.
    fn segment(&mut self, start: u64, end: u64, spans: &[Span]) -> Result<SegmentTable, UnwindError> {
        let mut writer = PageWriter::new(start, end);
        for (index, span) in spans.iter().enumerate() {
            if span.end <= start || span.start >= end {
                continue;
            }
            // Where two overlap, the later start wins.
            let next = spans.get(index + 1).map_or(u64::MAX, |next| next.start);
            let span_end = span.end.min(next);
            if span.start >= span_end {
                continue;
            }
            match span.code {
                Code::Stub => writer.set(span.start.max(start), Rule::CALL)?,
                Code::Function(offset) => {
                    self.function(&mut writer, offset, (span.start.max(start), span_end))?;
                }
            }
            if next - span_end >= PADDING {
                writer.set(span_end, Rule::NONE)?;
            }
        }
        writer.finish()
    }

    fn function(
        &mut self,
        writer: &mut PageWriter,
        offset: u32,
        (start, end): (u64, u64),
    ) -> Result<(), UnwindError> {
        let common = &self.common;
        let mut offset_of_common = 0;
        let entry = self.section.fde_from_offset(&self.bases, (offset as usize).into(), |_, _, offset| {
            offset_of_common = offset.0;
            match common.get(&offset.0) {
                Some(Some(common)) => Ok(common.cie.clone()),
                _ => Err(gimli::Error::NotCieId(0)),
            }
        });
        let (Ok(entry), Some(Some(common))) = (entry, common.get(&offset_of_common)) else {
            self.statistics.broken_functions += 1;
            return writer.set(start, Rule::NONE);
        };
        if entry.is_signal_trampoline() {
            return writer.set(start, Rule::SIGNAL);
        }
        let statistics = &mut self.statistics;
        let mut written = Ok(());
        let mut last = start;
        let instructions = entry.instructions(&self.section, &self.bases);
        let range = (entry.initial_address(), end);
        let followed = common.run(&self.section, instructions, range, &mut |address, state| {
            let encoded = state.encode();
            statistics.unsupported_states += usize::from(encoded.unsupported);
            if written.is_ok() {
                last = address.max(start);
                written = writer.set(last, encoded.rule);
            }
        });
        if followed.is_err() {
            self.statistics.broken_functions += 1;
            written = written.and_then(|()| writer.set(last, Rule::NONE));
        }
        written
    }
}
