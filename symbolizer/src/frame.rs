//! What one address means: a function, a file and a line.
//!
//! Every room that shows or ships a stack speaks in these frames, so they live beside the code that
//! makes them and nowhere else.

use std::sync::Arc;

/// One function on a stack, as a person reads it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The demangled name without hashes (`orders::parse`), or `module+0xoffset` where no symbol covers
    /// the address. Never empty and never an error text.
    pub function: Arc<str>,
    /// The name as the object file has it; equal to `function` where nothing was demangled.
    pub system_name: Arc<str>,
    /// The source file, where line tables say one.
    pub file: Option<Arc<str>>,
    /// The line in `file`, from 1; 0 where unknown.
    pub line: u32,
    /// What sort of code this is.
    pub kind: FrameKind,
}

/// What sort of code a frame belongs to: OpenTelemetry's `profile.frame.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrameKind {
    /// C, C++ or anything else compiled ahead of time.
    Native,
    /// Rust, told by its mangling or its unit's language.
    Rust,
    /// The kernel.
    Kernel,
    /// Java, from a perf map.
    Jvm,
    /// A frame that spanprof put there to name something that is not code, such as `[stack truncated]`.
    Synthetic,
}

impl FrameKind {
    /// The value of OpenTelemetry's `profile.frame.type`; empty for synthetic frames.
    pub const fn as_str(self) -> &'static str {
        match self {
            FrameKind::Native => "native",
            FrameKind::Rust => "rust",
            FrameKind::Kernel => "kernel",
            FrameKind::Jvm => "jvm",
            FrameKind::Synthetic => "",
        }
    }
}
