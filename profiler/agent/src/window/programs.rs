//! Which object lies where in each process.
//!
//! An object is opened once however many processes map it, its unwind table is built once, and its file
//! stays open, so that names are found for what was deleted, replaced or has ended. A process's mappings
//! are read when it joins, after an exec, and when a stack leads to an address that no mapping holds.

use std::collections::HashMap;
use std::fmt;
use std::time::Instant;

use spanprof_symbolizer::object::ObjectKey;
use spanprof_symbolizer::{ObjectFile, UnwindTable};

use crate::capture::bpf::{CodeMapping, InstalledSegment};
use crate::capture::{ContextSlot, ProcessId};
use crate::targets::{
    CodeMappings, DeviceNumber, Mapping, MappingPath, ProcFs, Process, ProcessError, open_mapped_file,
    read_vdso, service_name,
};

/// An object within [`Programs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(u32);

/// One object's code at one place in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleId(u32);

/// Where an address lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The address in the process.
    pub address: u64,
    /// The module that holds it.
    pub module: Option<ModuleId>,
}

/// A file's code as mapped by at least one process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MappedModule {
    /// Where it begins in the process.
    pub start: u64,
    /// Where it ends (exclusive).
    pub end: u64,
    /// The offset in the file of its first byte.
    pub file_offset: u64,
    /// The path as the process sees it.
    pub path: String,
    /// The object, where it could be opened.
    pub object: Option<ObjectId>,
}

/// What is known of one process.
#[derive(Debug)]
pub struct Program {
    /// Its identity and names as last read.
    pub process: Process,
    /// What it calls its service.
    pub service: String,
    /// How its threads publish what they work on.
    pub context: ContextSlot,
    /// The names of the attributes in its thread records, by key index.
    pub attribute_keys: Vec<String>,
    /// When its mappings were last read.
    pub scanned: Instant,
    /// Whether it has ended.
    pub ended: bool,
    mappings: Vec<(Mapping, ModuleId)>,
}

/// What a look at a process's mappings gave.
#[derive(Debug)]
pub struct Scanned {
    /// For the kernel, sorted by start.
    pub code: Vec<CodeMapping>,
    /// Whether anything differs from the last look.
    pub changed: bool,
}

/// Why a process could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// It is gone or may not be read.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

struct Object {
    file: ObjectFile,
    tables: Vec<Table>,
}

/// The extent of one segment's table, and where the kernel has it.
struct Table {
    vaddr: u64,
    bytes: u64,
    installed: Option<InstalledSegment>,
}

/// Every process and object that the capture knows.
#[derive(Default)]
pub struct Programs {
    processes: HashMap<ProcessId, Program>,
    objects: Vec<Object>,
    by_key: HashMap<ObjectKey, ObjectId>,
    by_inode: HashMap<(DeviceNumber, u64), ObjectId>,
    vdso: Option<ObjectId>,
    modules: Vec<MappedModule>,
    module_ids: HashMap<MappedModule, ModuleId>,
    /// Objects that could not be opened or unwound, and tables that found no room, by cause.
    pub failures: HashMap<&'static str, u64>,
}

impl fmt::Debug for Programs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Programs")
            .field("processes", &self.processes.len())
            .field("objects", &self.objects.len())
            .finish_non_exhaustive()
    }
}

/// Puts a table's pages and rows into the kernel.
pub(super) type Install<'a> = dyn FnMut(&[u32], &[u32]) -> Option<InstalledSegment> + 'a;

impl Programs {
    /// Reads who a process is and what it has mapped. Tables of new objects are built and installed.
    ///
    /// # Errors
    /// When the process is gone, a kernel thread, or may not be read.
    pub fn scan(
        &mut self,
        procfs: &ProcFs,
        pid: ProcessId,
        install: &mut Install<'_>,
    ) -> Result<Scanned, ScanError> {
        let process = Process::read(procfs, pid)?.with_user_code()?;
        let read = CodeMappings::read(procfs, pid)?;
        let mut mappings = Vec::with_capacity(read.mappings.len());
        let mut code = Vec::with_capacity(read.mappings.len());
        for mapping in read.mappings {
            let object = self.object_of(procfs, pid, &mapping, install);
            let module = self.module(&mapping, object);
            self.add_code(&mapping, object, &mut code);
            mappings.push((mapping, module));
        }
        let previous = self.processes.get(&pid).filter(|known| known.process.key == process.key);
        let changed = previous.is_none_or(|known| known.mappings != mappings);
        let same_program = previous.is_some_and(|known| known.process.executable == process.executable);
        let (service, context, attribute_keys) = match previous {
            Some(known) if same_program => {
                (known.service.clone(), known.context, known.attribute_keys.clone())
            }
            _ => (service_name(procfs, &process, None), ContextSlot::Absent, Vec::new()),
        };
        let program = Program {
            process,
            service,
            context,
            attribute_keys,
            scanned: Instant::now(),
            ended: false,
            mappings,
        };
        self.processes.insert(pid, program);
        Ok(Scanned { code, changed })
    }

    /// A child has its parent's memory until it replaces its program. Gives the child's mappings for the
    /// kernel; `None` if the parent is not known.
    pub fn fork(&mut self, procfs: &ProcFs, parent: ProcessId, child: ProcessId) -> Option<Vec<CodeMapping>> {
        let program = self.processes.get(&parent)?;
        let process = Process::read(procfs, child).unwrap_or_else(|_| {
            let mut process = program.process.clone();
            process.key.pid = child;
            process
        });
        let child_program = Program {
            process,
            service: program.service.clone(),
            context: program.context,
            attribute_keys: program.attribute_keys.clone(),
            scanned: program.scanned,
            ended: false,
            mappings: program.mappings.clone(),
        };
        let code = self.code_of(&child_program);
        self.processes.insert(child, child_program);
        Some(code)
    }

    fn code_of(&self, program: &Program) -> Vec<CodeMapping> {
        let mut code = Vec::with_capacity(program.mappings.len());
        for (mapping, module) in &program.mappings {
            self.add_code(mapping, self.modules[module.0 as usize].object, &mut code);
        }
        code
    }

    /// The mappings of a known process for the kernel.
    pub fn code(&self, process: ProcessId) -> Option<Vec<CodeMapping>> {
        self.processes.get(&process).map(|program| self.code_of(program))
    }

    /// A known process.
    pub fn program(&self, process: ProcessId) -> Option<&Program> {
        self.processes.get(&process)
    }

    /// A known process, to change.
    pub fn program_mut(&mut self, process: ProcessId) -> Option<&mut Program> {
        self.processes.get_mut(&process)
    }

    /// All known processes.
    pub fn processes(&self) -> impl Iterator<Item = (ProcessId, &Program)> {
        self.processes.iter().map(|(id, program)| (*id, program))
    }

    /// Forgets processes that have ended.
    pub fn forget_ended(&mut self) -> Vec<ProcessId> {
        let ended: Vec<_> =
            self.processes.iter().filter(|(_, program)| program.ended).map(|(id, _)| *id).collect();
        for process in &ended {
            self.processes.remove(process);
        }
        ended
    }

    /// Where an address of a process lies.
    pub fn place(&self, process: ProcessId, address: u64) -> Place {
        let module = self.processes.get(&process).and_then(|program| {
            let behind = program.mappings.partition_point(|(mapping, _)| mapping.start <= address);
            let (mapping, module) = program.mappings.get(behind.checked_sub(1)?)?;
            mapping.contains(address).then_some(*module)
        });
        Place { address, module }
    }

    /// A module by its id.
    pub fn mapped(&self, module: ModuleId) -> &MappedModule {
        &self.modules[module.0 as usize]
    }

    /// An object's file.
    pub fn object(&self, object: ObjectId) -> &ObjectFile {
        &self.objects[object.0 as usize].file
    }

    /// The address within the object (as its symbols have it) of an address within a module.
    pub fn address_in_object(&self, module: ModuleId, address: u64) -> Option<u64> {
        let module = self.mapped(module);
        let object = self.object(module.object?);
        object.file_offset_to_address((address - module.start) + module.file_offset)
    }

    fn module(&mut self, mapping: &Mapping, object: Option<ObjectId>) -> ModuleId {
        let module = MappedModule {
            start: mapping.start,
            end: mapping.end,
            file_offset: mapping.offset,
            path: display_path(mapping),
            object,
        };
        if let Some(id) = self.module_ids.get(&module) {
            return *id;
        }
        let id = ModuleId(self.modules.len() as u32);
        self.modules.push(module.clone());
        self.module_ids.insert(module, id);
        id
    }

    /// The object behind a mapping, opened and unwound if it is new.
    ///
    /// A device and inode are trusted to be the same file as before: its file is held open, so the
    /// number cannot have been given to another.
    fn object_of(
        &mut self,
        procfs: &ProcFs,
        pid: ProcessId,
        mapping: &Mapping,
        install: &mut Install<'_>,
    ) -> Option<ObjectId> {
        let object = match &mapping.path {
            MappingPath::Vdso => {
                if let Some(vdso) = self.vdso {
                    return Some(vdso);
                }
                let image = self.noted("vdso_unreadable", read_vdso(procfs, pid, mapping))?;
                self.noted("objects_unreadable", ObjectFile::from_bytes(image, "[vdso]"))?
            }
            _ if mapping.inode != 0 => {
                if let Some(known) = self.by_inode.get(&(mapping.device, mapping.inode)) {
                    return Some(*known);
                }
                let file = self.noted("objects_unreadable", open_mapped_file(procfs, pid, mapping))?;
                self.noted("objects_unreadable", ObjectFile::from_file(file, &display_path(mapping)))?
            }
            _ => return None,
        };
        let id = match self.by_key.get(object.key()) {
            Some(id) => *id,
            None => self.add_object(object, install),
        };
        if mapping.path == MappingPath::Vdso {
            self.vdso = Some(id);
        } else {
            self.by_inode.insert((mapping.device, mapping.inode), id);
        }
        Some(id)
    }

    fn add_object(&mut self, object: ObjectFile, install: &mut Install<'_>) -> ObjectId {
        let id = ObjectId(self.objects.len() as u32);
        let mut tables = Vec::new();
        if let Some(table) = self.noted("objects_without_unwind_table", UnwindTable::build(&object))
            && !table.assumes_frame_pointers()
        {
            for segment in table.segments() {
                let installed = install(&segment.pages, &segment.rows);
                if installed.is_none() {
                    *self.failures.entry("unwind_tables_without_room").or_default() += 1;
                }
                let bytes = segment.pages.len() as u64 * 256;
                tables.push(Table { vaddr: segment.vaddr, bytes, installed });
            }
        }
        self.by_key.insert(object.key().clone(), id);
        self.objects.push(Object { file: object, tables });
        id
    }

    /// What the kernel needs to unwind through a mapping: for each of the object's segments that lies
    /// there its table, and frame pointers where there is none.
    fn add_code(&self, mapping: &Mapping, object: Option<ObjectId>, code: &mut Vec<CodeMapping>) {
        let frame_pointers =
            CodeMapping { start: mapping.start, end: mapping.end, base: mapping.start, table: None };
        let Some(object) = object.map(|id| &self.objects[id.0 as usize]) else {
            code.push(frame_pointers);
            return;
        };
        let Some(vaddr) = object.file.file_offset_to_address(mapping.offset) else {
            code.push(frame_pointers);
            return;
        };
        let bias = mapping.start.wrapping_sub(vaddr);
        let before = code.len();
        for table in &object.tables {
            let base = table.vaddr.wrapping_add(bias);
            let start = base.max(mapping.start);
            let end = base.saturating_add(table.bytes).min(mapping.end);
            if start < end && table.installed.is_some() {
                code.push(CodeMapping { start, end, base, table: table.installed });
            }
        }
        if code.len() == before {
            code.push(frame_pointers);
        }
    }

    fn noted<T, E>(&mut self, cause: &'static str, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(_) => {
                *self.failures.entry(cause).or_default() += 1;
                None
            }
        }
    }
}

fn display_path(mapping: &Mapping) -> String {
    match &mapping.path {
        MappingPath::File { path, .. } => path.to_string_lossy().into_owned(),
        MappingPath::Vdso => "[vdso]".to_owned(),
        MappingPath::SharedMemory(name) | MappingPath::Special(name) | MappingPath::Anonymous(Some(name)) => {
            name.to_string_lossy().into_owned()
        }
        MappingPath::Vsyscall => "[vsyscall]".to_owned(),
        MappingPath::Anonymous(None) => "[anonymous]".to_owned(),
    }
}
