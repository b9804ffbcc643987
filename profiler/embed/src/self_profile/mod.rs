//! The profile of one's own process, on the CPU and off it, with spans, without privileges.
//!
//! For where no sidecar may run. [`Agent`](crate::Agent) starts it where a destination is set; there is nothing else to call.
//!
//! # How
//!
//! * **On the CPU**, a timer per thread runs on that thread's CPU time and sends it a signal. The handler copies registers,
//!   the span that the thread publishes, and the top of the stack, and nothing else; another thread unwinds the copy,
//!   without frame pointers.
//! * **Off the CPU**, a thread that is blocked within a span is visited through `/proc`, without a signal: no call
//!   of it fails or returns early, and nothing wakes it.
//! * **How much** is told by the thread's own clocks, read when its span changes, at most 2,000 times a second: CPU
//!   time, run queue, and the rest of the time that passed. Samples and visits only say where.
//! * **Awaits** of handlers in [`watch`](crate::watch) are recorded exactly.
//!
//! # What is biased
//!
//! | what | how |
//! |---|---|
//! | CPU places | the kernel looks at CPU timers at its tick (often 250 a second), so a service whose work keeps step with the tick is seen askew |
//! | times of a stretch under one span | right to half a millisecond; shorter ones are added up and count as CPU time |
//! | blocked places | by counts of visits at random times: 100 visits of a span tell shares to 5 points |
//! | run queue | exact times, no place |
//! | threads without a span | their CPU time is told, their waits aren't |
//!
//! What is missing is counted, and stands in each profile's comments; so does what this costs itself.
//!
//! x86-64 only; elsewhere a line at the start says so, and spans are published all the same.

#[cfg(target_arch = "x86_64")]
mod attribution;
#[cfg(target_arch = "x86_64")]
mod await_waits;
#[cfg(target_arch = "x86_64")]
mod brief;
#[cfg(target_arch = "x86_64")]
mod buffers;
#[cfg(target_arch = "x86_64")]
mod clock;
#[cfg(target_arch = "x86_64")]
mod descriptors;
#[cfg(target_arch = "x86_64")]
mod episode;
#[cfg(target_arch = "x86_64")]
mod handler;
#[cfg(target_arch = "x86_64")]
mod ledger;
#[cfg(target_arch = "x86_64")]
mod losses;
#[cfg(target_arch = "x86_64")]
mod modules;
#[cfg(target_arch = "x86_64")]
mod random;
#[cfg(target_arch = "x86_64")]
mod registers;
#[cfg(target_arch = "x86_64")]
mod render;
#[cfg(target_arch = "x86_64")]
mod running;
#[cfg(target_arch = "x86_64")]
mod sampler;
#[cfg(target_arch = "x86_64")]
mod schedstat;
#[cfg(target_arch = "x86_64")]
mod slot_reading;
#[cfg(target_arch = "x86_64")]
mod threads;
#[cfg(target_arch = "x86_64")]
mod timers;
#[cfg(target_arch = "x86_64")]
mod unwinding;
#[cfg(target_arch = "x86_64")]
mod upload;
#[cfg(target_arch = "x86_64")]
mod visit;
#[cfg(target_arch = "x86_64")]
mod window;

#[cfg(not(target_arch = "x86_64"))]
mod elsewhere;

#[cfg(not(target_arch = "x86_64"))]
pub use elsewhere::Running;
#[cfg(not(target_arch = "x86_64"))]
pub(crate) use elsewhere::on_change;
#[cfg(target_arch = "x86_64")]
pub use running::Running;
#[cfg(target_arch = "x86_64")]
pub(crate) use running::on_change;
#[cfg(target_arch = "x86_64")]
#[doc(hidden)]
pub use running::sample_thread_now;
