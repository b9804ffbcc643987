//! What can be seen of one process, and what its profile would lack: the second half of `doctor`.

use serde::Serialize;
use spanprof_context::locate;
use spanprof_symbolizer::{ObjectFile, Symbolizer, UnwindTable};

use crate::targets::{
    CodeMappings, Mapping, MappingPath, Pid, ProcFs, Process, ProcessError, open_mapped_file, read_vdso,
    service_name,
};

/// Objects looked into; a process with more is cut there.
const MAX_OBJECTS: usize = 512;
/// Addresses of an object that are asked for their names, spread evenly over its code.
const ASKED_ADDRESSES: u64 = 64;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// The process.
    pub pid: Pid,
    /// Its service name.
    pub service: String,
    /// Its executable's path, or its name where the path may not be read.
    pub executable: String,
    /// The container it runs in.
    pub container: Option<String>,
    /// How many threads it has.
    pub threads: usize,
    /// Whether its spans can be read, in words.
    pub spans: String,
    /// Whether its spans can be read.
    pub publishes_context: bool,
    /// Why its code cannot be read, where it cannot.
    pub refusal: Option<String>,
    /// The files that its code is from.
    pub objects: Vec<ObjectFacts>,
    /// Mappings with code that a just-in-time compiler wrote.
    pub just_in_time_mappings: usize,
}

/// What is known of one object file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectFacts {
    /// Its path as the process sees it, or `[vdso]`.
    pub path: String,
    /// How stacks through it are walked, in words.
    pub unwinding: String,
    /// Whether its functions can be named, in words.
    pub names: String,
}

impl Diagnosis {
    /// Looks at a process.
    ///
    /// # Errors
    /// When it is gone or a kernel thread. That it may not be read is part of the answer.
    pub fn of(procfs: &ProcFs, pid: Pid) -> Result<Diagnosis, ProcessError> {
        let process = Process::read(procfs, pid)?.with_user_code()?;
        let (publishes_context, spans) = spans(process.pid());
        // A context that cannot be read is as none: the name is asked of the next source.
        let context = spanprof_context::process::read(process.pid()).ok().flatten();
        let published = context.and_then(|found| found.context.service_name().map(str::to_owned));
        let mut diagnosis = Diagnosis {
            pid: process.pid(),
            service: service_name(procfs, &process, published),
            executable: process
                .executable
                .as_ref()
                .map_or_else(|| process.executable_name(), |path| path.display().to_string()),
            container: process.container_id().map(str::to_owned),
            threads: process.threads(procfs)?.len(),
            spans,
            publishes_context,
            refusal: None,
            objects: Vec::new(),
            just_in_time_mappings: 0,
        };
        match CodeMappings::read(procfs, process.pid()) {
            Ok(code) => diagnosis.look_at_code(procfs, &code),
            Err(error) => diagnosis.refusal = Some(error.to_string()),
        }
        Ok(diagnosis)
    }

    fn look_at_code(&mut self, procfs: &ProcFs, code: &CodeMappings) {
        let mut seen = std::collections::HashSet::new();
        let mut symbolizer = Symbolizer::new();
        for mapping in &code.mappings {
            let path = match &mapping.path {
                MappingPath::File { path, .. } => path.display().to_string(),
                MappingPath::Vdso => "[vdso]".into(),
                MappingPath::Anonymous(_) | MappingPath::SharedMemory(_) => {
                    self.just_in_time_mappings += 1;
                    continue;
                }
                MappingPath::Vsyscall | MappingPath::Special(_) => continue,
            };
            if self.objects.len() < MAX_OBJECTS && seen.insert((mapping.device, mapping.inode, path.clone()))
            {
                self.objects.push(look_at_object(procfs, self.pid, mapping, path, &mut symbolizer));
            }
        }
    }
}

fn look_at_object(
    procfs: &ProcFs,
    pid: Pid,
    mapping: &Mapping,
    path: String,
    symbolizer: &mut Symbolizer,
) -> ObjectFacts {
    let object = match mapping.path {
        MappingPath::Vdso => read_vdso(procfs, pid, mapping)
            .map_err(|error| error.to_string())
            .and_then(|bytes| ObjectFile::from_bytes(bytes, &path).map_err(|error| error.to_string())),
        _ => open_mapped_file(procfs, pid, mapping)
            .map_err(|error| error.to_string())
            .and_then(|file| ObjectFile::from_file(file, &path).map_err(|error| error.to_string())),
    };
    match object {
        Ok(object) => ObjectFacts { unwinding: unwinding(&object), names: names(&object, symbolizer), path },
        Err(reason) => ObjectFacts { path, unwinding: reason, names: "unknown".into() },
    }
}

fn unwinding(object: &ObjectFile) -> String {
    match UnwindTable::build(object) {
        Err(error) => format!("none: {error}"),
        Ok(table) if table.assumes_frame_pointers() => {
            "frame pointers only: the file has no unwind information".into()
        }
        Ok(table) => {
            let statistics = table.statistics();
            match statistics.broken_functions {
                0 => format!("by tables: {} functions", statistics.functions),
                broken => format!("by tables: {} functions, {broken} of them broken", statistics.functions),
            }
        }
    }
}

/// Asks for the names of addresses all over the code: what a profile would show of it.
fn names(object: &ObjectFile, symbolizer: &mut Symbolizer) -> String {
    let length: u64 = object.segments().iter().map(|segment| segment.mem_size).sum();
    let step = (length / ASKED_ADDRESSES).max(1);
    let addresses: Vec<u64> = object
        .segments()
        .iter()
        .flat_map(|segment| {
            let end = segment.vaddr.saturating_add(segment.mem_size);
            (segment.vaddr..end).step_by(usize::try_from(step).unwrap_or(usize::MAX))
        })
        .take(2 * ASKED_ADDRESSES as usize)
        .collect();
    let nameless = format!("{}+0x", object.file_name());
    let answers = symbolizer.symbolize(object, &addresses);
    let frames = || answers.iter().filter_map(|frames| frames.first());
    let named = frames().filter(|frame| !frame.function.starts_with(&nameless)).count();
    let with_lines = frames().filter(|frame| frame.file.is_some()).count();
    let share = |part: usize| part * 100 / answers.len().max(1);
    match (share(named), share(with_lines)) {
        (0, _) => "none: shown as module+0xaddress".into(),
        (named, 0) => format!("{named} % of the code"),
        (named, lines) => format!("{named} % of the code, files and lines for {lines} %"),
    }
}

/// Whether the spans of a process can be read, with the reason in words.
fn spans(pid: Pid) -> (bool, String) {
    match locate::thread_slot(pid) {
        Ok(Some(slot)) => {
            let how = match slot.access {
                locate::Access::Dynamic { .. } => "through the thread's table of modules",
                _ => "at a fixed distance from the thread pointer",
            };
            let whose = if slot.has_sequence { " (spanprof's writer)" } else { "" };
            (true, format!("published, {how}{whose}"))
        }
        Ok(None) => (
            false,
            "not published: samples carry no span ids; the `spanprof` crate publishes them with one line"
                .into(),
        ),
        Err(error) => (false, format!("unknown: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn looks_at_an_ordinary_process() {
        let mut child = Command::new("cat")
            .env("OTEL_SERVICE_NAME", "kitten")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It echoes only when the dynamic linker has mapped its libraries.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let diagnosis = Diagnosis::of(&ProcFs::host(), child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((diagnosis.service.as_str(), diagnosis.threads), ("kitten", 1));
        assert!(
            !diagnosis.publishes_context && diagnosis.spans.starts_with("not published"),
            "{diagnosis:?}"
        );
        let libc = diagnosis.objects.iter().find(|object| object.path.contains("libc.so")).unwrap();
        assert!(libc.unwinding.starts_with("by tables: "), "{libc:?}");
        assert!(diagnosis.objects.iter().any(|object| object.path == "[vdso]"), "{diagnosis:?}");
        assert_eq!((diagnosis.refusal, diagnosis.just_in_time_mappings), (None, 0));
    }

    #[test]
    fn our_own_functions_have_names_and_lines() {
        let diagnosis = Diagnosis::of(&ProcFs::host(), std::process::id()).unwrap();
        let own = std::env::current_exe().unwrap().display().to_string();
        let program = diagnosis.objects.iter().find(|object| object.path == own).unwrap();
        assert!(program.names.contains("files and lines"), "{program:?}");
    }
}
