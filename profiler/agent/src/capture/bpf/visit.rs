//! Visits threads that have not run since their process was taken on.
//!
//! A thread that is stuck all through a capture makes no event, and it is the one that people look for. A
//! task iterator in the kernel gives its user registers; its stack is walked from outside by the same
//! tables, and its span is read from its record. Stopping it with ptrace was refused: that can be noticed
//! by the target.

use std::cell::RefCell;
use std::fs::File;
use std::io::Read;

use aya::programs::Iter;
use spanprof_context::locate::{self, Access, RecordBuffer, ThreadSlot, Vector};
use spanprof_context::memory::{Memory, ProcessMemory};
use spanprof_symbolizer::unwind::Rule;
use spanprof_symbolizer::walk::{self, Registers};

use super::layout::VisitRecord;
use super::ring::parse;
use super::tables::{CodeMapping, Tables};
use super::{BpfCapture, BpfError};
use crate::capture::{ActiveSpan, ContextSlot, Event, ProcessId, StackHash, ThreadId, WalkEnd};

const PAGE: u64 = 4096;
const MAX_FRAMES: usize = 1024;
/// Threads visited at once; what is beyond is not walked.
const MAX_VISITS: usize = 1 << 16;

/// A thread that has been blocked since before its process was taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visited {
    /// The thread.
    pub thread: ThreadId,
    /// Where it is blocked.
    pub stack: StackHash,
    /// What it works on.
    pub span: Option<ActiveSpan>,
}

impl BpfCapture {
    /// Visits the threads of `process` that have not run since it was taken on. `code` and `context` are
    /// those given to [`set_target`](Self::set_target).
    ///
    /// # Errors
    /// [`BpfError`] if the kernel offers no task iterator; the capture goes on without.
    pub fn visit(
        &mut self,
        process: ProcessId,
        code: &[CodeMapping],
        context: ContextSlot,
        report: &mut dyn FnMut(Event),
    ) -> Result<Vec<Visited>, BpfError> {
        let mut visited = Vec::new();
        for record in self.blocked_threads()?.into_iter().filter(|record| record.tgid == process) {
            let memory = ProcessMemory::new(process);
            let (user, end) = walk_from(&record, code, &self.tables, &memory);
            let span = read_span(&record, context, &memory);
            // Had it run meanwhile, it would be accounted for: then what was read may be torn.
            if user.is_empty() || self.tracks(record.tid) {
                continue;
            }
            let stack = hash_of(process, &user);
            report(Event::Stack { process, stack, user, kernel: Vec::new(), end, peer: None });
            visited.push(Visited { thread: record.tid, stack, span });
        }
        Ok(visited)
    }

    fn blocked_threads(&mut self) -> Result<Vec<VisitRecord>, BpfError> {
        let program: &mut Iter = self
            .ebpf
            .program_mut("on_visit")
            .ok_or(BpfError::Object { what: "on_visit" })?
            .try_into()
            .map_err(BpfError::program("task iterator"))?;
        let link = program.attach().map_err(BpfError::program("task iterator"))?;
        let link = program.take_link(link).map_err(BpfError::program("task iterator"))?;
        let file = link.into_file().map_err(|cause| BpfError::Program {
            what: "task iterator".to_owned(),
            cause: cause.to_string(),
        })?;
        read_records(file).map_err(|cause| BpfError::Map { what: "task iterator".to_owned(), cause })
    }
}

fn read_records(file: File) -> std::io::Result<Vec<VisitRecord>> {
    let mut bytes = Vec::new();
    file.take((MAX_VISITS * size_of::<VisitRecord>()) as u64).read_to_end(&mut bytes)?;
    Ok(bytes
        .chunks_exact(size_of::<VisitRecord>())
        .filter_map(parse::<VisitRecord>)
        .filter(|record| record.state != 0)
        .collect())
}

fn walk_from(
    record: &VisitRecord,
    code: &[CodeMapping],
    tables: &Tables,
    memory: &ProcessMemory,
) -> (Vec<u64>, WalkEnd) {
    let unknown = RefCell::new(false);
    let rule_at = |pc: u64| {
        let behind = code.partition_point(|mapping| mapping.start <= pc);
        let mapping = behind.checked_sub(1).map(|index| &code[index]).filter(|mapping| pc < mapping.end);
        *unknown.borrow_mut() = mapping.is_none();
        mapping.map_or(Rule::NONE, |mapping| tables.rule_at(mapping, pc))
    };
    let stack = StackReader { memory, page: RefCell::new((u64::MAX, [0; PAGE as usize])) };
    let registers = Registers { ip: record.ip, sp: record.sp, bp: record.bp };
    let walked = walk::walk(registers, rule_at, |address| stack.word(address), MAX_FRAMES);
    let end = match walked.end {
        walk::WalkEnd::Root => WalkEnd::Root,
        walk::WalkEnd::NoRule if *unknown.borrow() => WalkEnd::NoMapping,
        walk::WalkEnd::NoRule | walk::WalkEnd::NoFramePointer => WalkEnd::NoRule,
        walk::WalkEnd::Unreadable => WalkEnd::Fault,
        walk::WalkEnd::Stuck => WalkEnd::Stuck,
        walk::WalkEnd::Depth => WalkEnd::TooDeep,
    };
    (walked.frames, end)
}

/// Reads a stack a page at a time.
struct StackReader<'a> {
    memory: &'a ProcessMemory,
    page: RefCell<(u64, [u8; PAGE as usize])>,
}

impl StackReader<'_> {
    fn word(&self, address: u64) -> Option<u64> {
        let base = address & !(PAGE - 1);
        let offset = (address - base) as usize;
        let mut page = self.page.borrow_mut();
        if page.0 != base {
            page.0 = u64::MAX;
            self.memory.read(base, &mut page.1).ok()?;
            page.0 = base;
        }
        let bytes = page.1.get(offset..offset + 8)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    }
}

fn read_span(record: &VisitRecord, context: ContextSlot, memory: &ProcessMemory) -> Option<ActiveSpan> {
    let access = match context {
        ContextSlot::Absent => return None,
        ContextSlot::Static { offset, .. } => Access::Static { offset },
        ContextSlot::Dynamic { vector_offset, offset } => Access::Dynamic {
            module: 1,
            offset: offset as u64,
            vector: Vector { pointer_offset: Vector::GLIBC.pointer_offset, entry_size: vector_offset },
        },
    };
    let slot = ThreadSlot { access, has_sequence: false };
    let mut buffer: RecordBuffer = [0; size_of::<RecordBuffer>()];
    let record = locate::read_thread(memory, record.thread_pointer, &slot, &mut buffer).ok()??;
    let span = record.span_context()?;
    Some(ActiveSpan { trace_id: span.trace_id.0, span_id: span.span_id.0 })
}

/// The identity of a visited stack: never that of one that the kernel side sends, whose lowest bit is 1.
fn hash_of(process: ProcessId, user: &[u64]) -> StackHash {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (process, user).hash(&mut hasher);
    StackHash((hasher.finish() & !1).max(2))
}
