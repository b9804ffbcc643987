//! The process context: update, withdrawal, fork, and reading while it changes. One test, as there is one context per
//! process.

use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use spanprof_context::process::{self, ProcessContext, Value};

fn published(process: u32) -> Option<String> {
    let found = process::read(process).expect("the process can be read")?;
    found.context.service_name().map(str::to_owned)
}

/// A context whose two ends must agree, so that a mixture of two shows.
fn numbered(number: i64) -> ProcessContext {
    let mut context = ProcessContext::for_service("numbered");
    context.resource.push(("first".to_owned(), number.into()));
    context.resource.push(("filler".to_owned(), Value::String("x".repeat(number as usize % 3000))));
    context.resource.push(("last".to_owned(), number.into()));
    context
}

#[test]
fn the_life_of_a_process_context() {
    let own = std::process::id();
    assert_eq!(published(own), None);
    process::publish(&ProcessContext::for_service("first")).unwrap();
    assert_eq!(published(own).as_deref(), Some("first"));
    let first = process::read(own).unwrap().unwrap();
    assert!(first.context.has_thread_records());
    assert!(first.context.has_sequence());
    assert_eq!(first.context.key_map().name(1), Some("messaging.destination.name"));
    process::publish(&ProcessContext::for_service("second")).unwrap();
    let second = process::read(own).unwrap().unwrap();
    assert_eq!(second.context.service_name(), Some("second"));
    assert_ne!(second.published_at, first.published_at);

    a_child_is_not_taken_for_its_parent();
    no_reader_sees_a_mixture();

    process::withdraw();
    assert_eq!(published(own), None);
    process::withdraw();
    process::publish(&ProcessContext::for_service("again")).unwrap();
    assert_eq!(published(own).as_deref(), Some("again"));
}

fn pipe() -> (std::fs::File, std::fs::File) {
    let mut ends = [0; 2];
    // SAFETY: fills two descriptors, which become the files' own.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (std::fs::File::from_raw_fd(ends[0]), std::fs::File::from_raw_fd(ends[1]))
    }
}

fn a_child_is_not_taken_for_its_parent() {
    let (mut from_child, mut to_parent) = pipe();
    let (mut from_parent, mut to_child) = pipe();
    // SAFETY: the test has one other thread (the harness's), which holds no lock that the child needs: it waits.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // Say "here", wait, publish, say "published", wait.
        let lived = to_parent.write_all(b"1").is_ok()
            && from_parent.read_exact(&mut [0]).is_ok()
            && process::publish(&ProcessContext::for_service("child")).is_ok()
            && to_parent.write_all(b"2").is_ok()
            && from_parent.read_exact(&mut [0]).is_ok();
        // SAFETY: ends the child without running the test harness in it.
        unsafe { libc::_exit(i32::from(!lived)) };
    }
    from_child.read_exact(&mut [0]).unwrap();
    assert_eq!(published(child as u32), None, "the child has not published");
    to_child.write_all(b"1").unwrap();
    from_child.read_exact(&mut [0]).unwrap();
    assert_eq!(published(child as u32).as_deref(), Some("child"));
    assert_eq!(published(std::process::id()).as_deref(), Some("second"), "the parent's is as it was");
    to_child.write_all(b"2").unwrap();
    let mut status = 0;
    // SAFETY: waits for our child.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
}

fn no_reader_sees_a_mixture() {
    let own = std::process::id();
    process::publish(&numbered(0)).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..2_000 {
                process::publish(&numbered(number)).unwrap();
            }
            done.store(true, Ordering::Release);
        });
        let mut seen = 0;
        while !done.load(Ordering::Acquire) || seen == 0 {
            // Between two updates in a row a reader may find no quiet moment; what it finds must be whole.
            if let Ok(found) = process::read(own) {
                let context = found.expect("it is never absent").context;
                let number = context.resource_attribute("first").and_then(Value::as_integer);
                assert!(number.is_some());
                assert_eq!(context.resource_attribute("last").and_then(Value::as_integer), number);
                seen += 1;
            }
        }
    });
}
