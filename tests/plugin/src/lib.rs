//! A library that `truth_dlopen` opens, spins in and closes.
//!
//! It holds a known chain of three functions and no thread-locals, so that closing it really unmaps it.

use std::hint::black_box;

/// Runs the chain outer, middle, leaf for `rounds` rounds of arithmetic and returns the result.
///
/// The name is exported as it stands, as a C library's would be.
// SAFETY: no other symbol of this name exists in the program that opens the library.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn plugin_outer(rounds: u64) -> u64 {
    let pad = black_box([rounds; 9]);
    black_box(plugin_middle(rounds)) ^ pad[3]
}

#[inline(never)]
fn plugin_middle(rounds: u64) -> u64 {
    let pad = black_box([rounds; 33]);
    black_box(plugin_leaf(rounds)).wrapping_add(pad[7])
}

#[inline(never)]
fn plugin_leaf(rounds: u64) -> u64 {
    let mut state = black_box(rounds | 1);
    for _ in 0..rounds {
        state = black_box(state.wrapping_mul(6_364_136_223_846_793_005).rotate_left(17));
    }
    state
}
