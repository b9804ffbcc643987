//! Which frames are plumbing (language runtime, async runtime, C library, kernel) and which are the
//! application's own.
//!
//! A stack of a Tokio service has some fifty frames of plumbing below the first line that its authors wrote,
//! and a blocked one has ten above. The page hides them and the main cause of a span is named by what is
//! left. The tables are conservative: a frame that no row names counts as the application's, because a hidden
//! culprit is worse than a visible detail.

mod clients;
mod java;

use spanprof_symbolizer::{Frame, FrameKind};

use clients::is_client;
use java::is_java_platform;
pub(crate) use java::java_name;

/// Crates and C++ namespaces that only carry an application's code: the first part of a path.
const NAMESPACES: &[&str] = &[
    // Rust's own.
    "alloc",
    "backtrace",
    "compiler_builtins",
    "core",
    "hashbrown",
    "gimli",
    "panic_unwind",
    "proc_macro",
    "rustc_demangle",
    "std",
    "std_detect",
    "test",
    // Allocators and locks.
    "crossbeam",
    "crossbeam_channel",
    "crossbeam_deque",
    "crossbeam_epoch",
    "crossbeam_queue",
    "crossbeam_utils",
    "dashmap",
    "flume",
    "jemalloc_sys",
    "lock_api",
    "mimalloc",
    "once_cell",
    "parking_lot",
    "parking_lot_core",
    "spin",
    "tikv_jemallocator",
    // Async runtimes and what they stand on.
    "actix_rt",
    "async_executor",
    "async_io",
    "async_lock",
    "async_std",
    "async_task",
    "async_trait",
    "blocking",
    "futures",
    "futures_channel",
    "futures_core",
    "futures_executor",
    "futures_io",
    "futures_lite",
    "futures_sink",
    "futures_task",
    "futures_util",
    "glommio",
    "mio",
    "monoio",
    "pin_project",
    "polling",
    "rayon",
    "rayon_core",
    "rustix",
    "nix",
    "signal_hook",
    "smol",
    "socket2",
    "tokio",
    "tokio_macros",
    "tokio_stream",
    "tokio_util",
    // Transport.
    "h2",
    "http",
    "http_body",
    "http_body_util",
    "httparse",
    "hyper",
    "hyper_rustls",
    "hyper_util",
    "native_tls",
    "openssl",
    "quinn",
    "reqwest",
    "ring",
    "rustls",
    "tokio_native_tls",
    "tokio_rustls",
    "tonic",
    "tower",
    "tower_http",
    "tower_layer",
    "tower_service",
    "tungstenite",
    // Telemetry, ours included.
    "log",
    "metrics",
    "opentelemetry",
    "opentelemetry_http",
    "opentelemetry_otlp",
    "opentelemetry_sdk",
    "spanprof",
    "spanprof_context",
    "tracing",
    "tracing_core",
    "tracing_futures",
    "tracing_log",
    "tracing_opentelemetry",
    "tracing_subscriber",
    "valuable",
    // C++.
    "__cxxabiv1",
    "__gnu_cxx",
    "abi",
];

/// Whole names of C functions that start, park or serve every program.
const C_FUNCTIONS: &[&str] = &[
    "_start",
    "clone",
    "clone3",
    "__clone",
    "__clone3",
    "start_thread",
    "__libc_start_main",
    "__libc_start_call_main",
    "__libc_start_main_impl",
    "_dl_start_user",
    "thread_start",
    "malloc",
    "calloc",
    "realloc",
    "free",
    "cfree",
    "posix_memalign",
    "aligned_alloc",
    "memcpy",
    "memmove",
    "memset",
    "memcmp",
    "bcmp",
    "memchr",
    "strlen",
    "strcmp",
    "syscall",
    "sysmalloc",
    "_int_malloc",
    "_int_free",
    "_int_realloc",
    "unlink_chunk",
    "malloc_consolidate",
    "tcache_put",
    "tcache_get",
    "nanosleep",
    "clock_nanosleep",
    "usleep",
    "sleep",
    "read",
    "write",
    "readv",
    "writev",
    "pread64",
    "pwrite64",
    "recv",
    "recvfrom",
    "recvmsg",
    "recvmmsg",
    "send",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "accept",
    "accept4",
    "connect",
    "poll",
    "ppoll",
    "select",
    "pselect",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "io_uring_enter",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "open64",
    "openat",
    "close",
    "futex",
    "sched_yield",
    "clock_gettime",
    "gettimeofday",
    "mmap",
    "munmap",
    "madvise",
    "sem_wait",
    "sem_timedwait",
    "__restore_rt",
    "__rust_alloc",
    "__rust_dealloc",
    "__rust_realloc",
    "__rust_alloc_zeroed",
    "rust_begin_unwind",
    "rust_panic",
    "__rust_begin_short_backtrace",
    "__rust_end_short_backtrace",
    "__rust_try",
    "__tls_get_addr",
    "call_stub",
    "Interpreter",
];

/// Beginnings of C names that are the C library's, the loader's or an allocator's.
const C_PREFIXES: &[&str] = &[
    "__GI_",
    "__libc_",
    "__lll_",
    "__memcpy",
    "__memmove",
    "__memset",
    "__memcmp",
    "__strlen",
    "__pthread_",
    "___pthread_",
    "pthread_",
    "__futex_",
    "futex_",
    "lll_",
    "__cnd_",
    "__mtx_",
    "__new_sem_",
    "__poll",
    "__read",
    "__write",
    "__recv",
    "__send",
    "__select",
    "__clock_",
    "__nanosleep",
    "__vdso_",
    "__kernel_",
    "__GI___",
    "_dl_",
    "__rdl_",
    "__rg_",
    "_rjem_",
    "je_",
    "mi_malloc",
    "mi_free",
    "_mi_",
    "_Unwind_",
    "__gcc_",
    "__cxa_",
    "operator new",
    "operator delete",
    "StubRoutines",
    "JavaThread::",
    "JavaCalls::",
    "JVM_",
    "ObjectMonitor::",
    "ObjectSynchronizer::",
    "PlatformEvent::",
    "os::PlatformEvent::",
    "Parker::park",
    "SharedRuntime::",
    "Unsafe_",
    "vtable stub",
];

/// Beginnings of the file names of shared objects that are plumbing as a whole.
const LIBRARIES: &[&str] = &[
    "ld-linux",
    "ld-musl",
    "libc.so",
    "libc-2",
    "libc.musl",
    "libdl",
    "libgcc_s",
    "libjava.so",
    "libjemalloc",
    "libjvm.so",
    "libm.so",
    "libm-2",
    "libmimalloc",
    "libnet.so",
    "libnio.so",
    "libpthread",
    "librt.so",
    "librt-2",
    "libstdc++",
    "libtcmalloc",
    "linux-vdso",
    "linux-gate",
];

/// Whether a frame is the runtime's and not the application's.
///
/// Kernel frames are. Frames that spanprof made up (`[stack truncated]`) are not: hiding them would hide a
/// loss.
pub fn is_runtime(frame: &Frame) -> bool {
    match frame.kind {
        FrameKind::Kernel => true,
        FrameKind::Synthetic => false,
        FrameKind::Jvm => is_java_platform(&frame.function) || is_c_runtime(&frame.function),
        FrameKind::Native | FrameKind::Rust => {
            is_c_runtime(&frame.function)
                || is_runtime_path(&frame.function)
                || is_in_runtime_library(&frame.function)
                || frame.file.as_deref().is_some_and(|file| file.starts_with("/rustc/"))
        }
    }
}

/// Whether a frame is code that the application's authors did not write, as far as its source file tells:
/// the runtime, or a crate from a registry, or a system header; or, by its name, a messaging client.
///
/// Wider than [`is_runtime`], and right for naming a cause; too wide for hiding.
pub fn is_library(frame: &Frame) -> bool {
    is_runtime(frame) || frame.file.as_deref().is_some_and(is_library_source) || is_client(frame)
}

fn is_library_source(file: &str) -> bool {
    file.contains("/.cargo/registry/")
        || file.contains("/.cargo/git/")
        || file.contains("/registry/src/")
        || file.starts_with("/usr/include/")
        || file.starts_with("/usr/src/")
}

/// Whether a shared object is plumbing as a whole, by its file name.
pub fn is_runtime_library(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path.starts_with("[vdso")
        || path.starts_with("[kernel")
        || LIBRARIES.iter().any(|row| name.starts_with(row))
}

/// `libc.so.6+0x1234`: how a frame without a symbol is named.
fn is_in_runtime_library(function: &str) -> bool {
    function.rsplit_once("+0x").is_some_and(|(module, _)| is_runtime_library(module))
}

fn is_c_runtime(function: &str) -> bool {
    C_FUNCTIONS.contains(&function) || C_PREFIXES.iter().any(|prefix| function.starts_with(prefix))
}

fn is_runtime_path(function: &str) -> bool {
    is_of_a_primitive(function) || namespace(function).is_some_and(|part| NAMESPACES.contains(&part))
}

/// Whether a function is a method that the language gives a number, a character or a text, such as
/// `<u64>::wrapping_mul`: one instruction, mostly, and no news to anybody.
pub(crate) fn is_of_a_primitive(function: &str) -> bool {
    const PRIMITIVES: [&str; 17] = [
        "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize", "f32", "f64",
        "bool", "char", "str",
    ];
    if function.starts_with("core::num::") {
        return true;
    }
    let owner = match function.strip_prefix('<') {
        Some(qualified) => qualified.split_once(">::"),
        None => function.split_once("::"),
    };
    owner.is_some_and(|(owner, _)| PRIMITIVES.contains(&owner))
}

/// The crate or C++ namespace that a function belongs to.
///
/// `<orders::Handler as tower::Service>::call` belongs to `orders`; `<T as core::any::Any>::type_id`, whose
/// type is a parameter, and `<&[u8] as std::io::Read>::read`, whose type is nobody's, to the trait's crate.
fn namespace(function: &str) -> Option<&str> {
    let function = without_return_type(function);
    let Some(qualified) = function.strip_prefix('<') else {
        return first_part(function);
    };
    let end = matching_bracket(qualified)?;
    let inner = &qualified[..end];
    match split_as(inner) {
        Some((subject, path)) => type_namespace(subject).or_else(|| first_part(path)),
        None => type_namespace(inner),
    }
}

/// The crate of a type's head, looking through references, pointers and `dyn`; none for parameters,
/// primitives, tuples and slices.
fn type_namespace(r#type: &str) -> Option<&str> {
    let head = r#type.trim_start_matches(['&', '*', '(', '[', ' ']);
    for word in ["mut ", "const ", "dyn ", "impl "] {
        if let Some(rest) = head.strip_prefix(word) {
            return type_namespace(rest);
        }
    }
    if head.starts_with('<') {
        return namespace(head);
    }
    let identifier = head.split(|c: char| !(c.is_alphanumeric() || c == '_')).next()?;
    head[identifier.len()..].starts_with("::").then_some(identifier)
}

fn first_part(path: &str) -> Option<&str> {
    let (first, _) = path.split_once("::")?;
    let identifier = !first.is_empty() && first.chars().all(|c| c.is_alphanumeric() || c == '_');
    identifier.then_some(first)
}

/// C++ templates are demangled with their return type in front: `void std::sort<int*>(int*, int*)`.
fn without_return_type(function: &str) -> &str {
    if function.starts_with('<') || function.starts_with("operator ") {
        return function;
    }
    let mut depth = 0_u32;
    let mut start = 0;
    for (index, character) in function.char_indices() {
        match character {
            '<' | '[' | '{' => depth += 1,
            '>' | ']' | '}' => depth = depth.saturating_sub(1),
            '(' if depth == 0 => break,
            ' ' if depth == 0 => start = index + 1,
            _ => {}
        }
    }
    &function[start..]
}

/// Parts `T as Trait>::method` (the `<` already taken off) into `T` and `::method`.
pub(crate) fn split_qualified(qualified: &str) -> Option<(&str, &str)> {
    let end = matching_bracket(qualified)?;
    let inner = &qualified[..end];
    let subject = split_as(inner).map_or(inner, |(subject, _)| subject);
    Some((subject, &qualified[end + 1..]))
}

/// Where the bracket that was opened just before `text` closes; `->` does not close one.
fn matching_bracket(text: &str) -> Option<usize> {
    let mut depth = 1_u32;
    let mut previous = ' ';
    for (index, character) in text.char_indices() {
        match character {
            '<' => depth += 1,
            '>' if previous != '-' => {
                depth -= 1;
                if depth == 0 {
                    return Some(index);
                }
            }
            _ => {}
        }
        previous = character;
    }
    None
}

/// Splits `T as Trait` at the ` as ` that is not inside brackets.
fn split_as(inner: &str) -> Option<(&str, &str)> {
    let mut depth = 0_u32;
    let mut previous = ' ';
    for (index, character) in inner.char_indices() {
        match character {
            '<' | '(' | '[' => depth += 1,
            '>' if previous == '-' => {}
            '>' | ')' | ']' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 && inner[index..].starts_with(" as ") => {
                return Some((&inner[..index], &inner[index + 4..]));
            }
            _ => {}
        }
        previous = character;
    }
    None
}

#[cfg(test)]
mod tests;
