//! Bytes of a file as a profile, with what stands beside its samples.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanprof_exporter::pprof::{decode, encode_uncompressed};

/// A profile without samples, to which a field of side tables is added: by chance alone none would be found.
fn with_side_tables(content: &[u8]) -> Vec<u8> {
    let mut file = encode_uncompressed(&Default::default());
    // The key of field 1000, and the version as the first of its own.
    file.extend([0xc2, 0x3e]);
    let mut length = content.len() + 2;
    while length > 0x7f {
        file.push(length as u8 | 0x80);
        length >>= 7;
    }
    file.push(length as u8);
    file.extend([8, 1]);
    file.extend(content);
    file
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(profile) = decode(bytes) {
        let _ = encode_uncompressed(&profile);
    }
    let profile = decode(&with_side_tables(bytes)).expect("what stands beside samples is never an error");
    // Of ten bytes there is no span with facts; and what was read once is read again.
    assert!(profile.span_facts.len() <= bytes.len() / 10);
    let again = decode(&encode_uncompressed(&profile)).expect("ours can be read");
    assert_eq!((&profile.span_facts, &profile.relatives), (&again.span_facts, &again.relatives));
    assert_eq!((&profile.wakers, &profile.traffic), (&again.wakers, &again.traffic));
});
