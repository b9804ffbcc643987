//! Builds the library of `writer_library.rs` with the compiler at hand, in each access model.

use std::path::{Path, PathBuf};
use std::process::Command;

/// How the library reaches its slot.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Model {
    /// A TLS descriptor; the block fits into the static TLS that the loader keeps for late-comers.
    Descriptor,
    /// A TLS descriptor; the block is too large for that.
    LargeDescriptor,
    /// An offset in the global offset table.
    #[cfg(target_arch = "x86_64")]
    InitialExec,
    /// `__tls_get_addr`.
    #[cfg(target_arch = "x86_64")]
    GeneralDynamic,
}

/// Builds it into a directory and returns its path.
pub(crate) fn build(model: Model, directory: &Path) -> PathBuf {
    let script = directory.join("export.map");
    std::fs::write(&script, "{ global: otel_thread_ctx_v1; };").expect("the directory is writable");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/processes/writer_library.rs");
    let library = directory.join("libwriter.so");
    let (access, size) = match model {
        Model::Descriptor => ("descriptor", 64),
        Model::LargeDescriptor => ("descriptor", 65_536),
        #[cfg(target_arch = "x86_64")]
        Model::InitialExec => ("initial_exec", 64),
        #[cfg(target_arch = "x86_64")]
        Model::GeneralDynamic => ("general_dynamic", 65_536),
    };
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition=2024", "--crate-type=cdylib", "-Copt-level=2", "-Cpanic=abort"])
        .args(["--cfg", &format!("access=\"{access}\""), "--cfg", &format!("block=\"{size}\"")])
        .arg(format!("-Clink-arg=-Wl,--version-script={}", script.display()))
        .arg("-o")
        .arg(&library)
        .arg(source)
        .output()
        .expect("rustc runs");
    assert!(output.status.success(), "{model:?}: {}", String::from_utf8_lossy(&output.stderr));
    library
}
