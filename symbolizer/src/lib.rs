//! ELF and DWARF: addresses to frames, and unwind tables that the kernel can walk.

mod frame;
pub mod object;
pub mod unwind;
pub mod walk;

pub use frame::{Frame, FrameKind};
pub use object::ObjectFile;
pub use unwind::UnwindTable;
