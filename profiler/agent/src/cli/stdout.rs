//! Results on standard output, which may be a pipe that closes early.

use std::io::{self, Write};

use super::exit::{Exit, Failure};
use super::progress::{USUAL_COLUMNS, columns};

/// How long a line may be: as wide as the terminal is; 80 where there is none, so that what was piped reads well too.
pub(crate) fn width() -> usize {
    columns(libc::STDOUT_FILENO).unwrap_or(USUAL_COLUMNS)
}

/// Writes a result. A reader that left (`| head`) is no failure: it has seen what it wanted.
///
/// # Errors
/// When it cannot be written for another reason, such as a full disk.
pub(crate) fn write(text: &str) -> Result<(), Failure> {
    write_bytes(text.as_bytes())
}

/// The same with what is no text.
///
/// # Errors
/// As [`write`].
pub(crate) fn write_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::new(Exit::Failed, format!("cannot write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Writes a value as indented JSON.
///
/// # Errors
/// As [`write`].
pub(crate) fn write_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot write JSON: {error}")))?;
    write(&format!("{text}\n"))
}
