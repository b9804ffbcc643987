//! Opens something in the browser of whoever started us.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use super::progress::ProgressLine;

/// Opens a file or an address, or says that this is left to the person.
pub(super) fn open(what: &OsStr, line: &mut ProgressLine) {
    let started = Command::new("xdg-open")
        .arg(what)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !started.is_ok_and(|status| status.success()) {
        line.print(&format!("cannot open a browser here; open {} yourself", what.display()));
    }
}
