//! The process that is read: what it does in each role, and the handle by which a case holds it.

use std::ffi::CString;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use libdd_otel_thread_ctx::linux::OwnedThreadContext;
use spanprof_context::process::{self, ProcessContext};
use spanprof_context::{Attributes, Key, SpanContext, SpanId, TraceId};

/// First argument of a process that is to be read.
pub(crate) const ROLE: &str = "--as-target";

/// What thread number `n` publishes.
pub(crate) fn span(thread: u8) -> SpanContext {
    SpanContext::new(TraceId([0x10 + thread; 16]), SpanId([0x20 + thread; 8]), 1)
}

/// How many threads publish.
pub(crate) const THREADS: u8 = 3;

/// A running target that has published what it was told to.
pub(crate) struct Target {
    child: Child,
    /// Thread ids of the threads that publish, in their order.
    pub(crate) threads: Vec<i32>,
}

impl Target {
    /// Starts a program as a target and waits until its threads have published.
    pub(crate) fn start(program: &Path, role: &[&str]) -> Self {
        let mut child = Command::new(program)
            .arg(ROLE)
            .args(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the target starts");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("its output is a pipe"))
            .read_line(&mut line)
            .expect("it speaks");
        let threads = line.split_whitespace().map(|id| id.parse().expect("a thread id")).collect();
        Self { child, threads }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().expect("it ends");
        assert!(status.success() || thread::panicking(), "the target failed: {status}");
    }
}

/// Plays a role: publishes on some threads, tells their ids, and waits for the end of the input.
pub(crate) fn act(role: &[String]) {
    let role: Vec<&str> = role.iter().map(String::as_str).collect();
    let publish: Box<dyn Fn(u8) + Send + Sync> = match role[..] {
        ["silent"] => Box::new(|_| {}),
        ["ours"] => {
            process::publish(&ProcessContext::for_service("target")).expect("the context is published");
            Box::new(ours)
        }
        ["foreign"] => Box::new(foreign),
        ["both"] => {
            process::publish(&ProcessContext::for_service("target")).expect("the context is published");
            Box::new(|thread| {
                // Under other ids, so that the reader's choice shows.
                foreign(thread + 100);
                ours(thread);
                assert!(!spanprof_context::thread::owns_standard_symbol());
            })
        }
        ["library", path] => {
            let publish = library(path);
            Box::new(move |thread| {
                let span = span(thread);
                // SAFETY: the library's function takes pointers to 16 and 8 bytes.
                unsafe { publish(span.trace_id.0.as_ptr(), span.span_id.0.as_ptr(), span.flags) };
            })
        }
        _ => panic!("no such role: {role:?}"),
    };
    let publish = &*publish;
    thread::scope(|scope| {
        let (ready, threads) = mpsc::channel();
        let mut stops = Vec::new();
        for number in 0..THREADS {
            let ready = ready.clone();
            let (stop, stopped) = mpsc::channel::<()>();
            stops.push(stop);
            scope.spawn(move || {
                publish(number);
                // SAFETY: asks for the thread's id.
                let id = unsafe { libc::gettid() };
                ready.send((number, id)).expect("the main thread listens");
                let _ = stopped.recv();
            });
        }
        let mut ids: Vec<_> = threads.iter().take(usize::from(THREADS)).collect();
        ids.sort_unstable();
        let ids: Vec<_> = ids.iter().map(|(_, id)| id.to_string()).collect();
        println!("{}", ids.join(" "));
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
    });
}

fn ours(thread: u8) {
    let attributes = Attributes::new().with(Key::MessagingDestinationName, "orders");
    spanprof_context::thread::set_with_attributes(&span(thread), &attributes);
}

fn foreign(thread: u8) {
    let span = span(thread);
    let context =
        OwnedThreadContext::new(span.trace_id.0, span.span_id.0, span.flags, [0x0f; 8], &[(1, "orders")]);
    assert!(context.attach().is_none());
}

type Publish = unsafe extern "C" fn(*const u8, *const u8, u8);

fn library(path: &str) -> Publish {
    let path = CString::new(path).expect("a path");
    // SAFETY: loads a library that the case has just built, and looks up its one function.
    unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        assert!(!library.is_null(), "{}", std::ffi::CStr::from_ptr(libc::dlerror()).to_string_lossy());
        let function = libc::dlsym(library, c"publish".as_ptr());
        assert!(!function.is_null());
        std::mem::transmute::<*mut libc::c_void, Publish>(function)
    }
}
