//! Bytes of another process as thread record, process context and line of mappings.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanprof_context::record::{HEADER_SIZE, MAXIMUM_SIZE};
use spanprof_context::{Record, maps, process};

fuzz_target!(|bytes: &[u8]| {
    if let Some(record) = Record::parse(bytes) {
        let size: usize = record.attributes().map(|(_, value)| 2 + value.len()).sum();
        assert!(HEADER_SIZE + size <= bytes.len().min(MAXIMUM_SIZE));
        for key in 0..=u8::MAX {
            let _ = record.attribute(key);
        }
    }
    if let Some(context) = process::decode(bytes) {
        assert!(context.key_map().names().len() <= 256);
        let _ = (context.service_name(), context.has_thread_records(), context.has_sequence());
    }
    if let Ok(line) = std::str::from_utf8(bytes) {
        let _ = maps::parse_line(line);
    }
});
