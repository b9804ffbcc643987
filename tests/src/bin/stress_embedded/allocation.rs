//! Allocates, grows, fills and frees blocks of all sizes, from the smallest to those with a mapping of their own.

use std::hint::black_box;

use super::worker::require;

pub(crate) fn round(number: u64) {
    let mut state = number | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    for _ in 0..64 {
        let random = next();
        // One of a hundred is larger than what malloc takes from its heap.
        let size = if random % 100 == 0 { 300_000 } else { 1 << (random % 12) };
        let mut block = vec![size as u8; size];
        block.reserve_exact(size / 2 + 1);
        blocks.push(black_box(block));
        if random % 3 == 0 {
            let which = (random >> 32) as usize % blocks.len();
            blocks.swap_remove(which);
        }
    }
    for block in &blocks {
        let is_whole = block.iter().all(|byte| *byte == block.len() as u8);
        require(is_whole, || format!("a block of {} bytes has other contents", block.len()));
    }
}
