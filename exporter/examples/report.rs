//! Makes a report's pictures and page again from a profile that was kept: decode, then render.
//!
//! `cargo run -p spanprof-exporter --example report -- profile.pb.gz DIRECTORY`

use std::error::Error;
use std::path::PathBuf;

use spanprof_exporter::directory::{ReportFile, write_report};
use spanprof_exporter::page::{PageDetails, render};
use spanprof_exporter::{analysis, pprof};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(file), Some(directory)) = (arguments.next(), arguments.next()) else {
        return Err("give a profile and a directory for its report".into());
    };
    let profile = pprof::decode(&std::fs::read(&file)?)?;
    let page = render(&profile, &PageDetails::default());
    let page = ReportFile { name: "report.html".into(), bytes: page.into_bytes() };
    for path in write_report(&directory, &profile, "spanprof", vec![page])? {
        println!("{}", path.display());
    }
    for span in analysis::spans(&profile).iter().take(20) {
        println!("{:8.1} ms  {}", span.total_ns() as f64 / 1e6, span.main_cause);
    }
    Ok(())
}
