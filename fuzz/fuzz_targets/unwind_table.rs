//! Unwind tables from hostile bytes: as a whole object, and as a bare `.eh_frame`.
//!
//! The first byte chooses. Beyond not crashing, every table must obey its own format.

#![no_main]

use libfuzzer_sys::fuzz_target;
use spanprof_symbolizer::object::Segment;
use spanprof_symbolizer::unwind::{BLOCK_ROWS, EhFrameSection, PAGE_BYTES};
use spanprof_symbolizer::{ObjectFile, UnwindTable};

const TEXT: [Segment; 2] = [
    Segment { vaddr: 0x1000, file_offset: 0x1000, file_size: 0x4321, mem_size: 0x4321 },
    Segment { vaddr: 0x8010, file_offset: 0x8010, file_size: 0x100, mem_size: 0x100 },
];

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let table = if choice & 1 == 0 {
        UnwindTable::from_eh_frame(
            &TEXT,
            EhFrameSection { vaddr: 0x9000, bytes },
            std::slice::from_ref(&(0x1800..0x1900)),
        )
        .ok()
    } else {
        ObjectFile::from_bytes(bytes, "fuzzed").ok().and_then(|object| {
            object.file_offset_to_address(0x1234);
            UnwindTable::build(&object).ok()
        })
    };
    if let Some(table) = table {
        check(&table);
    }
});

fn check(table: &UnwindTable) {
    for segment in table.segments() {
        assert_eq!(segment.vaddr % PAGE_BYTES, 0);
        assert_eq!(segment.pages.len() as u64, (segment.end - segment.vaddr).div_ceil(PAGE_BYTES));
        for entry in &segment.pages {
            let (first, count) = ((entry >> 8) as usize, (entry & 0xff) as usize);
            if count != 0 {
                let rows = &segment.rows[first..first + count];
                assert_eq!(rows[0] & 0xff, 0);
                assert!(rows.windows(2).all(|pair| pair[0] & 0xff < pair[1] & 0xff));
                assert_eq!(first / BLOCK_ROWS, (first + count - 1) / BLOCK_ROWS);
            }
        }
        for address in (segment.vaddr..segment.end).step_by(97).take(4096) {
            segment.rule_at(address);
        }
    }
}
