//! One line that tells how far a capture is and disappears when it is done.
//!
//! On a terminal the line is rewritten; elsewhere each message is printed once, as plain text.

use std::io::{self, IsTerminal, Write};

/// Writes to standard error, so that results on standard output can be piped.
#[derive(Debug)]
pub(crate) struct ProgressLine {
    on_terminal: bool,
    shown: bool,
}

impl ProgressLine {
    /// Looks whether standard error is a terminal.
    pub(crate) fn new() -> ProgressLine {
        ProgressLine { on_terminal: io::stderr().is_terminal(), shown: false }
    }

    /// Says what begins now: a line that stays where it cannot be rewritten.
    pub(crate) fn begin(&mut self, text: &str) {
        if self.on_terminal {
            self.update(text);
        } else {
            self.print(text);
        }
    }

    /// Replaces the line. Does nothing where lines cannot be replaced.
    pub(crate) fn update(&mut self, text: &str) {
        if self.on_terminal {
            // Cut to the width: a line that wraps cannot be taken back.
            let text: String = text.chars().take(terminal_width().saturating_sub(1)).collect();
            let _ = write!(io::stderr(), "\r\x1b[2K{text}");
            self.shown = true;
        }
    }

    /// Prints a line that stays, above the one that moves.
    pub(crate) fn print(&mut self, text: &str) {
        self.clear();
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[2K");
            self.shown = false;
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.clear();
    }
}

fn terminal_width() -> usize {
    columns(libc::STDERR_FILENO).unwrap_or(USUAL_COLUMNS)
}

/// How wide a terminal is where nobody says it.
pub(super) const USUAL_COLUMNS: usize = 80;

/// The width of the terminal that a descriptor leads to; none where it leads to no terminal.
pub(super) fn columns(descriptor: libc::c_int) -> Option<usize> {
    // SAFETY: the structure is plain data and the call writes it or fails.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        match libc::ioctl(descriptor, libc::TIOCGWINSZ, &mut size) {
            0 => Some(usize::from(size.ws_col)),
            _ => None,
        }
    };
    size.filter(|columns| *columns > 0)
}
