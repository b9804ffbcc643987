//! Attribute and fold: what happened in this window, bounded.
//!
//! Here samples, programs and spans meet. [`Programs`] knows which object lies where in each process and
//! gives the kernel its unwind tables; [`Fold`] sums events; [`Renderer`] turns a closed window into a
//! profile with names. Naming comes last, after folding, so that each distinct address is named once.

mod attributes;
mod balance;
mod fold;
mod overruns;
mod programs;
mod render;
mod shares;
mod waits;
mod wakers;
mod weights;

pub use fold::{Fold, Sums, ThreadKey};
pub use programs::{ModuleId, Place, Program, Programs, ScanError, Scanned};
pub use render::{Rendered, Renderer};
