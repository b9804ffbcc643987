//! One ELF object as a profiler needs it: what it is, where its code lies, and its bytes on demand.
//!
//! The file is opened once and the handle kept, so an executable that is deleted or replaced after that
//! still has its tables and names. Sections are read with `pread` into memory of bounded size; nothing is
//! mapped, because a mapped file that shrinks raises SIGBUS in the reader, and these files belong to
//! somebody else. For the same reason the headers are decoded here (three records of fixed size, see
//! `headers`) and not by a library that wants the whole file in memory or caches what it read without a
//! bound; the tests compare the result with the `object` crate's.
//!
//! Follows the System V ABI (ELF-64, little endian) and the GNU build-id note.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod build_id;
mod headers;
mod large_read;

use headers::Headers;
pub(crate) use large_read::LargeRead;

/// Program headers and section headers past this count make a file malformed; real ones have dozens.
const MAX_PROGRAM_HEADERS: u16 = 1024;

/// The largest piece of a file that is read at once.
pub(crate) const MAX_READ: u64 = 128 << 20;

/// What a processor runs, as far as the unwinder cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// x86-64.
    X86_64,
    /// AArch64.
    Aarch64,
    /// Anything else, by its ELF machine number.
    Other(u16),
}

/// One executable `PT_LOAD` segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where the segment wants to lie in memory, before relocation.
    pub vaddr: u64,
    /// Where its bytes start in the file.
    pub file_offset: u64,
    /// How many bytes the file has for it.
    pub file_size: u64,
    /// How many bytes it takes in memory.
    pub mem_size: u64,
}

/// A section that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) name: Box<[u8]>,
    pub(crate) vaddr: u64,
    pub(crate) file_offset: u64,
    pub(crate) size: u64,
    /// False where the file holds no bytes for it, as in a separate debug file.
    pub(crate) has_bytes: bool,
}

/// Which object this is, the same for every process that maps it.
///
/// The build id alone would confuse a stripped file with its full twin, whose names differ, so the
/// length goes with it. A file made to have another's build id and length passes for it: a key is for
/// sharing work between targets that one person chose to profile, not for telling friend from foe.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ObjectKey {
    /// By build id and length in bytes.
    BuildId(Arc<str>, u64),
    /// By place on disk and time, for files without a build id.
    File {
        /// The device's number.
        device: u64,
        /// The inode's number on that device.
        inode: u64,
        /// Length in bytes.
        length: u64,
        /// Last modification, nanoseconds since 1970.
        modified: i128,
    },
    /// By content, for images without a build id that came from memory: length and a 64-bit hash.
    Image(u64, u64),
}

/// Why a file can't serve as an object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// The file could not be opened.
    #[error("cannot open {}: {error}", path.display())]
    Open {
        /// The path that was tried.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A device, directory, pipe or socket.
    #[error("not a regular file")]
    NotAFile,
    /// The file could not be read, or ended early.
    #[error("cannot read: {0}")]
    Read(#[from] io::Error),
    /// The file is no ELF file.
    #[error("not an ELF file")]
    NotElf,
    /// A 32-bit or big-endian object.
    #[error("only 64-bit little-endian ELF is supported")]
    UnsupportedFormat,
    /// A header contradicts itself or the file.
    #[error("malformed ELF: {0}")]
    Malformed(&'static str),
    /// A part is larger than spanprof reads.
    #[error("{what} has {size} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The most that is read, in bytes.
        limit: u64,
    },
}

#[derive(Debug)]
enum Source {
    /// The file, and its last modification when it was opened, nanoseconds since 1970.
    File(Arc<File>, i128),
    Image(Arc<[u8]>),
}

/// An ELF object that is open: a program, a shared library or the vdso.
#[derive(Debug)]
pub struct ObjectFile {
    source: Source,
    length: u64,
    display_name: Arc<str>,
    root: PathBuf,
    architecture: Architecture,
    build_id: Option<Arc<str>>,
    key: ObjectKey,
    segments: Vec<Segment>,
    sections: Vec<Section>,
    eh_frame_header: Option<(u64, u64, u64)>,
}

impl ObjectFile {
    /// Opens the object at `path`; `display_name` is what people know it by, such as the path inside the
    /// target's own root.
    ///
    /// Errors: the file is missing, no regular file (a pipe in its place does not block), no 64-bit
    /// little-endian ELF, or malformed.
    pub fn open(path: &Path, display_name: &str) -> Result<ObjectFile, ObjectError> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC)
            .open(path)
            .map_err(|error| ObjectError::Open { path: path.to_path_buf(), error })?;
        let mut object = ObjectFile::from_file(file, display_name)?;
        let root = path.to_str().and_then(|path| path.strip_suffix(display_name));
        if let Some(root) = root.filter(|_| display_name.starts_with('/')) {
            object.root = PathBuf::from(root);
        }
        Ok(object)
    }

    /// Takes over a file that is open for reading; errors as [`ObjectFile::open`].
    pub fn from_file(file: File, display_name: &str) -> Result<ObjectFile, ObjectError> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(ObjectError::NotAFile);
        }
        let key = file_key(&metadata);
        let source = Source::File(Arc::new(file), modified_at(&metadata));
        ObjectFile::parse(source, metadata.len(), display_name, key)
    }

    /// Takes an image from memory, such as the vdso; errors as [`ObjectFile::open`].
    pub fn from_bytes(image: impl Into<Arc<[u8]>>, display_name: &str) -> Result<ObjectFile, ObjectError> {
        let image = image.into();
        let length = image.len() as u64;
        let key = ObjectKey::Image(length, fnv1a(&image));
        ObjectFile::parse(Source::Image(image), length, display_name, key)
    }

    fn parse(
        source: Source,
        length: u64,
        display_name: &str,
        fallback_key: ObjectKey,
    ) -> Result<ObjectFile, ObjectError> {
        let read = |offset, size| read(&source, length, offset, size);
        let headers = Headers::read(&read)?;
        let build_id: Option<Arc<str>> = build_id::find(&headers, &read).map(Arc::from);
        let key = match &build_id {
            Some(id) => ObjectKey::BuildId(Arc::clone(id), length),
            None => fallback_key,
        };
        Ok(ObjectFile {
            length,
            display_name: Arc::from(display_name),
            root: PathBuf::new(),
            architecture: headers.architecture,
            build_id,
            key,
            segments: headers.executable_segments(),
            eh_frame_header: headers.eh_frame_header(),
            sections: headers.sections,
            source,
        })
    }

    /// What people know this object by.
    pub fn display_name(&self) -> &str {
        &self.display_name
    }

    /// The last part of the display name: `libc.so.6`.
    pub fn file_name(&self) -> &str {
        match self.display_name.rsplit('/').next() {
            Some(name) if !name.is_empty() => name,
            _ => &self.display_name,
        }
    }

    /// The GNU build id in lower-case hex, where the linker wrote one.
    pub fn build_id(&self) -> Option<&str> {
        self.build_id.as_deref()
    }

    /// Which object this is, for caches shared between processes.
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// What the code runs on.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// The executable segments, by ascending address.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The address that the code at `file_offset` has in the object's own terms.
    ///
    /// Mappings start at whole pages, so an offset that lies in an executable segment's first or last page
    /// but outside its bytes is translated too. `None` where no executable segment is near.
    pub fn file_offset_to_address(&self, file_offset: u64) -> Option<u64> {
        const PAGE: u64 = 4096;
        let exact = self.segments.iter().find(|segment| {
            file_offset >= segment.file_offset && file_offset - segment.file_offset < segment.file_size
        });
        let segment = exact.or_else(|| {
            self.segments.iter().find(|segment| {
                let start = segment.file_offset & !(PAGE - 1);
                let end = segment
                    .file_offset
                    .saturating_add(segment.file_size)
                    .checked_next_multiple_of(PAGE)
                    .unwrap_or(u64::MAX);
                (start..end).contains(&file_offset)
            })
        })?;
        Some(file_offset.wrapping_sub(segment.file_offset).wrapping_add(segment.vaddr))
    }

    /// The open file, unless the object came from memory.
    pub fn file(&self) -> Option<&Arc<File>> {
        match &self.source {
            Source::File(file, _) => Some(file),
            Source::Image(_) => None,
        }
    }

    /// The bytes, if the object came from memory.
    pub(crate) fn image(&self) -> Option<&Arc<[u8]>> {
        match &self.source {
            Source::File(..) => None,
            Source::Image(image) => Some(image),
        }
    }

    /// The target's root, where the object was opened as a path below it; empty for this machine's own.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the file itself has DWARF.
    pub(crate) fn has_debug_information(&self) -> bool {
        self.sections_named(b".debug_info")
            .chain(self.sections_named(b".zdebug_info"))
            .any(|section| section.has_bytes)
    }

    /// Whether the file still is what it was when it was opened: same length, same modification time.
    ///
    /// A file that was overwritten in place no longer says anything about the code that ran.
    pub fn is_unchanged(&self) -> bool {
        let Source::File(file, modified) = &self.source else { return true };
        file.metadata()
            .is_ok_and(|metadata| metadata.len() == self.length && modified_at(&metadata) == *modified)
    }

    /// The sections whose name starts with `prefix`.
    pub(crate) fn sections_named<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = &'a Section> {
        self.sections.iter().filter(move |section| section.name.starts_with(prefix))
    }

    /// `PT_GNU_EH_FRAME`: address, file offset and size.
    pub(crate) fn eh_frame_header(&self) -> Option<(u64, u64, u64)> {
        self.eh_frame_header
    }

    /// Reads `size` bytes from `offset` of the file.
    pub(crate) fn read(&self, offset: u64, size: u64) -> Result<Vec<u8>, ObjectError> {
        read(&self.source, self.length, offset, size)
    }

    /// As [`ObjectFile::read`], for what is large and soon done with.
    pub(crate) fn read_large(&self, offset: u64, size: u64) -> Result<LargeRead, ObjectError> {
        check_extent(self.length, offset, size)?;
        let mut bytes = LargeRead::new(size as usize)?;
        match &self.source {
            Source::File(file, _) => file.read_exact_at(&mut bytes, offset)?,
            Source::Image(image) => bytes.copy_from_slice(&image[offset as usize..(offset + size) as usize]),
        }
        Ok(bytes)
    }

    /// How many bytes follow `offset`.
    pub(crate) fn bytes_after(&self, offset: u64) -> u64 {
        self.length.saturating_sub(offset)
    }
}

fn check_extent(length: u64, offset: u64, size: u64) -> Result<(), ObjectError> {
    if size > MAX_READ {
        return Err(ObjectError::TooLarge { what: "a part", size, limit: MAX_READ });
    }
    let end = offset.checked_add(size).ok_or(ObjectError::Malformed("an offset overflows"))?;
    if end > length {
        return Err(ObjectError::Malformed("a part lies past the end of the file"));
    }
    Ok(())
}

fn read(source: &Source, length: u64, offset: u64, size: u64) -> Result<Vec<u8>, ObjectError> {
    check_extent(length, offset, size)?;
    match source {
        Source::File(file, _) => {
            let mut bytes = vec![0; size as usize];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        }
        Source::Image(image) => Ok(image[offset as usize..(offset + size) as usize].to_vec()),
    }
}

fn modified_at(metadata: &std::fs::Metadata) -> i128 {
    i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec())
}

fn file_key(metadata: &std::fs::Metadata) -> ObjectKey {
    ObjectKey::File {
        device: metadata.dev(),
        inode: metadata.ino(),
        length: metadata.len(),
        modified: modified_at(metadata),
    }
}

/// Fowler, Noll and Vo's 64-bit hash: only tells images of one machine's memory apart.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
