//! What `attach` did over all windows: handed on, refused, lost; told while it goes and at the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use spanprof_exporter::Profile;

use super::complaints::Complaints;
use super::output::losses_for_page;
use super::progress::ProgressLine;
use super::shipping::{FLUSH_LIMIT, Shipper};
use super::units::{count, counted};
use crate::metrics::{Metrics, SinkCounts};
use crate::page::{Health, SinkState};
use crate::summary::{Summary, loss};

/// The shippers and what happened over all windows.
pub(super) struct Course {
    shippers: Vec<Shipper>,
    received: u64,
    windows: u64,
    samples: u64,
    seconds: f64,
    losses: BTreeMap<String, u64>,
    complaints: Complaints,
    /// What the page tells of all this, where there is one.
    health: Option<Arc<Health>>,
    metrics: Arc<Metrics>,
}

impl Course {
    pub(super) fn new(shippers: Vec<Shipper>, health: Option<Arc<Health>>, metrics: Arc<Metrics>) -> Course {
        Course {
            shippers,
            received: 0,
            windows: 0,
            samples: 0,
            seconds: 0.0,
            losses: BTreeMap::new(),
            complaints: Complaints::default(),
            health,
            metrics,
        }
    }

    /// What is counted for machines.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Windows captured so far.
    pub(super) fn windows(&self) -> u64 {
        self.windows
    }

    /// Hands a window to every shipper; an empty one to none.
    pub(super) fn ship(&mut self, profile: Profile, line: &mut ProgressLine) {
        self.metrics.add_traffic(&profile.traffic);
        if profile.is_empty() {
            return;
        }
        let profile = Arc::new(profile);
        let refusals: Vec<_> =
            self.shippers.iter_mut().filter_map(|shipper| shipper.offer(&profile).err()).collect();
        for words in refusals {
            self.tell(vec![("no room", words)], line);
        }
    }

    /// Counts a window that another process made, and hands it on.
    pub(super) fn ship_received(&mut self, profile: Profile, line: &mut ProgressLine) {
        self.received += 1;
        self.ship(profile, line);
    }

    /// What went wrong since the last call.
    pub(super) fn tell_problems(&mut self, line: &mut ProgressLine) {
        let problems = self.shippers.iter_mut().flat_map(Shipper::problems).collect();
        self.tell(problems, line);
        for shipper in &self.shippers {
            let tally = shipper.tally();
            let counts = SinkCounts { arrived: tally.arrived, lost: tally.lost() };
            self.metrics.set_sink(&shipper.name, counts);
        }
        if let Some(health) = &self.health {
            let state = |shipper: &Shipper| {
                let tally = shipper.tally();
                SinkState { name: shipper.name.clone(), arrived: tally.arrived, lost: tally.lost() }
            };
            health.shipped(losses_for_page(&self.lost()), self.shippers.iter().map(state).collect());
        }
    }

    /// Counts a captured window.
    pub(super) fn take(&mut self, summary: &Summary, line: &mut ProgressLine) {
        self.windows += 1;
        self.samples += summary.samples;
        self.seconds += summary.seconds;
        for (cause, number) in &summary.losses {
            *self.losses.entry(cause.clone()).or_default() += number;
        }
        self.metrics.add_window(summary);
        if let Some(health) = &self.health {
            health.window_ended(summary);
        }
        let lost = summary.losses.get(loss::SAMPLES_LOST).copied().unwrap_or(0);
        if lost > 0 {
            let words = format!("{} {}", count(lost), loss::in_words(loss::SAMPLES_LOST));
            self.tell(vec![("samples lost", words)], line);
        }
    }

    /// Prints problems that are due.
    pub(super) fn tell(&mut self, problems: Vec<(&'static str, String)>, line: &mut ProgressLine) {
        for (kind, words) in problems {
            if let Some(text) = self.complaints.line(kind, &words, Instant::now()) {
                line.print(&text);
            }
        }
    }

    /// Waits for what is under way and says what became of everything.
    pub(super) fn finish(mut self, line: &mut ProgressLine) {
        line.update("sending what was captured; Ctrl-C leaves at once");
        let deadline = Instant::now() + FLUSH_LIMIT;
        let mut words = Vec::new();
        for shipper in &mut std::mem::take(&mut self.shippers) {
            let (tally, problems) = shipper.finish(deadline);
            self.tell(problems, line);
            let mut text =
                format!("{}: {} arrived", shipper.name, counted(tally.arrived, "window", "windows"));
            if tally.lost() > 0 {
                text.push_str(&format!(
                ", {} lost ({} refused or given up, {} without room in the queue, {} not sent when time was up)",
                count(tally.lost()),
                count(tally.failed),
                count(tally.no_room),
                count(tally.left_behind),
            ));
            }
            words.push(text);
        }
        line.clear();
        if self.windows > 0 {
            eprintln!(
                "captured {:.0} s in {} with {}",
                self.seconds,
                counted(self.windows, "window", "windows"),
                counted(self.samples, "sample", "samples")
            );
        }
        if self.received > 0 || self.windows == 0 {
            eprintln!("received {}", counted(self.received, "profile", "profiles"));
        }
        for text in words {
            eprintln!("{text}");
        }
        eprintln!("{}", super::words::losses(&self.lost()));
    }

    /// What was lost over all windows.
    fn lost(&self) -> Summary {
        Summary { losses: self.losses.clone(), ..Summary::default() }
    }
}
