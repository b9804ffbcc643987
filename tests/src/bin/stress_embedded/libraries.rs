//! Opens the tests' plug-in, runs in it, closes it. Where the program is static and has no dynamic linker, it sleeps.

use std::sync::atomic::{AtomicU64, Ordering};

static UNMAPPED: AtomicU64 = AtomicU64::new(0);

/// How often a library really went away.
pub(crate) fn unmapped() -> u64 {
    UNMAPPED.load(Ordering::Relaxed)
}

#[cfg(target_feature = "crt-static")]
pub(crate) fn round(_: u64) {
    std::thread::sleep(std::time::Duration::from_millis(1));
}

#[cfg(not(target_feature = "crt-static"))]
pub(crate) fn round(number: u64) {
    use super::worker::require;
    use spanprof_tests::plugin::Plugin;
    static PATH: std::sync::OnceLock<std::ffi::CString> = std::sync::OnceLock::new();
    let path = PATH.get_or_init(|| match Plugin::find() {
        Some(path) => path,
        None => super::worker::give_up("the plug-in isn't beside this program"),
    });
    match Plugin::open(path) {
        Ok(plugin) => {
            require(plugin.outer(2_000) == plugin.outer(2_000), || "the plug-in computes wrongly".to_owned());
            require(plugin.close(), || "a library could not be closed".to_owned());
        }
        Err(error) => super::worker::give_up(&error),
    }
    // Reading the maps takes longer than opening a library.
    if number.is_multiple_of(64) && !Plugin::is_mapped() {
        UNMAPPED.fetch_add(1, Ordering::Relaxed);
    }
}
