//! The files that a process wrote of itself.

use std::collections::BTreeMap;
use std::path::Path;

use spanprof_exporter::Profile;
use tempfile::TempDir;

use crate::program;
use crate::samples::{Sample, samples};

/// Where a process is to write its profiles.
#[derive(Debug)]
pub(crate) struct Folder(TempDir);

impl Folder {
    /// An empty one, which vanishes with its value.
    pub(crate) fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a folder"))
    }

    /// Its path, as an argument.
    pub(crate) fn path(&self) -> &str {
        self.0.path().to_str().expect("a path in UTF-8")
    }

    /// All windows that were written, oldest first.
    pub(crate) fn read(&self) -> SelfProfiled {
        SelfProfiled(read(self.0.path()))
    }
}

fn read(folder: &Path) -> Vec<Profile> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(".pb.gz"));
    paths.sort();
    paths.iter().map(|path| program::profile(path)).collect()
}

/// Profiles of one process, window after window.
#[derive(Debug)]
pub(crate) struct SelfProfiled(Vec<Profile>);

impl SelfProfiled {
    /// How many windows there are.
    pub(crate) fn windows(&self) -> usize {
        self.0.len()
    }

    /// The samples of all windows.
    pub(crate) fn samples(&self) -> Vec<Sample<'_>> {
        self.0.iter().flat_map(samples).collect()
    }

    /// Every line that stands beside the samples of any window.
    pub(crate) fn comments(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|profile| &profile.comments).map(String::as_str)
    }

    /// What was lost in all windows, by cause.
    pub(crate) fn losses(&self) -> BTreeMap<&str, u64> {
        let mut losses = BTreeMap::new();
        for line in self.comments() {
            let loss = line.strip_prefix("lost: ").and_then(|rest| rest.rsplit_once(": "));
            if let Some((cause, count)) = loss {
                *losses.entry(cause).or_default() += count.parse::<u64>().expect("a count");
            }
        }
        losses
    }
}
