//! The code that is loaded in this process: which file lies where, with its unwind table.
//!
//! Read from `/proc/self/maps` by the sampler alone. Signal handlers never come here (they copy stacks and the sampler unwinds
//! the copies), so nothing needs a lock or may not be freed. Asking the dynamic linker instead was refused: it holds its lock
//! meanwhile, under which the service may be loading a library for seconds.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use spanprof_context::maps::{self, Mapping};
use spanprof_symbolizer::unwind::{Rule, frame_pointer_distance};
use spanprof_symbolizer::{ObjectFile, UnwindTable};

use super::clock;

/// Executable mappings that are looked after; programs have some hundreds.
const MAX_MODULES: usize = 4 << 10;
/// Between two looks for the sake of an unknown address, nanoseconds. Code that is made at run time is in no file and stays
/// unknown; a look costs 40 microseconds and more.
const LOOK_INTERVAL: u64 = 20_000_000;
/// Addresses whose frame pointer is remembered; then all are asked for again. At 24 bytes each.
const MAX_DISTANCES: usize = 2 << 10;

/// A stretch of executable memory.
#[derive(Clone, Debug)]
pub(super) struct Module {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) file_offset: u64,
    pub(super) path: Arc<str>,
    /// What to take from an address here to have it in the object's own terms.
    pub(super) bias: u64,
    /// `None` where the file could not be opened or read.
    pub(super) object: Option<Arc<ObjectFile>>,
    table: Option<Arc<UnwindTable>>,
}

/// An object that was opened, with its table.
#[derive(Clone, Debug)]
struct Opened {
    object: Arc<ObjectFile>,
    table: Option<Arc<UnwindTable>>,
}

/// A file as the list of mappings names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FileKey {
    device: (u32, u32),
    inode: u64,
    name: String,
}

/// The code that is loaded now.
#[derive(Debug, Default)]
pub(super) struct Modules {
    /// By ascending address.
    loaded: Vec<Module>,
    /// Loaded earlier in this window.
    unloaded: Vec<Module>,
    opened: HashMap<FileKey, Option<Opened>>,
    mappings: Vec<Mapping>,
    /// When an unknown address may lead to the next look.
    next_look: u64,
    /// What was found of frame pointers, by address; of what is loaded now.
    distances: RefCell<HashMap<u64, Option<u64>>>,
}

/// The code that was loaded in one window, for naming its addresses.
#[derive(Debug, Default)]
pub(super) struct LoadedModules {
    all: Vec<Module>,
    /// How many of them, from the first, are by ascending address.
    sorted: usize,
}

impl Modules {
    /// Knows nothing before the first [`Modules::refresh`].
    pub(super) fn new() -> Modules {
        Modules::default()
    }

    /// Looks at what is loaded; opens what is new and forgets what is gone.
    pub(super) fn refresh(&mut self) {
        let Ok(mut mappings) = maps::read(std::process::id()) else { return };
        mappings.retain(|mapping| mapping.executable && !mapping.name.is_empty());
        mappings.truncate(MAX_MODULES);
        if mappings == self.mappings {
            return;
        }
        let before = std::mem::take(&mut self.loaded);
        self.loaded = mappings.iter().map(|mapping| self.module(mapping)).collect();
        let is_loaded = |module: &Module| {
            self.loaded.iter().any(|other| {
                (other.start, other.end, &other.path) == (module.start, module.end, &module.path)
            })
        };
        self.unloaded.extend(before.into_iter().filter(|module| !is_loaded(module)));
        self.unloaded.truncate(MAX_MODULES);
        self.opened.retain(|key, _| {
            mappings.iter().any(|mapping| mapping.inode == key.inode && mapping.name == key.name)
        });
        self.mappings = mappings;
        self.distances.get_mut().clear();
    }

    /// The rule at an address.
    pub(super) fn rule_at(&self, address: u64) -> Rule {
        let Some(module) = find(&self.loaded, address).map(|number| &self.loaded[number]) else {
            return Rule::NONE;
        };
        module.table.as_ref().map_or(Rule::NONE, |table| table.rule_at(address.wrapping_sub(module.bias)))
    }

    /// Looks at what is loaded if no code is known at an address: a library may have been loaded just now. Not too often.
    pub(super) fn refresh_for(&mut self, address: u64) {
        if self.knows(address) {
            return;
        }
        let now = clock::now();
        if now >= self.next_look {
            self.refresh();
            self.next_look = now + LOOK_INTERVAL;
        }
    }

    /// Whether code is known at an address.
    fn knows(&self, address: u64) -> bool {
        find(&self.loaded, address).is_some()
    }

    /// By how much rbp lies above rsp at an address; `None` where that does not follow from
    /// the function's code.
    ///
    /// The function is decoded the first time that an address is asked for: a program waits at a few dozen places.
    pub(super) fn frame_pointer_distance(&self, address: u64) -> Option<u64> {
        if let Some(distance) = self.distances.borrow().get(&address) {
            return *distance;
        }
        let distance = self.decode_distance(address);
        let mut distances = self.distances.borrow_mut();
        if distances.len() == MAX_DISTANCES {
            distances.clear();
        }
        distances.insert(address, distance);
        distance
    }

    fn decode_distance(&self, address: u64) -> Option<u64> {
        let module = &self.loaded[find(&self.loaded, address)?];
        let (object, table) = (module.object.as_ref()?, module.table.as_ref()?);
        let rule_at = |address| table.rule_at(address);
        frame_pointer_distance(object, address.wrapping_sub(module.bias), rule_at).ok()
    }

    /// What was loaded since the last call.
    pub(super) fn take(&mut self) -> LoadedModules {
        let mut all = self.loaded.clone();
        let sorted = all.len();
        all.append(&mut self.unloaded);
        LoadedModules { all, sorted }
    }

    fn module(&mut self, mapping: &Mapping) -> Module {
        let opened = self.open(mapping);
        let address = match &opened {
            // The kernel's own code is one segment whose addresses start at its beginning.
            Some(opened) if mapping.inode == 0 => {
                opened.object.segments().first().map(|segment| segment.vaddr)
            }
            Some(opened) => opened.object.file_offset_to_address(mapping.file_offset),
            None => None,
        };
        let object = opened.filter(|_| address.is_some());
        Module {
            start: mapping.start,
            end: mapping.end,
            file_offset: mapping.file_offset,
            path: mapping.name.as_str().into(),
            bias: mapping.start.wrapping_sub(address.unwrap_or(0)),
            table: object.as_ref().and_then(|opened| opened.table.clone()),
            object: object.map(|opened| opened.object),
        }
    }

    /// Opens a mapping's file once, however often it is mapped.
    fn open(&mut self, mapping: &Mapping) -> Option<Opened> {
        let key = FileKey { device: mapping.device, inode: mapping.inode, name: mapping.name.clone() };
        self.opened.entry(key).or_insert_with(|| open(mapping)).clone()
    }
}

fn open(mapping: &Mapping) -> Option<Opened> {
    let object = match mapping.name.as_str() {
        "[vdso]" => {
            let length = usize::try_from(mapping.end - mapping.start).ok()?;
            let mut image = vec![0; length];
            // Copied by the kernel, which also knows what may be read.
            let copied = super::handler::copy_memory(mapping.start, &mut image);
            image.truncate(copied);
            ObjectFile::from_bytes(image, "[vdso]").ok()?
        }
        name if name.starts_with('/') => open_file(mapping, name)?,
        _ => return None,
    };
    let table = UnwindTable::build(&object).ok().map(Arc::new);
    Some(Opened { object: Arc::new(object), table })
}

/// The file that is mapped, which may not be the one that has its path now.
fn open_file(mapping: &Mapping, name: &str) -> Option<ObjectFile> {
    let is_mapped = |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.ino() == mapping.inode);
    let name = name.strip_suffix(" (deleted)").unwrap_or(name);
    [Path::new(name), Path::new("/proc/self/exe")]
        .into_iter()
        .find(|path| is_mapped(path))
        .and_then(|path| ObjectFile::open(path, name).ok())
}

impl LoadedModules {
    /// The number of the module that holds an address: one that is loaded still, else one that was.
    pub(super) fn find(&self, address: u64) -> Option<usize> {
        let (loaded, unloaded) = self.all.split_at(self.sorted);
        find(loaded, address).or_else(|| {
            let found = unloaded.iter().position(|module| (module.start..module.end).contains(&address));
            found.map(|number| self.sorted + number)
        })
    }

    /// All modules, by number.
    pub(super) fn all(&self) -> &[Module] {
        &self.all
    }
}

fn find(modules: &[Module], address: u64) -> Option<usize> {
    let number = modules.partition_point(|module| module.start <= address).checked_sub(1)?;
    (address < modules[number].end).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_its_libraries_and_the_kernel_s_code_have_rules() {
        let mut modules = Modules::new();
        modules.refresh();
        let own = this_program_its_libraries_and_the_kernel_s_code_have_rules as *const () as u64;
        let library = libc::getpid as *const () as u64;
        for address in [own + 1, library] {
            assert_ne!(modules.rule_at(address), Rule::NONE);
        }
        let vdso = modules.loaded.iter().find(|module| &*module.path == "[vdso]").expect("there is one");
        assert!(vdso.table.is_some());
        assert!(!modules.knows(0) && modules.knows(own));
        let loaded = modules.take();
        let module = &loaded.all()[loaded.find(own).unwrap()];
        assert!(module.object.as_ref().is_some_and(|object| object.build_id().is_some()));
    }

    #[test]
    fn unknown_addresses_lead_to_few_looks() {
        let mut modules = Modules::new();
        let own = unknown_addresses_lead_to_few_looks as *const () as u64;
        modules.refresh_for(own);
        assert!(modules.knows(own));
        let next_look = modules.next_look;
        (0..1000).for_each(|_| modules.refresh_for(own));
        assert_eq!(modules.next_look, next_look);
        modules.next_look = u64::MAX;
        modules.loaded.clear();
        modules.refresh_for(own);
        assert!(!modules.knows(own));
    }

    /// Kilobytes of memory of this process's own, as the kernel says.
    fn anonymous_memory() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Run alone, with `--release --ignored --nocapture`.
    #[test]
    #[ignore = "prints what tables take"]
    fn what_tables_take() {
        let before = anonymous_memory();
        let begin = std::time::Instant::now();
        let mut modules = Modules::new();
        modules.refresh();
        let (time, after) = (begin.elapsed(), anonymous_memory());
        for opened in modules.opened.values().flatten() {
            let text: u64 = opened.object.segments().iter().map(|segment| segment.file_size).sum();
            let table = opened.table.as_ref().map_or(0, |table| table.size());
            println!("{:<40} {:>8} KB of code {:>6} KB", opened.object.file_name(), text >> 10, table >> 10);
        }
        println!("{time:?}, {} KB more memory", after - before);
        let begin = std::time::Instant::now();
        (0..100).for_each(|_| modules.refresh());
        println!("{:?} per look at what is loaded", begin.elapsed() / 100);
        let callers = [libc::qsort as *const () as u64 + 40, libc::printf as *const () as u64 + 40];
        let (before, begin) = (anonymous_memory(), std::time::Instant::now());
        let told = callers.map(|address| modules.frame_pointer_distance(address));
        println!(
            "{:?}, {} KB for the first distances {told:?}",
            begin.elapsed(),
            anonymous_memory() - before
        );
    }
}
