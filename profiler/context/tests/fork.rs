//! What a child of `fork` publishes. The test's own process has several threads, as a service has.

use std::io::Read;
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::{fs, thread};

use spanprof_context::process::{self, ProcessContext, Value};
use spanprof_context::thread::{current, set};
use spanprof_context::{SpanContext, SpanId, TraceId};

/// One context per process, so one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn context(id: &str) -> ProcessContext {
    let mut context = ProcessContext::for_service("forking");
    context.resource.push(("service.instance.id".to_owned(), Value::String(id.to_owned())));
    context
}

fn instance(process: u32) -> Option<String> {
    let found = process::read(process).expect("the process can be read")?;
    assert_eq!(found.context.service_name(), Some("forking"));
    assert!(found.context.has_thread_records());
    let id = found.context.resource_attribute("service.instance.id");
    Some(id.and_then(Value::as_str).expect("an id was published").to_owned())
}

/// A child that has done its part and waits to be let go.
struct Child {
    process: libc::pid_t,
    /// What it said about itself.
    word: u8,
    let_go: libc::c_int,
}

/// Forks; the child runs `part`, says what that returned, and waits.
fn fork(part: impl FnOnce() -> u8) -> Child {
    let (mut to_parent, mut to_child) = ([0; 2], [0; 2]);
    // SAFETY: both calls write two descriptors.
    unsafe {
        assert_eq!(libc::pipe2(to_parent.as_mut_ptr(), libc::O_CLOEXEC), 0);
        assert_eq!(libc::pipe2(to_child.as_mut_ptr(), libc::O_CLOEXEC), 0);
    }
    // SAFETY: the child allocates, which the C library provides for, takes no lock of another thread's, and ends without
    // running what is to run at exit.
    let process = unsafe { libc::fork() };
    assert!(process >= 0);
    if process == 0 {
        let word = part();
        // SAFETY: reads and writes single bytes that are there.
        unsafe {
            libc::write(to_parent[1], (&raw const word).cast(), 1);
            let mut byte = 0u8;
            libc::read(to_child[0], (&raw mut byte).cast(), 1);
            libc::_exit(0);
        }
    }
    // SAFETY: the descriptors are this process's own.
    let mut said = unsafe {
        libc::close(to_parent[1]);
        libc::close(to_child[0]);
        fs::File::from_raw_fd(to_parent[0])
    };
    let mut word = [0];
    said.read_exact(&mut word).expect("the child speaks");
    Child { process, word: word[0], let_go: to_child[1] }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: the descriptor and the child are this process's own.
        unsafe {
            // A word, not the end of the pipe, as children that came later hold it open too.
            libc::write(self.let_go, (&raw const self.word).cast(), 1);
            libc::close(self.let_go);
            assert_eq!(libc::waitpid(self.process, std::ptr::null_mut(), 0), self.process);
        }
    }
}

fn with_other_threads<T>(test: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 1..4u8 {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    set(&SpanContext::new(TraceId([number; 16]), SpanId([number; 8]), 1));
                    thread::yield_now();
                }
            });
        }
        let result = test();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

#[test]
fn a_child_publishes_for_itself_from_its_first_moment() {
    let _alone = alone();
    let id = process::random_id();
    process::publish_across_forks(&context(&id), &id).unwrap();
    assert_eq!(process::own_id(), Some(id.clone()));
    with_other_threads(|| {
        let children: Vec<_> = (0..3).map(|_| fork(|| 1)).collect();
        let mut ids: Vec<_> = children
            .iter()
            .map(|child| instance(child.process as u32).expect("the child publishes"))
            .collect();
        ids.push(instance(std::process::id()).unwrap());
        assert_eq!(ids[3], id, "the parent keeps its own");
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 4, "all differ");
        // A child's child, and a child that knows its id.
        let child = fork(|| {
            let own = process::own_id();
            let grandchild = fork(|| 1);
            let of_grandchild = instance(grandchild.process as u32);
            u8::from(own.is_some() && of_grandchild.is_some() && own != of_grandchild)
        });
        assert_eq!(child.word, 1);
    });
    process::withdraw();
}

#[test]
fn an_id_that_was_given_is_kept() {
    let _alone = alone();
    process::publish_across_forks(&context("pod-7"), &process::random_id()).unwrap();
    assert_eq!(process::own_id(), None);
    let child = fork(|| 1);
    assert_eq!(instance(child.process as u32).as_deref(), Some("pod-7"));
    drop(child);
    process::withdraw();
}

#[test]
fn a_child_of_a_plain_publisher_publishes_nothing_until_it_does() {
    let _alone = alone();
    process::publish(&context("parent")).unwrap();
    with_other_threads(|| {
        let silent = fork(|| 1);
        assert_eq!(instance(silent.process as u32), None);
        let speaking = fork(|| {
            // What the parent published isn't changed by what the child takes back.
            process::withdraw();
            u8::from(process::publish(&context("child")).is_ok())
        });
        assert_eq!(speaking.word, 1);
        assert_eq!(instance(speaking.process as u32).as_deref(), Some("child"));
        assert_eq!(instance(std::process::id()).as_deref(), Some("parent"));
    });
    process::withdraw();
}

#[test]
fn the_forking_thread_s_span_goes_on_in_the_child() {
    let span = SpanContext::new(TraceId([9; 16]), SpanId([9; 8]), 1);
    set(&span);
    let child = fork(|| u8::from(current() == Some(span)));
    assert_eq!(child.word, 1);
    drop(child);
    spanprof_context::thread::clear();
}

#[test]
fn a_fork_in_the_middle_of_a_publication_leaves_a_child_that_can_publish() {
    let _alone = alone();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let id = process::random_id();
                process::publish_across_forks(&context(&id), &id).unwrap();
            }
        });
        for _ in 0..200 {
            let child = fork(|| u8::from(process::publish(&context("child")).is_ok()));
            assert_eq!(child.word, 1);
            assert_eq!(instance(child.process as u32).as_deref(), Some("child"));
        }
        stop.store(true, Ordering::Relaxed);
    });
    process::withdraw();
}
