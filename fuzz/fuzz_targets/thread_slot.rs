//! The memory of a process that claims to hold a module with the thread context symbol: the search for the slot, and the
//! read of a thread through what it found. The corpus starts well with the first pages of any shared library.
#![no_main]

use std::io;

use libfuzzer_sys::fuzz_target;
use spanprof_context::locate;
use spanprof_context::maps::Mapping;
use spanprof_context::memory::Memory;

const START: u64 = 0x10_0000;

struct Bytes<'a>(&'a [u8]);

impl Memory for Bytes<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
        let offset = address.checked_sub(START).and_then(|offset| usize::try_from(offset).ok());
        let bytes = offset.and_then(|offset| self.0.get(offset..)?.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::InvalidInput)?);
        Ok(())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let memory = Bytes(bytes);
    let mapping = Mapping {
        start: START,
        end: START + bytes.len() as u64,
        executable: true,
        file_offset: 0,
        device: (8, 1),
        inode: 1,
        name: "/a/module".to_owned(),
    };
    if let Ok(Some(slot)) = locate::from_symbols(&memory, &[mapping], START) {
        let mut buffer = [0; 640];
        let _ = locate::read_thread(&memory, START + 0x100, &slot, &mut buffer).map(|record| record.is_some());
    }
});
