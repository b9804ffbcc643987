//! Ctrl-C and SIGTERM: once means stop and keep what was captured, twice means leave now.
//!
//! The handler only counts, or ends the process by `_exit`; both are allowed in a signal handler. Files
//! stay whole because they are written under another name and renamed. `tokio::signal` was refused: the
//! capture loop is a plain loop and should stay one.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

static REQUESTS: AtomicU32 = AtomicU32::new(0);

/// The right to ask whether somebody wants us to stop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interrupt(());

impl Interrupt {
    /// Takes over SIGINT, SIGTERM and SIGHUP. What was ignored stays ignored, so `nohup` works.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub(crate) fn install() -> io::Result<Interrupt> {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            // SAFETY: the structures are zeroed and filled before use, and the handler is
            // async-signal-safe.
            let failed = unsafe {
                let mut before: libc::sigaction = std::mem::zeroed();
                libc::sigaction(signal, std::ptr::null(), &mut before);
                if before.sa_sigaction == libc::SIG_IGN {
                    continue;
                }
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_signal as *const () as usize;
                // No SA_RESTART: a blocking poll shall return and see the request.
                libc::sigemptyset(&mut action.sa_mask);
                libc::sigaction(signal, &action, std::ptr::null_mut()) != 0
            };
            if failed {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Interrupt(()))
    }

    /// Whether somebody asked us to stop.
    pub(crate) fn requested(self) -> bool {
        REQUESTS.load(Ordering::Relaxed) > 0
    }
}

extern "C" fn on_signal(signal: libc::c_int) {
    if REQUESTS.fetch_add(1, Ordering::Relaxed) > 0 {
        // SAFETY: _exit is async-signal-safe and does not return.
        unsafe { libc::_exit(128 + signal) };
    }
}
