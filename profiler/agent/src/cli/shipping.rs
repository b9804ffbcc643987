//! Windows on their way to a server or a disk, never in the way of the capture.
//!
//! Each sink has a thread and a short queue. A sink that is slower than windows come fills its queue, and
//! then windows are dropped and counted: the capture waits for nobody. One queue for all sinks was refused,
//! because a server that is down would hold up the disk.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::{Duration, Instant};

use spanprof_exporter::Profile;

/// Windows that wait for one sink: at ten seconds each, a minute in which a server may be away.
pub(crate) const QUEUE: usize = 6;

/// The same where other processes hand theirs over: many of them may do so at the same second, and a push takes half of one.
pub(crate) const QUEUE_OF_RECEIVED: usize = 64;

/// Where windows go.
pub(crate) trait Sink: Send + 'static {
    /// Sends one window; may take long.
    fn ship(&mut self, profile: &Profile) -> Shipment;
}

/// What became of one window.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Shipment {
    /// Whether all of it arrived.
    pub(crate) arrived: bool,
    /// What went wrong: a kind, so that it is told once, and words.
    pub(crate) problems: Vec<(&'static str, String)>,
}

/// What became of all windows of one sink.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Windows that arrived.
    pub(crate) arrived: u64,
    /// Windows that the sink did not take, wholly or in part.
    pub(crate) failed: u64,
    /// Windows for which the queue had no room.
    pub(crate) no_room: u64,
    /// Windows that were still waiting when time was up.
    pub(crate) left_behind: u64,
}

impl Tally {
    /// Windows that did not arrive.
    pub(crate) const fn lost(&self) -> u64 {
        self.failed + self.no_room + self.left_behind
    }
}

/// One sink with its thread and queue.
#[derive(Debug)]
pub(crate) struct Shipper {
    /// What a person calls the sink.
    pub(crate) name: String,
    windows: Option<SyncSender<Arc<Profile>>>,
    shipments: Receiver<Shipment>,
    under_way: u64,
    tally: Tally,
}

impl Shipper {
    /// Starts the thread, before which so many windows may wait.
    ///
    /// # Errors
    /// When the system refuses one.
    pub(crate) fn start(name: String, queue: usize, mut sink: impl Sink) -> std::io::Result<Shipper> {
        let (windows, queue) = mpsc::sync_channel::<Arc<Profile>>(queue);
        let (results, shipments) = mpsc::channel();
        std::thread::Builder::new().name("shipping".into()).spawn(move || {
            while let Ok(profile) = queue.recv() {
                if results.send(sink.ship(&profile)).is_err() {
                    break;
                }
            }
        })?;
        Ok(Shipper { name, windows: Some(windows), shipments, under_way: 0, tally: Tally::default() })
    }

    /// Hands over a window; never waits.
    pub(crate) fn offer(&mut self, profile: &Arc<Profile>) -> Result<(), String> {
        let Some(windows) = &self.windows else { return Ok(()) };
        match windows.try_send(Arc::clone(profile)) {
            Ok(()) => {
                self.under_way += 1;
                Ok(())
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.tally.no_room += 1;
                Err(format!("{} is slower than windows come: a window was dropped", self.name))
            }
        }
    }

    /// What became of all windows up to now.
    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// The problems since the last call; never waits.
    pub(crate) fn problems(&mut self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        while let Ok(shipment) = self.shipments.try_recv() {
            problems.extend(self.count(shipment));
        }
        problems
    }

    /// Waits for what is under way, until the deadline at most, and gives the sums. The thread is left
    /// alone with what it has not finished by then.
    pub(crate) fn finish(&mut self, deadline: Instant) -> (Tally, Vec<(&'static str, String)>) {
        self.windows = None;
        let mut problems = Vec::new();
        while self.under_way > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.shipments.recv_timeout(left) {
                Ok(shipment) => problems.extend(self.count(shipment)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        self.tally.left_behind = self.under_way;
        (self.tally, problems)
    }

    fn count(&mut self, shipment: Shipment) -> Vec<(&'static str, String)> {
        self.under_way -= 1;
        match shipment.arrived {
            true => self.tally.arrived += 1,
            false => self.tally.failed += 1,
        }
        shipment.problems
    }
}

/// How long one window is tried: a server that restarts is back after 15 s.
pub(crate) const RETRY_LIMIT: Duration = Duration::from_secs(20);

/// How long the end of an attachment may take at most: as long as one window is tried, so that it is told
/// why a server could not be reached, and less than the 30 s that Kubernetes waits before it kills.
pub(crate) const FLUSH_LIMIT: Duration = Duration::from_secs(22);

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes one window per word that the test gives it.
    struct Gate(Receiver<bool>);

    impl Sink for Gate {
        fn ship(&mut self, _profile: &Profile) -> Shipment {
            let arrived = self.0.recv().unwrap_or(false);
            let problems = if arrived { vec![] } else { vec![("refused", "refused".to_owned())] };
            Shipment { arrived, problems }
        }
    }

    #[test]
    fn a_stuck_sink_never_blocks_and_every_window_is_counted() {
        let (open, gate) = mpsc::channel();
        let mut shipper = Shipper::start("the server".into(), QUEUE, Gate(gate)).unwrap();
        let window = Arc::new(Profile::default());
        let offered = 20;
        let refused = (0..offered).filter(|_| shipper.offer(&window).is_err()).count() as u64;
        // The queue, and perhaps the one that the thread has taken already.
        let accepted = offered - refused;
        assert!((QUEUE as u64..=QUEUE as u64 + 1).contains(&accepted), "{accepted}");

        open.send(true).unwrap();
        open.send(false).unwrap();
        let (tally, problems) = {
            let mut seen = Vec::new();
            while shipper.tally.arrived + shipper.tally.failed < 2 {
                seen.extend(shipper.problems());
                std::thread::yield_now();
            }
            let (tally, more) = shipper.finish(Instant::now());
            seen.extend(more);
            (tally, seen)
        };
        assert_eq!((tally.arrived, tally.failed, tally.no_room), (1, 1, refused));
        assert_eq!(tally.left_behind, accepted - 2);
        assert_eq!(tally.arrived + tally.lost(), offered);
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn the_end_waits_for_what_is_under_way() {
        let (open, gate) = mpsc::channel();
        let mut shipper = Shipper::start("the server".into(), QUEUE, Gate(gate)).unwrap();
        let window = Arc::new(Profile::default());
        for _ in 0..3 {
            shipper.offer(&window).unwrap();
            open.send(true).unwrap();
        }
        let (tally, problems) = shipper.finish(Instant::now() + Duration::from_secs(60));
        assert_eq!(tally, Tally { arrived: 3, ..Tally::default() });
        assert!(problems.is_empty());
    }
}
