//! A plug-in that publishes its spans from within whatever program opens it.
//!
//! Any shared library can: a handler for a proxy, an extension of a database, a module of an interpreter. The program need
//! not know. Readers find the threads' records by the process context, which says where this library keeps them: at a
//! fixed distance from the thread pointer if there was room for that, else in each thread's block of the library.

use std::sync::Mutex;

static AGENT: Mutex<Option<spanprof::Agent>> = Mutex::new(None);

/// To be called once, after the library was opened. Returns 0, or 1 if it could not start.
// SAFETY: no other symbol of this name exists in the program that opens the library.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_start() -> i32 {
    match spanprof::Agent::builder().service_name("plugin").start() {
        Ok(agent) => {
            *AGENT.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(agent);
            0
        }
        Err(_) => 1,
    }
}

/// Works on a message: publishes its span for this thread while `work` runs.
///
/// # Safety
/// The ids are 16 and 8 bytes; `work` may be called with `argument`.
// SAFETY: no other symbol of this name exists in the program that opens the library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plugin_handle(
    trace_id: *const [u8; 16],
    span_id: *const [u8; 8],
    work: extern "C" fn(*mut u8),
    argument: *mut u8,
) {
    // SAFETY: the caller's promise.
    let (trace_id, span_id) = unsafe { (*trace_id, *span_id) };
    let _span = spanprof::enter(trace_id, span_id);
    work(argument);
}

/// To be called before the library is closed: readers are not to look for records where its memory was.
// SAFETY: no other symbol of this name exists in the program that opens the library.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_stop() {
    spanprof::context::process::withdraw();
    *AGENT.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
}
