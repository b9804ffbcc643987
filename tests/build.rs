//! Exports the thread context symbol from those truth programs that stand for an application which did so.
//!
//! The others stand for one that forgot to: their records are found by the process context alone.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for program in ["truth_tags", "truth_pingpong_foreign"] {
        println!("cargo:rustc-link-arg-bin={program}=-Wl,--export-dynamic-symbol=otel_thread_ctx_v1");
    }
}
