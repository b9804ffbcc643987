//! Where this process's own writer keeps the threads' slots, measured while it runs.

use std::ffi::c_void;
use std::sync::OnceLock;

use crate::slot;

/// Where the slot lies.
#[derive(Clone, Copy)]
pub(crate) enum OwnSlot {
    /// At the same distance from every thread's thread pointer.
    Static { offset: i64 },
    /// In each thread's block of a TLS module.
    Dynamic { module: i64, offset: i64 },
}

/// The module of the program or library that this code was linked into.
#[derive(Default)]
struct OwnModule {
    code: usize,
    visited: usize,
    found: Option<Found>,
}

struct Found {
    is_program: bool,
    tls_module: usize,
    /// This thread's block of that module.
    tls_block: usize,
}

/// A library's static thread-local storage lies beside the thread pointer; farther away is another allocation, whatever
/// two threads happen to agree on.
const MAXIMUM_LIBRARY_DISTANCE: u64 = 1 << 20;

/// The slot's place, measured at the first call; `None` if it is neither constant nor known to the loader.
pub(crate) fn slot() -> Option<OwnSlot> {
    static PLACE: OnceLock<Option<OwnSlot>> = OnceLock::new();
    *PLACE.get_or_init(measure)
}

/// A program's thread-local storage is at a constant distance always. A library's is or is not, depending on how much
/// room was left when it was loaded: a second thread tells. With musl a library that was opened late has it at a constant
/// distance on later threads only, which no second thread can tell, so there it is always read by the threads' vectors.
fn measure() -> Option<OwnSlot> {
    let module = own_module();
    let offset = distance();
    let is_static = match &module {
        Some(module) if module.is_program => true,
        _ if cfg!(target_env = "musl") || offset.unsigned_abs() > MAXIMUM_LIBRARY_DISTANCE => false,
        _ => {
            let other = std::thread::Builder::new().name("spanprof-offset".to_owned()).spawn(distance);
            other.ok().and_then(|thread| thread.join().ok()) == Some(offset)
        }
    };
    if is_static {
        return Some(OwnSlot::Static { offset });
    }
    let module = module.filter(|module| module.tls_module != 0 && module.tls_block != 0)?;
    Some(OwnSlot::Dynamic {
        module: i64::try_from(module.tls_module).ok()?,
        offset: i64::try_from(slot::slot_address().checked_sub(module.tls_block)?).ok()?,
    })
}

fn distance() -> i64 {
    slot::slot_address().wrapping_sub(slot::thread_pointer()) as i64
}

fn own_module() -> Option<Found> {
    // The loader must know of this thread's block before it is asked for it.
    let _ = slot::slot_address();
    let mut search = OwnModule { code: own_module as *const () as usize, ..OwnModule::default() };
    // SAFETY: the callback matches the signature, and `search` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
    search.found
}

unsafe extern "C" fn visit(
    info: *mut libc::dl_phdr_info,
    size: libc::size_t,
    data: *mut c_void,
) -> libc::c_int {
    if size < size_of::<libc::dl_phdr_info>() {
        return 1;
    }
    // SAFETY: the loader passes a structure of at least this size; `data` is the `OwnModule` of the caller.
    let (info, search) = unsafe { (&*info, &mut *data.cast::<OwnModule>()) };
    let is_program = search.visited == 0;
    search.visited += 1;
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: the loader describes this many headers.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let holds_code = headers.iter().filter(|header| header.p_type == libc::PT_LOAD).any(|header| {
        let start = (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
        search.code.wrapping_sub(start) < header.p_memsz as usize
    });
    if !holds_code {
        return 0;
    }
    search.found =
        Some(Found { is_program, tls_module: info.dlpi_tls_modid, tls_block: info.dlpi_tls_data as usize });
    1
}
