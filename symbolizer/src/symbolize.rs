//! Addresses to frames.
//!
//! `blazesym` reads symbols and DWARF. Around it, this module makes sure that
//!
//! - an object is read by its open handle (`/proc/self/fd/N`), so a deleted, replaced or namespaced file is
//!   the one that ran. `blazesym` caches by device, inode, length and modification time, which it asks of
//!   the path again at every call (its automatic reload, on here), and it keeps the file open, so the inode
//!   can't be given away: a handle's number that is used again never yields another object's names;
//! - each object is asked by itself and step by step (debug file, DWARF, symbols), so a broken one costs no
//!   other its names, and its own only as far as it is broken;
//! - no answer is empty: what has no name is `module+0xaddress`;
//! - names are demangled once, and each address is asked once, however many windows it appears in.
//!
//! `blazesym` maps the files it reads. One that shrinks meanwhile raises SIGBUS; a changed file is refused
//! before it is mapped, which leaves the time of one call. Its own search for debug files is turned off
//! (see `debug_file`), and its demangling too, which keeps no mangled name.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blazesym::MaybeDefault;
use blazesym::symbolize::source::{Elf, Kernel, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized};

use crate::object::{ObjectFile, ObjectKey};
use crate::{Frame, FrameKind};

mod debug_file;
mod demangle;
mod mapped;
mod names;
mod packed;

use names::{FrameCache, Strings};
use packed::PackedFrames;

/// Addresses whose frames are remembered; a 10 s window of a busy service has some thousands.
const CACHED_ADDRESSES: usize = 32 << 10;
/// Objects that are remembered at once; past it, all are forgotten. Each may hold two open files.
const MAX_OBJECTS: usize = 256;
/// Functions inlined into one another at one address.
const MAX_INLINED: usize = 64;
/// A longer source path is cut.
const MAX_PATH: usize = 1024;
/// Addresses asked for at once; between parts the file's pages are given back. Chosen by the `symbolize`
/// benchmark: for 2,000 addresses of a 66 MB debug build all at once peak at 90 MB, parts of 512 at 62 MB
/// and parts of 64 at 44 MB, in the same time.
const PART: usize = 64;
/// How the kernel is called where a module's name would stand.
const KERNEL: &str = "[kernel]";

/// What symbolizing came across.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SymbolizeStatistics {
    /// Addresses that were given.
    pub asked: u64,
    /// Addresses that were not in the cache and got a name.
    pub named: u64,
    /// Addresses that were not in the cache and are `module+0xaddress`.
    pub unnamed: u64,
    /// Calls for an object whose file has changed since it was opened.
    pub changed_objects: u64,
    /// Reads of an object that ended in an error.
    pub failed_reads: u64,
}

/// Turns addresses into frames and remembers them.
///
/// Not [`Send`]: keep it on one thread, and send requests there.
pub struct Symbolizer {
    reader: blazesym::symbolize::Symbolizer,
    debug_directories: Vec<PathBuf>,
    objects: HashMap<ObjectKey, Sources>,
    next_object: u64,
    strings: Strings,
    frames: FrameCache<(u64, u64)>,
    kernel_frames: FrameCache<u64>,
    /// What was named before the last [`Symbolizer::pack`].
    packed: PackedFrames<(u64, u64)>,
    statistics: SymbolizeStatistics,
}

/// Where an object's names come from.
struct Sources {
    id: u64,
    debug_file: Option<Arc<File>>,
    /// An image from memory, as a file.
    image: Option<Arc<File>>,
}

impl Default for Symbolizer {
    fn default() -> Symbolizer {
        Symbolizer::new()
    }
}

impl Symbolizer {
    /// A symbolizer that looks for debug files where distributions put them.
    pub fn new() -> Symbolizer {
        Symbolizer::with_debug_directories(vec![PathBuf::from(debug_file::DEFAULT_DIRECTORY)])
    }

    /// A symbolizer that looks for debug files below `directories`, in the target's root and in this
    /// machine's.
    pub fn with_debug_directories(directories: Vec<PathBuf>) -> Symbolizer {
        Symbolizer {
            reader: reader(),
            debug_directories: directories,
            objects: HashMap::new(),
            next_object: 0,
            strings: Strings::default(),
            frames: FrameCache::new(CACHED_ADDRESSES),
            kernel_frames: FrameCache::new(CACHED_ADDRESSES / 4),
            packed: PackedFrames::new(CACHED_ADDRESSES),
            statistics: SymbolizeStatistics::default(),
        }
    }

    /// What was seen so far.
    pub fn statistics(&self) -> &SymbolizeStatistics {
        &self.statistics
    }

    /// The frames at each address of `object`, in the object's own terms, the innermost inlined function
    /// first. For a caller give the return address less one.
    ///
    /// Every answer has at least one frame. Give all addresses of an object in one call.
    pub fn symbolize(&mut self, object: &ObjectFile, addresses: &[u64]) -> Vec<Vec<Frame>> {
        let id = self.sources(object);
        let mut answers: Vec<Option<Arc<[Frame]>>> =
            addresses.iter().map(|address| self.remembered((id, *address))).collect();
        let missing = missing(addresses, &answers);
        if !missing.is_empty() {
            // A file that changed says nothing; what another handle of the same object says is kept.
            let unchanged = object.is_unchanged();
            self.statistics.changed_objects += u64::from(!unchanged);
            let found = if unchanged { self.read(object, &missing) } else { vec![None; missing.len()] };
            let module = match object.file_name() {
                "" => "[unknown]",
                name => name,
            };
            let found = self.complete(module, FrameKind::Native, &missing, found);
            fill(addresses, &missing, &found, &mut answers);
            for (address, frames) in missing.into_iter().zip(found).filter(|_| unchanged) {
                self.frames.insert((id, address), frames, &mut self.strings);
            }
        }
        self.finish(answers)
    }

    /// The frame at each address of the kernel; `[kernel]+0x…` where the system hides its symbols
    /// (`kernel.kptr_restrict`).
    pub fn symbolize_kernel(&mut self, addresses: &[u64]) -> Vec<Vec<Frame>> {
        let strings = &mut self.strings;
        let known = addresses.iter().map(|address| self.kernel_frames.get(*address, strings));
        let mut answers: Vec<Option<Arc<[Frame]>>> = known.collect();
        let missing = missing(addresses, &answers);
        if !missing.is_empty() {
            // The running kernel's own table; a file on disk may be another kernel's.
            let kernel = Kernel { vmlinux: MaybeDefault::None, debug_syms: false, ..Kernel::default() };
            let mut found = vec![None; missing.len()];
            self.ask(&Source::Kernel(kernel), Input::AbsAddr(&missing), &mut found);
            for frame in found.iter_mut().flatten().flatten() {
                frame.kind = FrameKind::Kernel;
            }
            let found = self.complete(KERNEL, FrameKind::Kernel, &missing, found);
            fill(addresses, &missing, &found, &mut answers);
            for (address, frames) in missing.into_iter().zip(found) {
                self.kernel_frames.insert(address, frames, &mut self.strings);
            }
        }
        self.finish(answers)
    }

    /// What was found before; an entry that was packed is as new again, so that it is put together once per window.
    fn remembered(&mut self, key: (u64, u64)) -> Option<Arc<[Frame]>> {
        let strings = &mut self.strings;
        self.frames.get(key, strings).or_else(|| {
            let frames = self.packed.get(&key, strings)?;
            self.frames.insert(key, Arc::clone(&frames), strings);
            Some(frames)
        })
    }

    fn finish(&mut self, answers: Vec<Option<Arc<[Frame]>>>) -> Vec<Vec<Frame>> {
        self.statistics.asked += answers.len() as u64;
        answers.into_iter().map(|answer| answer.expect("every address was answered").to_vec()).collect()
    }

    /// Forgets what was read from object files, but not the names of addresses. The next new address of an
    /// object costs a cold read again; worth it when memory matters more than the time of the next window.
    pub fn release(&mut self) {
        self.forget_objects();
        // The allocator keeps what was freed for itself otherwise.
        #[cfg(target_env = "gnu")]
        // SAFETY: gives free pages back; touches nothing that is in use.
        unsafe {
            libc::malloc_trim(0);
        }
    }

    /// As [`Symbolizer::release`], for a process that is not one's own: the names of addresses move together, and it is left to
    /// the allocator what becomes of the memory.
    pub fn pack(&mut self) {
        self.forget_objects();
        for (key, frames) in self.frames.take() {
            self.packed.insert(key, &frames);
        }
        self.strings = Strings::default();
    }

    fn forget_objects(&mut self) {
        self.reader = reader();
    }

    /// The object's number in the cache; finds its debug file when it is new.
    fn sources(&mut self, object: &ObjectFile) -> u64 {
        if let Some(sources) = self.objects.get(object.key()) {
            return sources.id;
        }
        if self.objects.len() >= MAX_OBJECTS {
            self.objects.clear();
            self.reader = reader();
        }
        let id = self.next_object;
        self.next_object += 1;
        let debug_file = debug_file::find(object, &self.debug_directories)
            .and_then(|debug_file| debug_file.file().map(Arc::clone));
        let image = object.image().and_then(|image| memory_file(image)).map(Arc::new);
        self.objects.insert(object.key().clone(), Sources { id, debug_file, image });
        id
    }

    /// Reads the frames at `addresses`, which ascend, from the object's sources, best first.
    fn read(&mut self, object: &ObjectFile, addresses: &[u64]) -> Vec<Option<Vec<Frame>>> {
        let mut found = vec![None; addresses.len()];
        let sources = self.objects.get(object.key());
        let debug_file = sources.and_then(|sources| sources.debug_file.clone());
        let image = sources.and_then(|sources| sources.image.clone());
        let file = object.file().cloned().or(image);
        for (file, dwarf) in [(debug_file, true), (file.clone(), true), (file, false)] {
            let Some(file) = file else { continue };
            if found.iter().any(Option::is_none) {
                self.ask_file(&file, dwarf, addresses, &mut found);
            }
        }
        found
    }

    /// Asks `file` for what is not yet found.
    fn ask_file(&mut self, file: &File, dwarf: bool, addresses: &[u64], found: &mut [Option<Vec<Frame>>]) {
        let mut elf = Elf::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
        elf.debug_syms = dwarf;
        let open: Vec<usize> = (0..found.len()).filter(|index| found[*index].is_none()).collect();
        let asked: Vec<u64> = open.iter().map(|index| addresses[*index]).collect();
        let mut answers = vec![None; asked.len()];
        let source = Source::Elf(elf);
        // In parts, so that the pages of the whole file are never all held at once.
        for (asked, answers) in asked.chunks(PART).zip(answers.chunks_mut(PART)) {
            let read = self.ask(&source, Input::VirtOffset(asked), answers);
            mapped::give_back(file);
            // What broke once breaks for every part, each time from the start.
            if !read {
                break;
            }
        }
        for (index, answer) in open.into_iter().zip(answers) {
            found[index] = answer;
        }
    }

    /// Asks `blazesym`, whose errors and panics end here; false after either.
    fn ask(
        &mut self,
        source: &Source<'_>,
        addresses: Input<&[u64]>,
        found: &mut [Option<Vec<Frame>>],
    ) -> bool {
        let (reader, strings) = (&self.reader, &mut self.strings);
        let answered = catch_unwind(AssertUnwindSafe(|| {
            let symbols = reader.symbolize(source, addresses).ok()?;
            for (symbol, found) in symbols.iter().zip(found) {
                if let Symbolized::Sym(symbol) = symbol {
                    *found = frames_of(symbol, strings);
                }
            }
            Some(())
        }));
        if answered.is_err() {
            self.reader = self::reader();
        }
        let read = matches!(answered, Ok(Some(())));
        self.statistics.failed_reads += u64::from(!read);
        read
    }

    fn complete(
        &mut self,
        module: &str,
        kind: FrameKind,
        addresses: &[u64],
        found: Vec<Option<Vec<Frame>>>,
    ) -> Vec<Arc<[Frame]>> {
        addresses
            .iter()
            .zip(found)
            .map(|(address, frames)| match frames {
                Some(frames) => {
                    self.statistics.named += 1;
                    frames.into()
                }
                None => {
                    self.statistics.unnamed += 1;
                    [unnamed(&mut self.strings, module, *address, kind)].into()
                }
            })
            .collect()
    }
}

fn reader() -> blazesym::symbolize::Symbolizer {
    blazesym::symbolize::Symbolizer::builder()
        .enable_auto_reload(true)
        .enable_code_info(true)
        .enable_inlined_fns(true)
        .enable_demangling(false)
        .set_debug_dirs(Some(std::iter::empty::<&Path>()))
        .build()
}

/// The addresses without an answer, ascending, each once.
fn missing(addresses: &[u64], answers: &[Option<Arc<[Frame]>>]) -> Vec<u64> {
    let open = addresses.iter().zip(answers).filter(|(_, answer)| answer.is_none());
    let mut missing: Vec<u64> = open.map(|(address, _)| *address).collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

/// Answers `addresses` with what was found for the missing ones.
fn fill(addresses: &[u64], missing: &[u64], found: &[Arc<[Frame]>], answers: &mut [Option<Arc<[Frame]>>]) {
    for (address, answer) in addresses.iter().zip(answers) {
        if let (None, Ok(at)) = (&answer, missing.binary_search(address)) {
            *answer = Some(Arc::clone(&found[at]));
        }
    }
}

/// The frames of one symbol, the innermost first; `None` where it has no name.
fn frames_of(symbol: &Sym<'_>, strings: &mut Strings) -> Option<Vec<Frame>> {
    let outermost = (&*symbol.name, symbol.code_info.as_deref());
    let inlined = symbol.inlined.iter().map(|inlined| (&*inlined.name, inlined.code_info.as_ref()));
    let mut frames: Vec<Frame> = std::iter::once(outermost)
        .chain(inlined)
        .filter(|(name, _)| !name.is_empty())
        .take(MAX_INLINED)
        .map(|(name, code)| frame(name, code, strings))
        .collect();
    frames.reverse();
    (!symbol.name.is_empty()).then_some(frames)
}

fn frame(name: &str, code: Option<&CodeInfo<'_>>, strings: &mut Strings) -> Frame {
    let (function, system_name, mangling) = strings.demangled(name);
    let file = code.map(|code| code.to_path().to_string_lossy().into_owned());
    let file = file.map(|file| strings.get(&clean(&file, MAX_PATH)));
    let is_rust = file.as_deref().is_some_and(|file| file.ends_with(".rs"));
    Frame {
        function,
        system_name,
        file,
        line: code.and_then(|code| code.line).unwrap_or(0),
        kind: if is_rust { FrameKind::Rust } else { mangling },
    }
}

fn unnamed(strings: &mut Strings, module: &str, address: u64, kind: FrameKind) -> Frame {
    let name = strings.get(&format!("{}+{address:#x}", clean(module, MAX_PATH)));
    Frame { function: Arc::clone(&name), system_name: name, file: None, line: 0, kind }
}

/// At most `limit` characters, none of which breaks a line-based format.
fn clean(text: &str, limit: usize) -> String {
    text.chars().take(limit).map(|character| if character.is_control() { '?' } else { character }).collect()
}

/// The image as a file of this process, which is what `blazesym` reads.
fn memory_file(image: &[u8]) -> Option<File> {
    use std::io::Write as _;
    // SAFETY: the name is a terminated string.
    let fd = unsafe { libc::memfd_create(c"spanprof-image".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return None;
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(image).ok()?;
    Some(file)
}
