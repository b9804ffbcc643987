//! `spanprof open`: the page over profiles that were stored.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use spanprof_exporter::page::PageDetails;
use spanprof_exporter::stored::{WindowFiles, WindowMemory, WindowStore};

use super::exit::{Exit, Failure};
use super::links::LinkArguments;
use super::output::{details, losses_for_page};
use super::page::{ADDRESS, serve};
use super::progress::ProgressLine;
use super::record::install_interrupt;
use super::{Outcome, browser, recording_file};
use crate::page::{Archive, Bounds, Health};
use crate::summary::Summary;

/// Show stored profiles on a page in the browser
///
/// Reads a pprof file (spanprof's own or another profiler's), the directory of a recording, or a directory of windows that
/// `attach --dir` wrote, also while it is being written. The page is served to this machine alone, until Ctrl-C.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct OpenArguments {
    /// A pprof file, a directory that `record` or `attach --dir` wrote, or - for standard input
    file: PathBuf,
    /// Where the page is served [default: 127.0.0.1:4142, or any free port where that is taken]
    #[arg(long, value_name = "ADDR")]
    page: Option<SocketAddr>,
    #[command(flatten)]
    links: LinkArguments,
    /// Print the page's address only
    #[arg(long)]
    no_browser: bool,
}

const EXAMPLES: &str = "\
Examples:
  spanprof open spanprof-out
      The recording that `spanprof record` made.
  spanprof open /var/lib/spanprof
      Look back over all windows that `spanprof attach --dir` keeps there.
  spanprof open cpu.pb.gz --page 127.0.0.1:8000 --no-browser
      Another profiler's file, at an address of your own; print it only.";

/// The delay with which an interrupt is noticed.
const POLL: Duration = Duration::from_millis(100);
/// The largest summary that is read.
const MAX_SUMMARY: u64 = 64 << 20;

pub(super) fn run(arguments: &OpenArguments) -> Outcome {
    let store = store(&arguments.file)?;
    let summary = summary_of(&arguments.file);
    let losses = summary.as_ref().map(losses_for_page).unwrap_or_default();
    let mut details = summary.as_ref().map(details).unwrap_or_default();
    details.links = arguments.links.templates(None)?;
    let health = Arc::new(Health::of_a_recording(summary.as_ref(), losses));
    let archive = Arc::new(Archive::new(store, Bounds::alone()));
    let interrupt = install_interrupt()?;
    let mut line = ProgressLine::new();
    let at = |address, details: PageDetails, line: &mut ProgressLine| {
        serve(address, Arc::clone(&archive), (Arc::clone(&health), None), details, line)
    };
    let usual: SocketAddr = ADDRESS.parse().expect("our own address is one");
    let server = match arguments.page {
        Some(address) => at(address, details, &mut line)?,
        // An agent's page may be there.
        None => at(usual, details.clone(), &mut line)
            .or_else(|_| at(SocketAddr::new(usual.ip(), 0), details, &mut line))?,
    };
    if !arguments.no_browser {
        browser::open(server.url().as_ref(), &mut line);
    }
    line.begin("Ctrl-C ends it");
    while !interrupt.requested() {
        std::thread::sleep(POLL);
    }
    Ok(Exit::Done)
}

/// The windows of a file or directory; a file is one window.
fn store(path: &Path) -> Result<Arc<dyn WindowStore>, Failure> {
    let whole = path.join("profile.pb.gz");
    let file = match (path.is_dir(), whole.exists()) {
        (false, _) => path,
        (true, true) => &whole,
        (true, false) => {
            let files = WindowFiles::at(path);
            return match files.list() {
                Ok(windows) if windows.is_empty() => Err(recording_file::holds_nothing(path)),
                Ok(_) => Ok(Arc::new(files)),
                Err(error) => Err(recording_file::unreadable(path, &error)),
            };
        }
    };
    let (bytes, profile) = recording_file::bytes_and_profile(file)?;
    let memory = WindowMemory::new(u64::MAX);
    memory.write_encoded(profile.start_unix_nanoseconds, bytes);
    Ok(Arc::new(memory))
}

/// What a recording says of itself, where `record` wrote it beside.
fn summary_of(path: &Path) -> Option<Summary> {
    let directory = if path.is_dir() { path } else { path.parent()? };
    let is_recording = path.is_dir() || path.file_name()? == "profile.pb.gz";
    let file = std::fs::File::open(directory.join("summary.json")).ok().filter(|_| is_recording)?;
    let mut text = Vec::new();
    file.take(MAX_SUMMARY).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}
