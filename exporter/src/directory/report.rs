//! The files of one recording.

use std::path::{Path, PathBuf};

use super::DirectoryError;
use super::staged::{StagedFile, make};
use crate::filter::SampleFilter;
use crate::idle::IdleThreads;
use crate::pprof::encode;
use crate::profile::{Profile, SampleKind};
use crate::svg::{flame_graph, hidden_note};

/// A file that the caller rendered, such as `report.html` or `summary.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportFile {
    /// The name within the directory.
    pub name: String,
    /// The content.
    pub bytes: Vec<u8>,
}

/// Writes `profile.pb.gz`, `cpu.svg`, `off_cpu.svg`, the other kinds' pictures (`run_queue.svg`,
/// `suspended.svg`, `ready.svg`, where there was such time) and the caller's files into a directory, which is
/// made where it is missing, and gives their paths.
///
/// `cpu.svg` and `off_cpu.svg` are always there, because people and scripts open them by name; without such
/// time they say so. Idle threads are left out of the pictures, with a note; the profile holds them. No file
/// changes before all are written, so that a full disk leaves the older report.
///
/// Errors: [`DirectoryError`]; nothing half-written is left.
pub fn write_report(
    directory: &Path,
    profile: &Profile,
    title: &str,
    files: Vec<ReportFile>,
) -> Result<Vec<PathBuf>, DirectoryError> {
    make(directory)?;
    let mut staged = vec![StagedFile::write(directory.join("profile.pb.gz"), &encode(profile))?];
    for kind in SampleKind::ALL {
        let (filter, idle) = (SampleFilter::default(), IdleThreads::Hidden);
        let svg = match flame_graph(profile, kind, &filter, idle, title)? {
            Some(svg) => svg,
            None => match hidden_note(profile, kind, &filter, idle) {
                Some(note) => empty_graph(kind, &format!("; {note}")),
                None if matches!(kind, SampleKind::Cpu | SampleKind::OffCpu) => empty_graph(kind, ""),
                None => continue,
            },
        };
        staged.push(StagedFile::write(directory.join(format!("{}.svg", kind.as_str())), svg.as_bytes())?);
    }
    for file in files {
        staged.push(StagedFile::write(directory.join(&file.name), &file.bytes)?);
    }
    staged.into_iter().map(StagedFile::publish).collect()
}

fn empty_graph(kind: SampleKind, note: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"600\" height=\"60\"><text x=\"20\" y=\"36\" \
         font-family=\"sans-serif\" font-size=\"16\">No {} time was seen{note}.</text></svg>\n",
        kind.as_str()
    )
}
