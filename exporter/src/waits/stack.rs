//! The part of a stack that tells what was waited for: from the leaf to the application's own function.

use spanprof_symbolizer::{Frame, FrameKind};

use crate::cause::plain_name;
use crate::runtime::{is_library, java_name};

/// The frames between the scheduler and the application, by name.
pub(super) struct Plumbing<'a> {
    /// Functions of the kernel, leaf first.
    pub(super) kernel: Vec<&'a str>,
    /// Functions in user space, leaf first, as [`plain`] names them.
    pub(super) calls: Vec<String>,
    /// How the kernel was entered.
    pub(super) entry: Option<KernelEntry<'a>>,
}

impl<'a> Plumbing<'a> {
    /// That of a stack, leaf first; the whole stack where the application has no function in it.
    pub(super) fn of(frames: &[&'a Frame]) -> Plumbing<'a> {
        let code: Vec<&Frame> =
            frames.iter().copied().filter(|frame| frame.kind != FrameKind::Synthetic).collect();
        let own = code.iter().position(|frame| !is_library(frame)).unwrap_or(code.len());
        let (kernel, calls): (Vec<&Frame>, Vec<&Frame>) =
            code[..own].iter().copied().partition(|frame| frame.kind == FrameKind::Kernel);
        Plumbing {
            entry: KernelEntry::of(&kernel),
            kernel: kernel.into_iter().map(|frame| &*frame.function).collect(),
            calls: calls.into_iter().map(plain).collect(),
        }
    }
}

/// A function's name as rules write it: no type parameters, no traits, no arguments; Java's with dots only.
fn plain(frame: &Frame) -> String {
    let function = &*frame.function;
    match frame.kind {
        FrameKind::Jvm => java_name(function),
        FrameKind::Native => plain_name(function.split_once('(').map_or(function, |(name, _)| name)),
        _ => plain_name(function),
    }
}

/// How a thread came into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KernelEntry<'a> {
    /// By a system call of this name.
    SystemCall(&'a str),
    /// By touching memory that was not there.
    PageFault,
    /// It was interrupted.
    Interrupt,
}

impl<'a> KernelEntry<'a> {
    /// The entry that the kernel's frames (leaf first) tell; the outermost one, because an interrupt or a
    /// fault may come in the middle of a system call.
    pub(crate) fn of(kernel: &[&'a Frame]) -> Option<KernelEntry<'a>> {
        kernel.iter().rev().find_map(|frame| KernelEntry::named(&frame.function))
    }

    fn named(function: &'a str) -> Option<KernelEntry<'a>> {
        const CALLS: [&str; 6] =
            ["__x64_sys_", "__arm64_sys_", "__ia32_sys_", "__se_sys_", "__do_sys_", "__sys_"];
        if let Some(name) = CALLS.iter().find_map(|prefix| function.strip_prefix(prefix)) {
            return Some(KernelEntry::SystemCall(name));
        }
        const FAULTS: [&str; 3] = ["page_fault", "user_addr_fault", "mem_abort"];
        if FAULTS.iter().any(|part| function.contains(part)) {
            return Some(KernelEntry::PageFault);
        }
        const INTERRUPTS: [&str; 4] = ["asm_sysvec_", "asm_common_interrupt", "el0_interrupt", "irq_exit"];
        let interrupted = INTERRUPTS.iter().any(|part| function.contains(part));
        interrupted.then_some(KernelEntry::Interrupt)
    }

    /// The entry in a sentence.
    pub(crate) const fn as_str(self) -> &'a str {
        match self {
            KernelEntry::SystemCall(name) => name,
            KernelEntry::PageFault => "page fault",
            KernelEntry::Interrupt => "interrupt",
        }
    }
}
