//! The demo where nobody may look from outside: producer and consumer profile themselves, and their files become the
//! same window that a recording gives.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use spanprof_exporter::{Label, Profile, SampleKind, label, pprof};

use super::super::exit::{Exit, Failure};
use super::super::interrupt::Interrupt;
use super::super::progress::ProgressLine;
use crate::recorder::Window;
use crate::summary::{AgentCost, Backend, Summary, Target, ThreadTime};

/// The most that is read of one profile.
const MAX_PROFILE: u64 = 64 << 20;
/// How the comments of a self-profile tell of a loss, and of what was seen.
const LOST: &str = "lost: ";
const SAMPLES: &str = "samples: ";
const VISITS: &str = "visits of blocked threads: ";

/// Waits until the time is over or Ctrl-C comes.
pub(super) fn wait(seconds: Duration, interrupt: Interrupt, line: &mut ProgressLine) {
    let begin = Instant::now();
    line.begin(&format!("producer and consumer profile themselves for {} s", seconds.as_secs_f64()));
    while begin.elapsed() < seconds && !interrupt.requested() {
        let left = seconds.saturating_sub(begin.elapsed());
        std::thread::sleep(left.min(Duration::from_millis(100)));
        line.update(&format!(
            "profiling from inside, {:.0} of {} s",
            begin.elapsed().as_secs_f64(),
            seconds.as_secs_f64()
        ));
    }
}

/// Reads what the services wrote, each into a folder of its own, as one window. `why` says why it was not recorded from
/// outside.
///
/// # Errors
/// When there are no profiles, or one can't be read.
pub(super) fn read(folder: &Path, why: &str) -> Result<Window, Failure> {
    let failure = |reason: String| Failure::new(Exit::Failed, format!("the demo failed: {reason}"));
    let mut profile = Profile::default();
    let mut losses = BTreeMap::new();
    let mut samples = 0;
    for file in files_below(folder) {
        let mut bytes = Vec::new();
        let read = File::open(&file).and_then(|file| file.take(MAX_PROFILE).read_to_end(&mut bytes));
        read.map_err(|error| failure(format!("cannot read {}: {error}", file.display())))?;
        let window = pprof::decode(&bytes)
            .map_err(|error| failure(format!("{} is no profile: {error}", file.display())))?;
        add_losses(&window, &mut losses);
        samples += counted(&window, SAMPLES) + counted(&window, VISITS);
        profile.absorb(&window);
    }
    if profile.is_empty() {
        return Err(failure("the services wrote no profile of themselves".to_owned()));
    }
    let summary = Summary { losses, samples, ..summary(&profile, why) };
    Ok(Window { profile, summary })
}

/// All files one folder down, in a stable order.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut files: Vec<PathBuf> = entries(folder).iter().flat_map(|folder| entries(folder)).collect();
    files.sort();
    files
}

fn summary(profile: &Profile, why: &str) -> Summary {
    Summary {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        backend: Backend { name: "embedded".to_owned(), why: why.to_owned() },
        seconds: profile.duration_nanoseconds as f64 / 1e9,
        hz: 1_000_000_000u64.checked_div(profile.period_nanoseconds).unwrap_or(0) as u32,
        totals: SampleKind::ALL
            .iter()
            .map(|kind| (kind.as_str().to_owned(), profile.total(*kind)))
            .filter(|(_, total)| *total > 0)
            .collect(),
        targets: targets(profile),
        threads: threads(profile),
        agent: AgentCost::now(),
        ..Summary::default()
    }
}

fn targets(profile: &Profile) -> Vec<Target> {
    let mut targets: BTreeMap<u32, (Target, BTreeSet<i64>)> = BTreeMap::new();
    for labels in profile.label_sets() {
        let find = |key: &str| labels.iter().find(|label| &*label.key == key);
        let number = |key: &str| find(key).and_then(|label: &Label| label.value.as_number());
        let Some(pid) = number(label::PID).and_then(|pid| u32::try_from(pid).ok()) else { continue };
        let (target, threads) = targets.entry(pid).or_default();
        target.pid = pid;
        threads.extend(number(label::THREAD_ID));
        target.publishes_context |= find(label::SPAN_ID).is_some();
        if let Some(service) = find(label::SERVICE_NAME).and_then(|label| label.value.as_text()) {
            target.service = service.to_owned();
        }
    }
    targets
        .into_values()
        .map(|(target, threads)| Target { threads: threads.len() as u64, ..target })
        .collect()
}

/// How each thread spent its time, as far as it is known from inside: what is blocked without a span is not.
fn threads(profile: &Profile) -> Vec<ThreadTime> {
    let mut threads: BTreeMap<(u32, u32), ThreadTime> = BTreeMap::new();
    for (key, value) in profile.samples() {
        let labels = profile.labels(key.labels);
        let find = |wanted: &str| labels.iter().find(|label| &*label.key == wanted).map(|label| &label.value);
        let number = |key| find(key).and_then(|value| u32::try_from(value.as_number()?).ok());
        let (Some(pid), Some(tid)) = (number(label::PID), number(label::THREAD_ID)) else { continue };
        let thread = threads.entry((pid, tid)).or_default();
        (thread.pid, thread.tid) = (pid, tid);
        if let Some(name) = find(label::THREAD_NAME).and_then(|value| value.as_text()) {
            thread.name = name.to_owned();
        }
        let time = value.nanoseconds;
        match key.kind {
            SampleKind::Cpu => thread.cpu_ns += time,
            SampleKind::OffCpu => thread.off_cpu_ns += time,
            SampleKind::RunQueue => thread.run_queue_ns += time,
            SampleKind::Suspended | SampleKind::Ready | SampleKind::Unknown => continue,
        }
        thread.wall_ns += time;
    }
    threads.into_values().collect()
}

/// A number from a self-profile's comments; 0 where it isn't told.
fn counted(profile: &Profile, what: &str) -> u64 {
    let told = profile.comments.iter().find_map(|comment| comment.strip_prefix(what));
    told.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Adds what a self-profile counted as lost.
fn add_losses(profile: &Profile, losses: &mut BTreeMap<String, u64>) {
    for comment in &profile.comments {
        let counted = comment.strip_prefix(LOST).and_then(|loss| loss.rsplit_once(": "));
        if let Some((what, Ok(count))) = counted.map(|(what, count)| (what, count.parse::<u64>())) {
            *losses.entry(what.to_owned()).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_of_several_windows_add_up() {
        let mut losses = BTreeMap::new();
        for comments in [
            vec!["from inside", "lost: visits: without room: 3"],
            vec!["lost: visits: without room: 3", "lost: x"],
        ] {
            let mut profile = Profile::default();
            profile.comments = comments.into_iter().map(str::to_owned).collect();
            add_losses(&profile, &mut losses);
        }
        assert_eq!(losses, BTreeMap::from([("visits: without room".to_owned(), 6)]));
    }

    #[test]
    fn without_profiles_the_demo_says_so() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path(), "x").is_err());
        std::fs::create_dir(folder.path().join("consumer")).unwrap();
        std::fs::write(folder.path().join("consumer/spanprof-1.pb.gz"), b"nonsense").unwrap();
        let Err(failure) = read(folder.path(), "x") else { panic!("nonsense is no profile") };
        assert!(failure.to_string().contains("spanprof-1.pb.gz"));
    }
}
