//! The library of `plugin/` as truth programs open and close it.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

const LIBRARY: &str = "libspanprof_tests_plugin.so";

type Outer = unsafe extern "C" fn(u64) -> u64;

/// The open library.
#[derive(Debug)]
pub struct Plugin {
    handle: *mut libc::c_void,
    outer: Outer,
}

impl Plugin {
    /// The library beside this program, where cargo puts it for a workspace's build and for a dependency's.
    pub fn find() -> Option<CString> {
        let program = std::env::current_exe().ok()?;
        let folder = program.parent()?;
        let places: [PathBuf; 2] = [folder.join(LIBRARY), folder.join("deps").join(LIBRARY)];
        let path = places.into_iter().find(|path| path.exists())?;
        CString::new(path.as_os_str().as_bytes()).ok()
    }

    /// Opens the library at `path`. The error is the dynamic linker's own words.
    pub fn open(path: &CStr) -> Result<Plugin, String> {
        // SAFETY: the library is this workspace's own; loading it runs no code of its own.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            return Err(last_error());
        }
        // SAFETY: `handle` is open.
        let symbol = unsafe { libc::dlsym(handle, c"plugin_outer".as_ptr()) };
        if symbol.is_null() {
            return Err(last_error());
        }
        // SAFETY: the symbol is the library's function of exactly this type.
        let outer = unsafe { std::mem::transmute::<*mut libc::c_void, Outer>(symbol) };
        Ok(Plugin { handle, outer })
    }

    /// Runs the library's chain of three functions for `rounds` rounds of arithmetic.
    #[inline(always)]
    pub fn outer(&self, rounds: u64) -> u64 {
        // SAFETY: the library is open as long as `self` is there; the function only computes.
        unsafe { (self.outer)(rounds) }
    }

    /// Closes the library; whether the dynamic linker did so.
    pub fn close(self) -> bool {
        // SAFETY: the handle is closed once, and nothing of the library is used afterwards.
        unsafe { libc::dlclose(self.handle) == 0 }
    }

    /// Whether the library is mapped, as the process's own maps say.
    pub fn is_mapped() -> bool {
        std::fs::read_to_string("/proc/self/maps").is_ok_and(|maps| maps.contains(LIBRARY))
    }
}

fn last_error() -> String {
    // SAFETY: dlerror returns null or a C string that lives until the next call of it.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "unknown error of the dynamic linker".to_owned();
    }
    // SAFETY: as above, and not null.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
