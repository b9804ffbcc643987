//! A writer of the standard's record in a library, independent of the crate: one slot, one record, one function.
//! Compiled by the test in each access model.
#![no_std]

use core::arch::{asm, global_asm};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[cfg(block = "64")]
global_asm!(".set block_size, 64");
#[cfg(block = "65536")]
global_asm!(".set block_size, 65536");

global_asm!(
    ".section .tbss,\"awT\",@nobits",
    ".balign 16",
    // Not at the block's beginning, so that a wrong offset shows.
    ".zero 16",
    ".globl otel_thread_ctx_v1",
    ".type otel_thread_ctx_v1, @tls_object",
    ".size otel_thread_ctx_v1, 8",
    "otel_thread_ctx_v1:",
    ".zero 8",
    // The record.
    ".zero block_size - 24",
    ".previous",
);

#[inline(always)]
fn slot() -> *mut u8 {
    let address: usize;
    // SAFETY: the sequences of the ABI.
    unsafe {
        #[cfg(all(access = "descriptor", target_arch = "x86_64"))]
        asm!(
            "leaq otel_thread_ctx_v1@tlsdesc(%rip), %rax",
            "call *otel_thread_ctx_v1@TLSCALL(%rax)",
            "addq %fs:0, %rax",
            out("rax") address,
            options(att_syntax),
        );
        #[cfg(access = "initial_exec")]
        asm!(
            "movq otel_thread_ctx_v1@GOTTPOFF(%rip), {address}",
            "addq %fs:0, {address}",
            address = out(reg) address,
            options(att_syntax),
        );
        #[cfg(access = "general_dynamic")]
        asm!(
            ".byte 0x66",
            "leaq otel_thread_ctx_v1@tlsgd(%rip), %rdi",
            ".value 0x6666",
            "rex64",
            "call __tls_get_addr@PLT",
            out("rax") address,
            clobber_abi("C"),
            options(att_syntax),
        );
        #[cfg(all(access = "descriptor", target_arch = "aarch64"))]
        asm!(
            "adrp x0, :tlsdesc:otel_thread_ctx_v1",
            "ldr x1, [x0, :tlsdesc_lo12:otel_thread_ctx_v1]",
            "add x0, x0, :tlsdesc_lo12:otel_thread_ctx_v1",
            ".tlsdesccall otel_thread_ctx_v1",
            "blr x1",
            "mrs x1, tpidr_el0",
            "add x0, x1, x0",
            out("x0") address,
            out("x1") _,
            out("x30") _,
        );
    }
    address as *mut u8
}

/// Publishes ids and flags on the calling thread.
///
/// # Safety
/// The pointers lead to 16 and 8 bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn publish(trace_id: *const u8, span_id: *const u8, flags: u8) {
    let slot = slot();
    // SAFETY: 28 bytes of record follow the slot's 8; the caller's pointers are good.
    unsafe {
        let record = slot.add(8);
        for position in 0..16 {
            record.add(position).write_volatile(trace_id.add(position).read());
        }
        for position in 0..8 {
            record.add(16 + position).write_volatile(span_id.add(position).read());
        }
        record.add(24).write_volatile(1);
        record.add(25).write_volatile(flags);
        slot.cast::<*mut u8>().write_volatile(record);
    }
}
