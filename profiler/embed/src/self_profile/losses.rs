//! What is missing in a window, by cause. Never hidden: it stands in every profile's comments.

/// Counts of what was lost, per cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Periods of CPU time for which there was no buffer or no room in the window.
    pub(crate) samples: u64,
    /// Visits for which there was no room in the window.
    pub(crate) visits: u64,
    /// Visits that found the thread on its way, so that nothing could be said.
    pub(crate) visits_moved: u64,
    /// Visits that the kernel refused.
    pub(crate) visits_denied: u64,
    /// Observations whose stack had no room.
    pub(crate) stacks: u64,
    /// Stacks that don't reach their root.
    pub(crate) stacks_cut: u64,
    /// Ended stretches of a span that found no room, so that samples alone speak for them.
    pub(crate) episodes: u64,
    /// Spans whose attributes had no room.
    pub(crate) attributes: u64,
    /// Waits of tasks that found no room.
    pub(crate) suspensions: u64,
    /// Waits of tasks told without their span.
    pub(crate) suspensions_folded: u64,
    /// Waits of tasks whose place is unknown, since the stack could not be walked.
    pub(crate) await_places: u64,
    /// Threads that could not be given a timer.
    pub(crate) timers: u64,
    /// Signals of somebody else that came to our handler.
    pub(crate) foreign_signals: u64,
    /// Windows at whose end the signal had been taken by somebody else's handler.
    pub(crate) handlers: u64,
    /// Windows that could not be handed over, because the last ones were still being sent.
    pub(crate) windows: u64,
}

impl Losses {
    /// Every count with what it counts, for people.
    pub(crate) fn in_words(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("periods of CPU time without a sample", self.samples),
            ("visits without room", self.visits),
            ("visits that found the thread moving", self.visits_moved),
            ("visits that the kernel refused", self.visits_denied),
            ("observations whose stack had no room", self.stacks),
            ("stacks that don't reach their root", self.stacks_cut),
            ("stretches of spans without exact times", self.episodes),
            ("spans whose attributes had no room", self.attributes),
            ("waits of tasks without room", self.suspensions),
            ("waits of tasks told without their span", self.suspensions_folded),
            ("waits of tasks without a place", self.await_places),
            ("threads without a timer", self.timers),
            ("foreign signals", self.foreign_signals),
            ("windows in which another library took the signal", self.handlers),
            ("windows that could not be handed over", self.windows),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
    }
}
