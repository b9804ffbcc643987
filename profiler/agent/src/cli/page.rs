//! `--page`: the windows that are kept, and the page over them.

use std::net::SocketAddr;
use std::sync::Arc;

use spanprof_exporter::Profile;
use spanprof_exporter::directory::{DirectoryError, WindowDirectory};
use spanprof_exporter::page::PageDetails;
use spanprof_exporter::stored::{StoredWindow, WindowMemory, WindowStore};

use super::exit::{Exit, Failure};
use super::progress::ProgressLine;
use super::shipping::{Shipment, Sink};
use crate::metrics::Metrics;
use crate::page::{Archive, Bounds, Health, PageError, PageServer, Site};

/// Where the page is where nothing else is said.
pub(super) const ADDRESS: &str = "127.0.0.1:4142";

/// What windows in memory may take where no directory keeps them, in bytes: half an hour of windows of 45 KB.
const MEMORY: u64 = 8 << 20;

/// Where windows are kept that can be looked at again.
pub(super) enum Place {
    /// As files.
    Directory(WindowDirectory),
    /// For as long as the agent runs.
    Memory(Arc<WindowMemory>),
}

impl Place {
    /// In memory.
    pub(super) fn memory() -> Place {
        Place::Memory(Arc::new(WindowMemory::new(MEMORY)))
    }

    /// To read them again.
    fn store(&self) -> Arc<dyn WindowStore> {
        match self {
            Place::Directory(directory) => Arc::new(directory.files().clone()),
            Place::Memory(memory) => Arc::clone(memory) as Arc<dyn WindowStore>,
        }
    }

    fn keep(&self, profile: &Profile) -> Result<StoredWindow, (&'static str, String)> {
        match self {
            Place::Directory(directory) => {
                let written = directory.write(profile);
                written.map(|written| written.window).map_err(|error| (kind(&error), error.to_string()))
            }
            Place::Memory(memory) => memory.write(profile).ok_or_else(|| {
                ("window too large", "a window is larger than what the page keeps in memory".to_owned())
            }),
        }
    }
}

/// What a directory's refusal is called, so that it is told once.
const fn kind(error: &DirectoryError) -> &'static str {
    match error {
        DirectoryError::DiskFull { .. } => "disk full",
        DirectoryError::WindowTooLarge { .. } => "window too large",
        _ => "directory",
    }
}

/// Keeps each window, and lets the page know of it.
pub(super) struct Keeping {
    place: Place,
    archive: Option<Arc<Archive>>,
}

impl Keeping {
    /// Keeps windows at a place, without a page over them.
    pub(super) fn at(place: Place) -> Keeping {
        Keeping { place, archive: None }
    }

    /// The same for a page, which reads them through what is given back.
    pub(super) fn for_a_page(place: Place) -> (Keeping, Arc<Archive>) {
        let archive = Arc::new(Archive::new(place.store(), Bounds::beside_a_capture()));
        (Keeping { place, archive: Some(Arc::clone(&archive)) }, archive)
    }
}

impl Sink for Keeping {
    fn ship(&mut self, profile: &Profile) -> Shipment {
        match self.place.keep(profile) {
            Ok(window) => {
                if let Some(archive) = &self.archive {
                    archive.note(window, profile);
                }
                Shipment { arrived: true, problems: Vec::new() }
            }
            Err(problem) => Shipment { arrived: false, problems: vec![problem] },
        }
    }
}

/// Serves the page, and says where.
///
/// # Errors
/// When the address can't be listened on.
pub(super) fn serve(
    address: SocketAddr,
    archive: Arc<Archive>,
    (health, metrics): (Arc<Health>, Option<Arc<Metrics>>),
    details: PageDetails,
    line: &mut ProgressLine,
) -> Result<PageServer, Failure> {
    let site = Site::new(archive, health, details).with_metrics(metrics);
    let server = PageServer::start(address, site).map_err(failure)?;
    line.print(&format!("the page is at {}", server.url()));
    if !address.ip().is_loopback() {
        line.print("warning: whoever reaches this address can read the profiles");
    }
    Ok(server)
}

fn failure(error: PageError) -> Failure {
    let failure = Failure::new(Exit::Failed, error.to_string());
    match error {
        PageError::Address { .. } => failure.help("choose another address with --page, such as 127.0.0.1:0"),
        PageError::Start(_) => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_tells_what_it_could_not_write() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::Directory(WindowDirectory::new(directory.path(), 1).unwrap());
        let shipment = Keeping::at(place).ship(&Profile::default());
        assert!(!shipment.arrived);
        assert_eq!(shipment.problems[0].0, "window too large");
    }

    #[test]
    fn what_was_kept_is_there_for_the_page() {
        let directory = tempfile::tempdir().unwrap();
        let directory = Place::Directory(WindowDirectory::new(directory.path(), 1 << 20).unwrap());
        for place in [directory, Place::memory()] {
            let store = place.store();
            let (mut keeping, _) = Keeping::for_a_page(place);
            assert!(keeping.ship(&Profile::default()).arrived);
            let listed = store.list().unwrap();
            assert!(store.read(&listed[0]).unwrap().is_some());
        }
    }
}
