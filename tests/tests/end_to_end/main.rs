//! spanprof against programs that know the truth.
//!
//! Every test captures a truth program for real, so that it needs root (or CAP_BPF, CAP_PERFMON and
//! CAP_SYS_PTRACE) and a kernel with BTF; one that can't run says so by name, and fails where the environment
//! says `CI`. Tests take turns: two captures at once would measure each other. What is asserted are shares and
//! ratios to what the truth program itself measured, never how long something took, so that a busy machine makes
//! them slow and not wrong. Frames have no frame pointers only in a build with `--release`.

mod batch;
mod capturing;
mod cpu_split;
mod embedded_async;
mod embedded_memory;
mod embedded_service;
mod embedded_stress;
mod equation;
mod faults;
mod finished_spans;
mod formats;
mod hostile_spans;
mod off_cpu;
mod peers;
mod program;
mod samples;
mod self_profiled;
mod servers;
mod stacks;
mod tags;
mod time_adds_up;
mod told_spans;
mod truth;
mod wakers;
