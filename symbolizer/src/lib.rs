//! ELF and DWARF: addresses to frames, and unwind tables that the kernel can walk.
//!
//! - [`object`]: an ELF object that is open: segments, build id, and offsets to addresses.
//! - [`unwind`]: its unwind table, in the layout that the kernel program searches; [`walk`] is that
//!   program's reference in Rust.
//! - [`symbolize`]: its functions, files and lines; [`perf_map`]: those of code compiled at run time.

mod frame;
pub mod object;
pub mod perf_map;
pub mod symbolize;
pub mod unwind;
pub mod walk;

pub use frame::{Frame, FrameKind};
pub use object::ObjectFile;
pub use perf_map::PerfMap;
pub use symbolize::Symbolizer;
pub use unwind::UnwindTable;
