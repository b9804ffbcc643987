//! The file behind a mapping, also when its path no longer leads there.
//!
//! A path in `maps` is the process's own: it may lie in another mount namespace, may have been removed,
//! or replaced by an upgrade. Three ways are tried, best first: `/proc/PID/map_files` (exact, needs
//! privilege), `/proc/PID/root` + path with its inode compared, and `/proc/PID/exe`. The plain path was
//! refused: it names whatever lies there *for us*.
//!
//! The process may also have put a device or a pipe there, or swap it between two calls. So a file is
//! opened as a mere handle first (`O_PATH`: no driver is asked), checked, and only then opened for
//! reading through that handle.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use super::Pid;
use super::maps::{DeviceNumber, Mapping, MappingPath};
use super::process::ProcessError;
use super::procfs::ProcFs;

/// The vdso has two or four pages on the architectures that we know.
const MAX_VDSO_BYTES: u64 = 256 << 10;

/// Why the file behind a mapping could not be had.
#[derive(Debug, thiserror::Error)]
pub enum MappedFileError {
    /// The process itself cannot be read.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Nothing lies behind this mapping that could be opened.
    #[error("the mapping at {start:#x} has no file")]
    NoFile {
        /// Where the mapping begins.
        start: u64,
    },
    /// Something else lies at the path now, and the exact way needs a privilege.
    #[error(
        "{path:?} was replaced or removed since process {pid} mapped it; as root, or with \
         CAP_CHECKPOINT_RESTORE, it could still be read"
    )]
    Replaced {
        /// The process.
        pid: Pid,
        /// The path as the process knows it.
        path: PathBuf,
    },
}

impl MappedFileError {
    /// The capability that would help, where one would.
    pub fn missing_capability(&self) -> Option<&'static str> {
        match self {
            MappedFileError::Process(error) => error.missing_capability(),
            MappedFileError::Replaced { .. } => Some("CAP_CHECKPOINT_RESTORE"),
            MappedFileError::NoFile { .. } => None,
        }
    }
}

/// Opens the file that a mapping was made from, for reading.
///
/// # Errors
/// When the mapping has no file, the process is gone or may not be read, or the file was replaced and
/// nothing still leads to it.
pub fn open_mapped_file(procfs: &ProcFs, pid: Pid, mapping: &Mapping) -> Result<File, MappedFileError> {
    let no_file = MappedFileError::NoFile { start: mapping.start };
    if mapping.inode == 0 {
        return Err(no_file);
    }
    let exact = procfs.path(pid, "map_files").join(format!("{:x}-{:x}", mapping.start, mapping.end));
    // The kernel resolves this to the very file; only a mapping that changed meanwhile can mislead.
    if let Ok(file) = open_checked(&exact, mapping) {
        return Ok(file);
    }
    let MappingPath::File { path, .. } = &mapping.path else { return Err(no_file) };
    let inside = path.as_os_str().as_bytes().strip_prefix(b"/").unwrap_or_default();
    let by_path = match open_checked(&procfs.path(pid, "root").join(OsStr::from_bytes(inside)), mapping) {
        Ok(file) => return Ok(file),
        Err(error) => error,
    };
    if let Ok(file) = open_checked(&procfs.path(pid, "exe"), mapping) {
        return Ok(file);
    }
    if !procfs.path(pid, "stat").exists() {
        return Err(ProcessError::NoSuchProcess { pid }.into());
    }
    match by_path.raw_os_error() {
        // No error number: it was opened and is another file.
        None | Some(libc::ENOENT | libc::ENOTDIR) => {
            Err(MappedFileError::Replaced { pid, path: path.clone() })
        }
        _ => Err(ProcessError::from_io(pid, "root", by_path).into()),
    }
}

/// The bytes of the vdso of a process.
///
/// # Errors
/// When the mapping is not the vdso, or the process is gone or may not be read.
pub fn read_vdso(procfs: &ProcFs, pid: Pid, mapping: &Mapping) -> Result<Vec<u8>, MappedFileError> {
    if mapping.path != MappingPath::Vdso {
        return Err(MappedFileError::NoFile { start: mapping.start });
    }
    let length = (mapping.end - mapping.start).min(MAX_VDSO_BYTES);
    let mut bytes = Vec::new();
    File::open(procfs.path(pid, "mem"))
        .and_then(|mut memory| {
            memory.seek(SeekFrom::Start(mapping.start))?;
            memory.take(length).read_to_end(&mut bytes)
        })
        .map_err(|error| ProcessError::from_io(pid, "mem", error))?;
    Ok(bytes)
}

fn open_checked(path: &std::path::Path, mapping: &Mapping) -> io::Result<File> {
    let handle = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path)?;
    let metadata = handle.metadata()?;
    if !metadata.is_file() || !is_same_file(metadata.dev(), metadata.ino(), mapping) {
        return Err(io::Error::other("another file lies there"));
    }
    File::open(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

/// Whether a file with this device and inode is the mapped one.
///
/// The inode alone decides where the devices differ: btrfs and overlayfs show another device in `maps`
/// than `stat` does. At the same path, the same inode on another device by chance is next to impossible.
fn is_same_file(device: u64, inode: u64, mapping: &Mapping) -> bool {
    if inode != mapping.inode {
        return false;
    }
    let found = DeviceNumber { major: libc::major(device), minor: libc::minor(device) };
    // Major 0 is a file system without a device of its own: those are the ones that differ.
    found == mapping.device || found.major == 0 || mapping.device.major == 0
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::targets::maps::CodeMappings;

    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// A copy of `cat` that runs from a directory of its own, blocked on its standard input.
    fn running_copy(directory: &std::path::Path) -> (PathBuf, Running) {
        let program = directory.join("copied-cat");
        std::fs::copy("/bin/cat", &program).unwrap();
        let mut child = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // One byte through and back: it runs its own code now, not ours before exec.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        (program, Running(child))
    }

    fn code_of(pid: Pid, program: &std::path::Path) -> Mapping {
        let code = CodeMappings::read(&ProcFs::host(), pid).unwrap();
        code.mappings.into_iter().find(|mapping| mapping.file_path() == Some(program)).unwrap()
    }

    fn content(mut file: File) -> Vec<u8> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_removed_and_a_replaced_program_are_still_read() {
        let directory = tempfile::tempdir().unwrap();
        let (program, child) = running_copy(directory.path());
        let original = std::fs::read("/bin/cat").unwrap();
        let procfs = ProcFs::host();
        let pid = child.0.id();

        let mapping = code_of(pid, &program);
        assert_eq!(content(open_mapped_file(&procfs, pid, &mapping).unwrap()), original);

        std::fs::remove_file(&program).unwrap();
        let mapping = code_of(pid, &program);
        assert!(matches!(mapping.path, MappingPath::File { deleted: true, .. }));
        assert_eq!(content(open_mapped_file(&procfs, pid, &mapping).unwrap()), original);

        std::fs::write(&program, b"an upgrade").unwrap();
        assert_eq!(content(open_mapped_file(&procfs, pid, &mapping).unwrap()), original);
    }

    #[test]
    fn another_file_at_the_path_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (program, child) = running_copy(directory.path());
        let mapping = code_of(child.0.id(), &program);
        std::fs::remove_file(&program).unwrap();
        std::fs::write(&program, b"an upgrade").unwrap();
        // A proc directory in which only the way by path exists: what an unprivileged reader has.
        let fake = directory.path().join("proc/7");
        std::fs::create_dir_all(&fake).unwrap();
        std::fs::write(fake.join("stat"), "").unwrap();
        std::os::unix::fs::symlink("/", fake.join("root")).unwrap();
        let procfs = ProcFs::at(directory.path().join("proc"));
        let error = open_mapped_file(&procfs, 7, &mapping).unwrap_err();
        assert!(matches!(error, MappedFileError::Replaced { pid: 7, .. }), "{error}");
        assert_eq!(error.missing_capability(), Some("CAP_CHECKPOINT_RESTORE"));
    }

    #[test]
    fn a_pipe_at_the_path_does_not_block() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        let name = std::ffi::CString::new(pipe.as_os_str().as_bytes()).unwrap();
        // SAFETY: the name is a valid C string for the length of the call.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let metadata = std::fs::metadata(&pipe).unwrap();
        let mapping = Mapping {
            start: 0x1000,
            end: 0x2000,
            offset: 0,
            device: DeviceNumber { major: libc::major(metadata.dev()), minor: libc::minor(metadata.dev()) },
            inode: metadata.ino(),
            executable: true,
            path: MappingPath::File { path: pipe, deleted: false },
        };
        assert!(open_mapped_file(&ProcFs::host(), std::process::id(), &mapping).is_err());
    }

    #[test]
    fn memory_without_a_file_and_a_dead_process_say_so() {
        let mapping = Mapping {
            start: 0x1000,
            end: 0x2000,
            offset: 0,
            device: DeviceNumber { major: 0, minor: 0 },
            inode: 0,
            executable: true,
            path: MappingPath::Anonymous(None),
        };
        let procfs = ProcFs::host();
        assert!(matches!(open_mapped_file(&procfs, 1, &mapping), Err(MappedFileError::NoFile { .. })));
        let gone =
            Mapping { inode: 5, path: MappingPath::File { path: "/x".into(), deleted: false }, ..mapping };
        let error = open_mapped_file(&procfs, u32::MAX, &gone).unwrap_err();
        assert!(matches!(error, MappedFileError::Process(ProcessError::NoSuchProcess { .. })), "{error}");
    }

    #[test]
    fn our_vdso_is_an_elf_object() {
        let procfs = ProcFs::host();
        let pid = std::process::id();
        let code = CodeMappings::read(&procfs, pid).unwrap();
        let vdso = code.mappings.iter().find(|mapping| mapping.path == MappingPath::Vdso).unwrap();
        let bytes = read_vdso(&procfs, pid, vdso).unwrap();
        assert!(bytes.starts_with(b"\x7fELF"));
    }
}
