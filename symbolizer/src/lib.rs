//! ELF and DWARF: addresses to frames, and unwind tables that the kernel can walk.

mod frame;

pub use frame::{Frame, FrameKind};
