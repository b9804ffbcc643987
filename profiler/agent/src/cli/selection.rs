//! The options that `record` and `attach` share: which processes, and how they are captured.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::exit::{Exit, Failure};
use super::units::parse_milliseconds;
use crate::probe::{GRANT, Probe};
use crate::recorder::{CaptureOptions, text_bytes_of};
use crate::spans::KeepingOptions;
use crate::targets::{ProcFs, Process, Selector, SelectorError};

/// Samples per second and CPU where nothing else is asked for.
const DEFAULT_HERTZ: u32 = 99;

/// Which processes.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = true)]
pub(crate) struct Selection {
    /// Profile the processes with these ids
    #[arg(long = "pid", value_name = "PID", num_args = 1.., value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pids: Vec<u32>,
    /// Profile every process whose name matches
    ///
    /// A regular expression over the process's name, the file name of its first argument and that of its
    /// executable; matches anywhere unless pinned by ^ and $. Processes that start later join.
    #[arg(long = "name", value_name = "REGEX", num_args = 1..)]
    pub(crate) names: Vec<String>,
    /// Profile every process in a control group and below it
    ///
    /// Its directory under /sys/fs/cgroup, or the path as in /proc/PID/cgroup. Processes that start later
    /// join.
    #[arg(long = "cgroup", value_name = "PATH", num_args = 1..)]
    pub(crate) cgroups: Vec<PathBuf>,
}

impl Selection {
    /// Whether nothing was selected.
    pub(crate) fn is_empty(&self) -> bool {
        self.pids.is_empty() && self.names.is_empty() && self.cgroups.is_empty()
    }

    /// The selector that was meant.
    ///
    /// # Errors
    /// When a pattern or a path is none: wrong usage.
    pub(crate) fn selector(&self) -> Result<Selector, Failure> {
        let usage = |error: SelectorError| Failure::new(Exit::Usage, error.to_string());
        let mut selector = self.pids.iter().fold(Selector::new(), |selector, pid| selector.pid(*pid));
        for name in &self.names {
            selector = selector.name(name).map_err(usage)?;
        }
        for cgroup in &self.cgroups {
            selector = selector.cgroup(cgroup).map_err(usage)?;
        }
        Ok(selector)
    }

    /// The selection as it was written, for messages.
    pub(crate) fn in_words(&self) -> String {
        let mut words: Vec<String> = self.pids.iter().map(|pid| format!("--pid {pid}")).collect();
        words.extend(self.names.iter().map(|name| format!("--name {name:?}")));
        words.extend(self.cgroups.iter().map(|path| format!("--cgroup {}", path.display())));
        words.join(" ")
    }
}

/// How to capture.
#[derive(Debug, Clone, Args)]
pub(crate) struct CaptureArguments {
    /// On-CPU samples per second and CPU
    ///
    /// From 1 to 10000. A prime such as 97, 499 or 997 keeps samples from falling into step with timers;
    /// the default of 99 is no prime, but is out of step with the round numbers that programs use.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_HERTZ, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) hz: u32,
    /// Show threads without a span in full
    ///
    /// By default the waiting of idle threads (pools, long polls) of processes that publish spans is
    /// shown coarsely. Totals are exact either way.
    #[arg(long)]
    pub(crate) idle: bool,
    /// A span that took at least this long is slow, in milliseconds
    ///
    /// Always, whatever is usual. Without it a span is slow where it took longer than those of its destination and
    /// operation usually do: their 99th percentile, at least twice and at most four times their 90th.
    #[arg(long, value_name = "MS", value_parser = parse_milliseconds)]
    pub(crate) slow_over: Option<Duration>,
    /// Leave out the kernel's part of each stack
    #[arg(long)]
    pub(crate) no_kernel: bool,
    /// Read what the machine allows from below this directory
    #[arg(long, hide = true, value_name = "DIR", default_value = "/")]
    pub(crate) system_root: PathBuf,
}

impl Default for CaptureArguments {
    fn default() -> Self {
        CaptureArguments {
            hz: DEFAULT_HERTZ,
            idle: false,
            slow_over: None,
            no_kernel: false,
            system_root: "/".into(),
        }
    }
}

impl CaptureArguments {
    /// As the recorder takes them, with room for the processes that match now.
    pub(crate) fn options_for(&self, selector: &Selector) -> CaptureOptions {
        let procfs = ProcFs::host();
        let processes: Vec<u32> = selector.find(&procfs).processes.iter().map(Process::pid).collect();
        CaptureOptions { text_bytes: text_bytes_of(&procfs, &processes), ..self.options() }
    }

    /// As the recorder takes them: all spans keep their ids, up to the budget, the slow ones first.
    pub(crate) fn options(&self) -> CaptureOptions {
        CaptureOptions {
            hz: self.hz,
            idle: self.idle,
            kernel_stacks: !self.no_kernel,
            spans: KeepingOptions {
                threshold: self.slow_over,
                normal: usize::MAX,
                ..KeepingOptions::default()
            },
            ..CaptureOptions::default()
        }
    }

    /// Refuses, with the cause and the next step, where this machine allows no capture.
    ///
    /// # Errors
    /// Not allowed where privilege is all that is missing, else failed.
    pub(crate) fn check_machine(&self) -> Result<(), Failure> {
        check_machine(&self.system_root)
    }
}

fn check_machine(root: &Path) -> Result<(), Failure> {
    let rung = Probe::read(root).bpf();
    if rung.usable() {
        return Ok(());
    }
    let sentence = format!("cannot capture here: {}", rung.reasons());
    Err(match rung.only_lacks_privilege() {
        true => Failure::new(Exit::NotAllowed, sentence).help(GRANT),
        false => Failure::new(Exit::Failed, sentence)
            .help("`spanprof doctor` shows what this machine allows and why"),
    })
}
