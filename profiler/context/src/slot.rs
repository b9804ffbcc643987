//! The thread's block of thread-local storage, where the published record lives, and its address.
//!
//! ```text
//!   0  stamp of the innermost live guard
//!   8  count of guards that were dropped while they were not the innermost
//!  16  otel_thread_ctx_v1: pointer to the record at 32, or null   (the standard's symbol, 8 bytes)
//!  24  sequence word: changes with every change of what is published
//!  32  the record: 28-byte header, then up to 612 bytes of attributes
//! ```
//!
//! **The record is part of the block**, so nothing is ever allocated, registered for thread exit or freed: the
//! pointer and what it points to come and go together with the thread. Refused: a record on the heap and a
//! 16-byte block. It needs an allocation and a destructor per thread, has no good answer to a span that is set
//! while thread-local destructors run, and saves static TLS, which matters only to a `dlopen`ed library: glibc keeps 512
//! bytes for such, and a library with an async runtime, `tracing` and OpenTelemetry has 560 without our block. It then
//! has its thread-local storage per thread anyway, and [`locate`](crate::locate) reads it by the thread's vector.
//! The block's first 64 bytes, a cache line of their own, hold everything but the attributes.
//!
//! **The symbol is defined in assembly**: Rust's stable `thread_local!` gives no control over its name. It is *weak*,
//! and our code reaches the block through a private name: where another library in the same program defines
//! `otel_thread_ctx_v1` too, the program links, that library keeps the standard symbol, and the two never write to
//! each other's records (ours is then found by the offset in the process context).
//!
//! **The address comes by TLSDESC**, in the exact instructions that linkers know: in a program they relax it to a
//! constant (as fast as initial-exec: both 2.45 ns for set and clear), and a library may be `dlopen`ed however
//! little static TLS is left, where initial-exec fails to load.

use std::arch::{asm, global_asm};
use std::mem::offset_of;
use std::sync::atomic::{AtomicPtr, AtomicU64};

use crate::record::{HEADER_SIZE, MAXIMUM_ATTRIBUTES_SIZE, MAXIMUM_SIZE, SEQUENCE_OFFSET};

#[repr(C, align(64))]
pub(crate) struct Block {
    /// The stamp of the innermost live guard, 0 if there is none.
    pub(crate) guard: u64,
    /// Counts guards that were dropped while they were not the innermost.
    pub(crate) strays: u64,
    pub(crate) pointer: AtomicPtr<PublishedRecord>,
    /// Never 0 once the thread has published.
    pub(crate) sequence: AtomicU64,
    pub(crate) record: PublishedRecord,
}

#[repr(C)]
pub(crate) struct PublishedRecord {
    pub(crate) trace_id: [u8; 16],
    pub(crate) span_id: [u8; 8],
    /// Valid byte, flags and the attributes' size, written as one.
    pub(crate) state: State,
    pub(crate) attributes: [u8; MAXIMUM_ATTRIBUTES_SIZE],
}

/// The last four bytes of a record's header.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(4))]
pub(crate) struct State {
    pub(crate) valid: u8,
    pub(crate) flags: u8,
    pub(crate) attributes_size: u16,
}

/// Where the standard's slot lies in the block.
pub(crate) const SLOT_OFFSET: usize = offset_of!(Block, pointer);
/// What the assembly below reserves.
const BLOCK_SIZE: usize = 704;

const _: () = {
    assert!(size_of::<Block>() == BLOCK_SIZE);
    assert!(SLOT_OFFSET == 16);
    assert!(offset_of!(Block, sequence) == SLOT_OFFSET + SEQUENCE_OFFSET);
    assert!(offset_of!(Block, record) == 32);
    assert!(offset_of!(Block, record) + HEADER_SIZE <= 64, "the hot part is one cache line");
    assert!(size_of::<PublishedRecord>() == MAXIMUM_SIZE);
    assert!(offset_of!(PublishedRecord, span_id) == crate::record::SPAN_ID_OFFSET);
    assert!(offset_of!(PublishedRecord, state.valid) == crate::record::VALID_OFFSET);
    assert!(offset_of!(PublishedRecord, state.flags) == crate::record::FLAGS_OFFSET);
    assert!(offset_of!(PublishedRecord, state.attributes_size) == crate::record::ATTRIBUTES_SIZE_OFFSET);
    assert!(offset_of!(PublishedRecord, attributes) == crate::record::ATTRIBUTES_OFFSET);
};

global_asm!(
    ".section .tbss.spanprof_thread_block_v1,\"awT\",@nobits",
    ".balign 64",
    ".hidden spanprof_thread_block_v1",
    ".weak spanprof_thread_block_v1",
    ".type spanprof_thread_block_v1, @tls_object",
    ".size spanprof_thread_block_v1, {block_size}",
    "spanprof_thread_block_v1:",
    ".zero {slot_offset}",
    ".weak otel_thread_ctx_v1",
    ".type otel_thread_ctx_v1, @tls_object",
    ".size otel_thread_ctx_v1, 8",
    "otel_thread_ctx_v1:",
    ".zero {block_size} - {slot_offset}",
    ".previous",
    block_size = const BLOCK_SIZE,
    slot_offset = const SLOT_OFFSET,
);

/// The address of a TLS symbol on this thread, by TLSDESC. Linkers recognise these instructions and replace them;
/// any other form of them would be relaxed by halves.
macro_rules! tls_address {
    ($symbol:literal) => {{
        let address: usize;
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the descriptor's function changes rax and the flags only; without `nostack` the compiler leaves
        // room for its return address. The symbol is defined above.
        unsafe {
            asm!(
                concat!("leaq ", $symbol, "@tlsdesc(%rip), %rax"),
                concat!("call *", $symbol, "@TLSCALL(%rax)"),
                "addq %fs:0, %rax",
                out("rax") address,
                options(att_syntax),
            );
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: the descriptor's function changes x0, x1, x30 and the flags only. The symbol is defined above.
        unsafe {
            asm!(
                concat!("adrp x0, :tlsdesc:", $symbol),
                concat!("ldr x1, [x0, :tlsdesc_lo12:", $symbol, "]"),
                concat!("add x0, x0, :tlsdesc_lo12:", $symbol),
                concat!(".tlsdesccall ", $symbol),
                "blr x1",
                "mrs x1, tpidr_el0",
                "add x0, x1, x0",
                out("x0") address,
                out("x1") _,
                out("x30") _,
            );
        }
        address
    }};
}

/// This thread's block. Valid until the thread is gone, also while its thread-local destructors run.
#[inline(always)]
pub(crate) fn block() -> *mut Block {
    tls_address!("spanprof_thread_block_v1") as *mut Block
}

/// This thread's thread pointer: the base that slot offsets are relative to.
pub(crate) fn thread_pointer() -> usize {
    let pointer: usize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the ABI keeps the thread pointer itself at fs:0.
    unsafe {
        asm!("movq %fs:0, {}", out(reg) pointer, options(att_syntax, nostack, preserves_flags, readonly));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reads a register that user code may read.
    unsafe {
        asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nostack, preserves_flags, nomem));
    }
    pointer
}

/// The address of this thread's slot (not of the block).
pub(crate) fn slot_address() -> usize {
    block() as usize + SLOT_OFFSET
}

/// Whether the standard's symbol is our slot, or another library's definition has taken its place.
///
/// Also what makes a library carry the relocation that names the symbol, by which readers find it.
pub(crate) fn owns_standard_symbol() -> bool {
    tls_address!("otel_thread_ctx_v1") == slot_address()
}
