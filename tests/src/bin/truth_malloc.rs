//! Lives in glibc: allocates, copies, sorts and frees through it, always below `malloc_root`.
//!
//! The samples' leaves are in a library built by another compiler with other habits (hand-written assembler
//! in `memcpy`, recursion and calls back into the program in `qsort`); their chains must reach the root.

use std::ffi::{c_int, c_void};
use std::hint::black_box;

use serde_json::json;
use spanprof_tests::clock;
use spanprof_tests::truth_program::{TruthProgram, is_stopped};

const BLOCKS: usize = 512;
const SORTED: usize = 2_048;

#[inline(never)]
fn malloc_root() -> [u64; 2] {
    let start = clock::thread_cpu_ns();
    let mut rounds = 0;
    let mut seed = 1;
    while !is_stopped() {
        allocate_and_copy(&mut seed);
        sort_numbers(&mut seed);
        rounds += 1;
    }
    black_box([rounds, clock::thread_cpu_ns() - start])
}

#[inline(never)]
fn allocate_and_copy(seed: &mut u64) {
    let mut blocks = [(std::ptr::null_mut::<c_void>(), 0usize); BLOCKS];
    for slot in &mut blocks {
        let size = 16 + (next_random(seed) % 6_000) as usize;
        // SAFETY: malloc may be called with any size; a null result is checked below.
        *slot = (unsafe { libc::malloc(size) }, size);
        assert!(!slot.0.is_null(), "malloc of {size} bytes");
        // SAFETY: the block holds `size` bytes.
        unsafe { libc::memset(slot.0, (size & 0xff) as c_int, size) };
    }
    for pair in 1..BLOCKS {
        let ((from, from_size), (to, to_size)) = (blocks[pair - 1], blocks[pair]);
        // SAFETY: two different live blocks, each at least as large as what is copied.
        unsafe { libc::memcpy(to, from, from_size.min(to_size)) };
    }
    for (block, _) in black_box(blocks) {
        // SAFETY: each block came from malloc and is freed once.
        unsafe { libc::free(block) };
    }
}

#[inline(never)]
fn sort_numbers(seed: &mut u64) {
    let mut numbers: Vec<u64> = (0..SORTED).map(|_| next_random(seed)).collect();
    // SAFETY: the array holds `SORTED` numbers of the given size, and the comparison is a total order.
    unsafe {
        libc::qsort(numbers.as_mut_ptr().cast(), SORTED, size_of::<u64>(), Some(compare_numbers));
    }
    assert!(black_box(&numbers).is_sorted());
}

#[inline(never)]
unsafe extern "C" fn compare_numbers(left: *const c_void, right: *const c_void) -> c_int {
    // SAFETY: qsort passes pointers to elements of the array of numbers.
    let (left, right) = unsafe { (*left.cast::<u64>(), *right.cast::<u64>()) };
    black_box(left.cmp(&right) as c_int)
}

fn next_random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

fn main() {
    let program = TruthProgram::begin();
    program.ready();
    let stop = program.stop_in_background();
    let [rounds, thread_cpu_ns] = malloc_root();
    stop.tell(&json!({
        "program": "truth_malloc",
        "pid": std::process::id(),
        "root": "malloc_root",
        "below_root": ["allocate_and_copy", "sort_numbers"],
        "called_from_glibc": "compare_numbers",
        "rounds": rounds,
        "thread_cpu_ns": thread_cpu_ns,
    }));
}
