//! Where rbp lies, told by hostile code under hostile rules.
//!
//! The first byte says how many of the next ones are rules, each in force over sixteen bytes. Beyond not crashing, the answer
//! must not depend on the order in which paths are followed, which is random.

#![no_main]

use libfuzzer_sys::fuzz_target;
use spanprof_symbolizer::unwind::{Rule, distance_in};

const START: u64 = 0x1000;

fuzz_target!(|bytes: &[u8]| {
    let Some((count, bytes)) = bytes.split_first() else { return };
    let (rules, code) = bytes.split_at(bytes.len().min(3 * usize::from(*count & 31)));
    let code = &code[..code.len().min(2048)];
    let rule_at = |address: u64| {
        let rule = rules.chunks_exact(3).nth(((address - START) / 16) as usize);
        rule.map_or(Rule::FRAME_POINTER, |rule| {
            Rule::from_bits(u32::from_le_bytes([rule[0], rule[1], rule[2], 0]))
        })
    };
    let end = START + code.len() as u64;
    for address in [START, START + code.len() as u64 / 2, end.saturating_sub(1)] {
        let told = distance_in(code, START, address, rule_at);
        assert_eq!(told, distance_in(code, START, address, rule_at));
    }
});
