//! The files of a recording.

use std::path::{Path, PathBuf};

use spanprof_exporter::directory::{DirectoryError, ReportFile, write_report};
use spanprof_exporter::page::{self, Loss, LossAmount, PageDetails};
use spanprof_exporter::pprof;

use super::exit::{Exit, Failure};
use crate::recorder::Window;
use crate::summary::{Summary, loss};

/// Writes all files and gives their names, what a person opens first in front.
///
/// # Errors
/// When the directory cannot be made or a file cannot be written. Where the disk has no room for all, the
/// profile alone is tried, from which the rest can be made again; else an older recording stays whole.
pub(crate) fn write_recording(directory: &Path, window: &Window) -> Result<Vec<String>, Failure> {
    let failure = |reason: String| {
        Failure::new(Exit::Failed, format!("the recording is lost: {reason}"))
            .help("write it elsewhere with --out DIR")
    };
    let summary = serde_json::to_vec_pretty(&window.summary).map_err(|error| failure(error.to_string()))?;
    let page = page::render(&window.profile, &details(&window.summary));
    let files = vec![
        ReportFile { name: "report.html".into(), bytes: page.into_bytes() },
        ReportFile { name: "summary.json".into(), bytes: summary },
    ];
    let written = write_report(directory, &window.profile, &title(&window.summary), files);
    let paths = written.map_err(|error| match error {
        DirectoryError::DiskFull { .. } => match save_profile(directory, window) {
            Ok(path) => Failure::new(Exit::Failed, error.to_string())
                .help(format!("the profile alone was saved: spanprof show {}", path.display())),
            Err(_) => failure(error.to_string()),
        },
        error => failure(error.to_string()),
    })?;
    let mut names: Vec<String> =
        paths.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect();
    names.sort_by_key(|name| name != "report.html");
    Ok(names)
}

/// Writes `profile.pb.gz` alone, whole or not at all.
fn save_profile(directory: &Path, window: &Window) -> std::io::Result<PathBuf> {
    let place = directory.join("profile.pb.gz");
    let hidden = directory.join(format!(".profile.pb.gz.{}.partial", std::process::id()));
    let saved = std::fs::write(&hidden, pprof::encode(&window.profile))
        .and_then(|()| std::fs::rename(&hidden, &place));
    if saved.is_err() {
        let _ = std::fs::remove_file(&hidden);
    }
    saved.map(|()| place)
}

fn title(summary: &Summary) -> String {
    let mut services: Vec<&str> = summary.targets.iter().map(|target| target.service.as_str()).collect();
    services.sort_unstable();
    services.dedup();
    match services.len() {
        0 => "spanprof".into(),
        1..=3 => services.join(", "),
        more => format!("{}, {} and {} more", services[0], services[1], more - 2),
    }
}

/// What the page says about a recording.
pub(super) fn details(summary: &Summary) -> PageDetails {
    PageDetails {
        title: title(summary),
        source: format!(
            "{:.1} s by {} at {} Hz, spanprof {}",
            summary.seconds, summary.backend.name, summary.hz, summary.version
        ),
        losses: losses_for_page(summary),
        ..PageDetails::default()
    }
}

/// What was lost, as the page tells it.
pub(super) fn losses_for_page(summary: &Summary) -> Vec<Loss> {
    summary.losses_to_tell().map(|(cause, number)| loss_for_page(cause, number)).collect()
}

fn loss_for_page(cause: &str, number: u64) -> Loss {
    let words = loss::in_words(cause);
    match words.strip_prefix(loss::NANOSECONDS) {
        Some(words) => Loss { cause: words.into(), amount: LossAmount::Nanoseconds(number) },
        None => Loss { cause: words, amount: LossAmount::Count(number) },
    }
}

#[cfg(test)]
mod tests {
    use spanprof_exporter::Profile;

    use super::*;
    use crate::summary::Target;

    fn window() -> Window {
        let target = |service: &str| Target { service: service.into(), ..Target::default() };
        let targets = vec![target("producer"), target("consumer"), target("consumer")];
        Window { profile: Profile::default(), summary: Summary { targets, ..Summary::default() } }
    }

    #[test]
    fn writes_every_file_of_the_contract() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("new/out");
        let names = write_recording(&out, &window()).unwrap();
        assert_eq!(names[0], "report.html");
        for name in ["profile.pb.gz", "cpu.svg", "off_cpu.svg", "report.html", "summary.json"] {
            assert!(names.iter().any(|written| written == name), "{name}");
            assert!(out.join(name).metadata().unwrap().len() > 0, "{name}");
        }
        let summary = std::fs::read(out.join("summary.json")).unwrap();
        assert_eq!(serde_json::from_slice::<Summary>(&summary).unwrap(), window().summary);
    }

    #[test]
    fn what_cannot_be_written_is_told_with_the_next_step() {
        let directory = tempfile::tempdir().unwrap();
        let in_the_way = directory.path().join("file");
        std::fs::write(&in_the_way, "").unwrap();
        let failure = write_recording(&in_the_way.join("out"), &window()).unwrap_err();
        let text = failure.to_string();
        assert!(text.contains("the recording is lost") && text.contains("--out"), "{text}");
        assert_eq!(failure.exit, Exit::Failed);
    }

    #[test]
    fn lost_time_is_told_as_time() {
        let time = loss_for_page("cpu_ns_between_samples", 28_126_053);
        assert_eq!(time.amount, LossAmount::Nanoseconds(28_126_053));
        assert!(time.cause.starts_with("on CPU fell between samples"), "{}", time.cause);
        assert_eq!(loss_for_page("stacks_lost", 3).amount, LossAmount::Count(3));
    }

    #[test]
    fn the_title_names_services_once() {
        assert_eq!(title(&window().summary), "consumer, producer");
    }
}
