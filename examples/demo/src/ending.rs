//! When a process of the demo ends: at SIGTERM, at SIGINT, or after its time.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The two signals, taken over from the moment of its making, and the time that is left.
pub(crate) struct Ending {
    terminate: Signal,
    interrupt: Signal,
    end: tokio::time::Instant,
}

impl Ending {
    /// Must be made inside a runtime.
    pub(crate) fn after(seconds: u64) -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            end: tokio::time::Instant::now() + Duration::from_secs(seconds),
        })
    }

    /// Waits for whichever comes first. May be dropped and called again.
    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = tokio::time::sleep_until(self.end) => {}
        }
    }
}
