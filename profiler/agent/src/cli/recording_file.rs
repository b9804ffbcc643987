//! Recordings that are read again: a pprof file, the directory that `record` wrote, or windows that `attach --dir`
//! wrote.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use spanprof_exporter::directory::window_files;
use spanprof_exporter::{Profile, pprof};

use super::exit::{Exit, Failure};

/// The largest file that is read, compressed; windows, together.
const MAX_BYTES: u64 = 256 << 20;

/// What was read.
pub(crate) struct Recording {
    /// Of several windows, all added up.
    pub(crate) profile: Profile,
    /// How long was recorded, in nanoseconds, without the gaps between windows; 0 where the file does not say.
    pub(crate) nanoseconds: u64,
}

/// Reads a pprof file (`-` is standard input) or a directory.
///
/// # Errors
/// When it cannot be read, is no pprof file, or holds more than is read.
pub(crate) fn read(path: &Path) -> Result<Recording, Failure> {
    let whole = path.join("profile.pb.gz");
    if !path.is_dir() {
        return one(path);
    }
    if whole.exists() {
        return one(&whole);
    }
    windows(path)
}

fn one(path: &Path) -> Result<Recording, Failure> {
    let profile = decoded(path, &bytes(path, MAX_BYTES)?)?;
    Ok(Recording { nanoseconds: profile.duration_nanoseconds, profile })
}

fn windows(directory: &Path) -> Result<Recording, Failure> {
    let files = window_files(directory).map_err(|error| unreadable(directory, &error))?;
    if files.is_empty() {
        return Err(holds_nothing(directory));
    }
    let mut profile = Profile::default();
    let mut spans_of_time = Vec::with_capacity(files.len());
    let mut room = MAX_BYTES;
    // What a running `attach` removes meanwhile, to make room, is no error.
    for file in files.into_iter().filter(|file| file.exists()) {
        let bytes = bytes(&file, room)?;
        room -= bytes.len() as u64;
        let window = decoded(&file, &bytes)?;
        let begin = window.start_unix_nanoseconds;
        spans_of_time.push((begin, begin.saturating_add(window.duration_nanoseconds)));
        profile.absorb(&window);
    }
    Ok(Recording { profile, nanoseconds: covered(spans_of_time) })
}

/// How much time the windows cover; what several cover counts once.
fn covered(mut windows: Vec<(u64, u64)>) -> u64 {
    windows.sort_unstable();
    let (mut sum, mut until) = (0_u64, 0);
    for (begin, end) in windows {
        sum = sum.saturating_add(end.saturating_sub(begin.max(until)));
        until = until.max(end);
    }
    sum
}

fn bytes(path: &Path, room: u64) -> Result<Vec<u8>, Failure> {
    let reader: io::Result<Box<dyn Read>> = match path.as_os_str() == "-" {
        true => Ok(Box::new(io::stdin())),
        false => File::open(path).map(|file| Box::new(file) as Box<dyn Read>),
    };
    let mut bytes = Vec::new();
    reader
        .and_then(|reader| reader.take(room + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 <= room {
        return Ok(bytes);
    }
    Err(match room {
        MAX_BYTES => {
            let sentence = format!("{} is larger than {} MiB", path.display(), MAX_BYTES >> 20);
            Failure::new(Exit::Failed, sentence)
        }
        _ => {
            let sentence =
                format!("the windows up to {} are larger than {} MiB", path.display(), MAX_BYTES >> 20);
            Failure::new(Exit::Failed, sentence)
                .help("copy the windows that you mean into a directory of their own")
        }
    })
}

/// Reads a pprof file (`-` is standard input), and gives it as it is beside what it says.
///
/// # Errors
/// As [`read`].
pub(crate) fn bytes_and_profile(path: &Path) -> Result<(Vec<u8>, Profile), Failure> {
    let bytes = bytes(path, MAX_BYTES)?;
    let profile = decoded(path, &bytes)?;
    Ok((bytes, profile))
}

/// That there is nothing to read in a directory.
pub(crate) fn holds_nothing(directory: &Path) -> Failure {
    Failure::new(Exit::Failed, format!("{} holds no recording", directory.display()))
        .help("give a directory that `spanprof record --out` or `spanprof attach --dir` wrote")
}

/// That something can't be read.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot read {}: {error}", path.display()))
}

fn decoded(path: &Path, bytes: &[u8]) -> Result<Profile, Failure> {
    pprof::decode(bytes).map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot read {}: {error}", path.display()))
            .help("give a pprof file, such as the profile.pb.gz that `spanprof record` writes")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_between_windows_is_not_recorded_and_time_of_two_counts_once() {
        assert_eq!(covered(vec![]), 0);
        assert_eq!(covered(vec![(10, 20), (20, 30), (100, 107)]), 27);
        assert_eq!(covered(vec![(15, 18), (10, 20), (16, 25)]), 15);
        assert_eq!(covered(vec![(5, u64::MAX), (0, u64::MAX)]), u64::MAX);
    }
}
