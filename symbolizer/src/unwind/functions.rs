//! Where the function lies that holds an address, by the sorted index of `.eh_frame_hdr`.
//!
//! Nothing is kept of the index: it is searched in the file, some twenty reads of a few bytes, as it is asked for a
//! handful of addresses of a program that may have a million functions. Only the encodings that every linker writes are
//! read; with others, and without an index, no function is found.
//!
//! Follows the Linux Standard Base's `.eh_frame_hdr`.

use std::ops::Range;

use crate::object::ObjectFile;

/// Version 1; a signed offset to `.eh_frame`; an unsigned count; pairs of signed offsets from the header.
const HEADER: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
const HEADER_BYTES: u64 = 12;
const ENTRY_BYTES: u64 = 8;

/// The functions of an object that have unwind information.
#[derive(Debug)]
pub struct FunctionIndex<'a> {
    object: &'a ObjectFile,
    vaddr: u64,
    file_offset: u64,
    count: u64,
}

impl<'a> FunctionIndex<'a> {
    /// The index of an object; `None` where it has none that can be read.
    pub fn of(object: &'a ObjectFile) -> Option<FunctionIndex<'a>> {
        let (vaddr, file_offset, size) = object.eh_frame_header()?;
        let header = object.read(file_offset, HEADER_BYTES).ok()?;
        if header[..4] != HEADER {
            return None;
        }
        let count = u64::from(u32::from_le_bytes(*header[8..].first_chunk()?));
        let has_room = count <= size.checked_sub(HEADER_BYTES)? / ENTRY_BYTES;
        has_room.then_some(FunctionIndex { object, vaddr, file_offset, count })
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The addresses of the function at a place of the index, by ascending address; `None` where the index contradicts
    /// what it points to.
    pub fn get(&self, number: u64) -> Option<Range<u64>> {
        let [start, entry] = self.entry(number)?;
        let place = entry.wrapping_sub(self.vaddr).wrapping_add(self.file_offset);
        // Length, offset of the common entry, start and size. The start is told relative to its own place: if it leads
        // to where the index said, this is how the numbers are encoded.
        let bytes = self.object.read(place, 16).ok()?;
        let own_start = entry.wrapping_add(8).wrapping_add_signed(i64::from(signed(&bytes, 8)?));
        let size = u64::from(signed(&bytes, 12)? as u32);
        (own_start == start && size > 0).then_some(start..start.checked_add(size)?)
    }

    /// The addresses of the function that holds `address`.
    pub fn find(&self, address: u64) -> Option<Range<u64>> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle)?[0] <= address {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.get(low.checked_sub(1)?).filter(|function| function.contains(&address))
    }

    /// The bytes at a function's addresses, if they are at most `limit` and all in the file.
    pub fn code(&self, function: &Range<u64>, limit: u64) -> Option<Vec<u8>> {
        let size = function.end - function.start;
        let segment = self.object.segments().iter().find(|segment| {
            function.start.checked_sub(segment.vaddr).is_some_and(|offset| offset < segment.file_size)
        })?;
        let offset = function.start - segment.vaddr;
        let is_inside = size <= limit.min(segment.file_size - offset);
        is_inside.then(|| self.object.read(segment.file_offset.checked_add(offset)?, size).ok()).flatten()
    }

    /// A function's first address, and its entry's.
    fn entry(&self, number: u64) -> Option<[u64; 2]> {
        if number >= self.count {
            return None;
        }
        let bytes =
            self.object.read(self.file_offset + HEADER_BYTES + number * ENTRY_BYTES, ENTRY_BYTES).ok()?;
        let address = |offset| Some(self.vaddr.wrapping_add_signed(i64::from(signed(&bytes, offset)?)));
        Some([address(0)?, address(4)?])
    }
}

fn signed(bytes: &[u8], offset: usize) -> Option<i32> {
    Some(i32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}
