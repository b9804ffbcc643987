//! For an application's build script: export the standard symbol from the program.
//!
//! Only the final program's link step can put `otel_thread_ctx_v1` into its dynamic symbol table, where every
//! reader of OTEP 4947 looks. With Rust's default linker on x86-64 this crate's own build script arranges it. With
//! another linker, or to be sure, add this crate to `[build-dependencies]` and write
//!
//! ```no_run
//! // In the `main` of build.rs:
//! spanprof_context::build::export_symbol();
//! ```
//!
//! Our own reader does not depend on it: it uses the offset in the process context.

/// Tells Cargo to export the thread context symbol from the package's programs, tests and examples.
///
/// Call it from the build script of the package that holds the program. It has no effect on a `cdylib`, whose
/// symbols the compiler's own version script limits, and none outside Linux. The linker must know
/// `--export-dynamic-symbol`: lld, mold, or GNU ld from 2.35.
pub fn export_symbol() {
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo:rustc-link-arg=-Wl,--export-dynamic-symbol={}", crate::record::THREAD_SYMBOL);
    }
}
