//! A word to many tasks that they are to end, which those hear too who ask later.

use tokio::sync::watch;

/// Says it; so does dropping it.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// Hears it.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

/// Who says it, and who hears it; the latter can be cloned.
#[must_use]
pub fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Everybody is to end.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Returns when it has been said.
    pub async fn said(&mut self) {
        // An error says that nobody can say it any more.
        let _ = self.0.wait_for(|is_said| *is_said).await;
    }
}
